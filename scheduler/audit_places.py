"""Jobs and what holds them: each job where its state says, and nothing counted or kept that is no such job.

Each look is one short script, so a running service shows no difference that is none.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.job import JobState
from core.job_store import TOMBSTONE_SECONDS, JobStore
from core.redis_client import PREFIX, milliseconds, redis_errors
from core.scripts import Scripts
from scheduler.audit_usage import UNREADABLE, number_in

PAGE = 500
ASKED_AT_ONCE = 50
COUNTS = ("total", JobState.SUCCEEDED.value, JobState.DEAD.value, JobState.CANCELED.value)
BATCH_TRIES = 3
STRAYS = {
    "run": "counts to the cap of {name} but does not run",
    "held": "takes a seat of {name} but does not run there",
    "shelf": "is no picture that waits with {name}",
}


class PlaceAudit:
    """Looks, and puts right if `repair`. Every method raises RedisUnavailable."""

    def __init__(self, store: JobStore, stop: threading.Event, pause_seconds: float) -> None:
        self._store = store
        self._redis = store.redis
        self._scripts = Scripts(store.redis)
        self._stop = stop
        self._pause_seconds = pause_seconds

    def jobs(self, *, repair: bool) -> tuple[int, dict[str, str], dict[str, str]]:
        """How many jobs there are, what is wrong with which, and which can not be read: these are left alone."""
        jobs, found, unclear = 0, dict[str, str](), dict[str, str]()
        for ids in self._pages("job:*", ASKED_AT_ONCE):
            jobs += len(ids)
            answers = self._scripts.run_all([("audit_job", (job_id, int(repair))) for job_id in ids])
            found |= {job_id: str(wrong) for job_id, wrong in zip(ids, answers, strict=True) if wrong}
            unclear |= {job_id: found.pop(job_id) for job_id in ids if found.get(job_id) == UNREADABLE}
            for job_id in self._letters(ids, repair=repair):
                found[job_id] = ", ".join([*filter(None, [found.get(job_id)]), "dead but no dead letter"])
        return jobs, found, unclear

    def _letters(self, ids: Sequence[str], *, repair: bool) -> list[str]:
        """Dead jobs that are missing among the dead letters. Whether one was tried again is known for a month."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hmget(f"{PREFIX}job:{job_id}", ["state", "finished"])
            pipeline.time()
            *rows, now = pipeline.execute()
        since = milliseconds(now) - TOMBSTONE_SECONDS * 1000
        dead = [
            job_id
            for job_id, (state, finished) in zip(ids, rows, strict=True)
            if state == JobState.DEAD and (number_in(finished) or 0) > since
        ]
        if not dead:
            return []
        pairs = [value for job_id in dead for value in (job_id, _next_try(job_id))]
        return [str(one) for one in self._scripts.run("audit_letters", int(repair), *pairs)]

    def members(self, *, repair: bool) -> dict[str, str]:
        """Jobs that take a place of their tenant's cap, a seat or a shelf of a worker, and should not."""
        found: dict[str, str] = {}
        for kind, words in STRAYS.items():
            for name in self._names(f"{kind}:*"):
                for ids in self._members(kind, name):
                    strays = self._scripts.run("audit_members", int(repair), kind, name, *ids)
                    found |= dict.fromkeys(map(str, strays), words.format(name=name))
        return found

    def _members(self, kind: str, name: str) -> Iterator[list[str]]:
        key, cursor = f"{PREFIX}{kind}:{name}", 0
        while not self._stop.is_set():
            with redis_errors():
                scan: Any = self._redis.zscan if kind == "run" else self._redis.sscan
                cursor, page = scan(key, cursor, count=ASKED_AT_ONCE)
            members = [str(one[0]) if kind == "run" else str(one) for one in page]
            yield from (members[at : at + ASKED_AT_ONCE] for at in range(0, len(members), ASKED_AT_ONCE))
            if int(cursor) == 0:
                return

    def parked(self, *, repair: bool) -> list[str]:
        """Queues that stand aside for no reason. A cap that is just being changed is over at a second look."""
        with redis_errors():
            parked = sorted(str(one) for one in self._redis.smembers(f"{PREFIX}parked"))
        if found := self._idle(parked, repair=False):
            self._stop.wait(self._pause_seconds)
            return self._idle(found, repair=repair)
        return []

    def _idle(self, entities: Sequence[str], *, repair: bool) -> list[str]:
        found: list[str] = []
        for at in range(0, len(entities), ASKED_AT_ONCE):
            found += map(str, self._scripts.run("audit_parked", int(repair), *entities[at : at + ASKED_AT_ONCE]))
        return found

    def holds(self, *, repair: bool) -> list[str]:
        """Lists that would keep units of their tenants for ever."""
        lists = list(self._names("hold:*"))
        return [str(one) for one in self._scripts.run("audit_holds", int(repair), *lists)] if lists else []

    def batches(self, *, repair: bool) -> tuple[dict[str, float], dict[str, str]]:
        """Counts of batches that are too high, by how much; and batches that nobody can put right for sure."""
        found, unclear = dict[str, float](), dict[str, str]()
        for batch in self._names("batch:*"):
            if wrong := self._batch(batch, repair=repair):
                is_certain, counts = wrong
                off = {f"{name} of {batch}": float(units) for name, units in counts.items() if units}
                found |= off if is_certain else {}
                unclear |= {} if is_certain else dict.fromkeys(off or [batch], "does not fit its rows")
        return found, unclear

    def _batch(self, batch: str, *, repair: bool) -> tuple[bool, dict[str, int]] | None:
        """None if it is in order, or changes all the time. What a row of it does changes one of its counts."""
        for _ in range(BATCH_TRIES):
            before = self._counts(batch)
            states, size = self._states(batch)
            if not before or self._counts(batch) != before:
                continue
            stored = {name: int(before.get(name) or 0) for name in COUNTS}
            right = _right_counts(stored, states, size)
            if right == stored:
                return None
            certain = right is not None
            told = right or {**stored, "total": sum(stored[name] for name in COUNTS[1:]) + _open(states)}
            if repair and right is not None:
                values = ([before.get(name, "") for name in COUNTS], [right[name] for name in COUNTS])
                self._scripts.run("audit_batch", batch, size, *values[0], *values[1])
            return certain, {name: stored[name] - told[name] for name in COUNTS}
        return None

    def _counts(self, batch: str) -> Mapping[str, str]:
        with redis_errors():
            return self._redis.hgetall(f"{PREFIX}batch:{batch}")  # type: ignore[return-value]

    def _states(self, batch: str) -> tuple[Counter[str], int]:
        """The states of the jobs that it still has, and how many these are."""
        with redis_errors():
            ids = [str(one) for one in self._redis.zrange(f"{PREFIX}batch_jobs:{batch}", 0, -1)]
            states: Counter[str] = Counter()
            for at in range(0, len(ids), PAGE):
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in ids[at : at + PAGE]:
                    pipeline.hget(f"{PREFIX}job:{job_id}", "state")
                states.update(str(state) for state in pipeline.execute() if state)
        return states, len(ids)

    def _names(self, pattern: str) -> Iterator[str]:
        prefix = PREFIX + pattern.removesuffix("*")
        for page in self._pages(pattern, PAGE, prefix):
            yield from page

    def _pages(self, pattern: str, size: int, prefix: str = f"{PREFIX}job:") -> Iterator[list[str]]:
        page: list[str] = []
        with redis_errors():
            for key in self._redis.scan_iter(PREFIX + pattern, count=PAGE):
                if self._stop.is_set():
                    return
                page.append(str(key).removeprefix(prefix))
                if len(page) == size:
                    yield page
                    page = []
        if page:
            yield page


def _next_try(job_id: str) -> str:
    """The id of the job that tries a dead letter again (scheduler/dead_letters.py)."""
    return hashlib.sha256(f"requeue:{job_id}".encode()).hexdigest()[:32]


def _open(states: Mapping[str, int]) -> int:
    return sum(states.values()) - sum(states.get(name, 0) for name in COUNTS[1:])


def _right_counts(stored: Mapping[str, int], states: Mapping[str, int], size: int) -> dict[str, int] | None:
    """What the counts must be; None where that is not certain. Ended jobs may have been removed, open ones never."""
    ended = {name: states.get(name, 0) for name in COUNTS[1:]}
    is_balanced = stored["total"] - sum(stored[name] for name in ended) == _open(states)
    if is_balanced and all(stored[name] >= many for name, many in ended.items()):
        return dict(stored)
    recounted = {"total": size, **ended}
    off = [name for name in COUNTS if stored[name] != recounted[name]]
    return recounted if off == ["total"] or "total" not in off else None
