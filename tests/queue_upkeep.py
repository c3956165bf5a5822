"""A seeded life of the queue with all that is done beside drawing: pictures and records expire and are deleted, objects
go, lists are sent again, dead letters are tried again, caps change, jobs are moved. It is audited all along, no record
may ever show an object that is gone, and when all has expired nothing is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from core.image_store import object_key
from core.job import JobState, Lane, NewJob, Picture
from core.look import KeyLimits
from core.redis_client import PREFIX
from core.trash import TrashBin
from scheduler.auditor import Auditor
from scheduler.dead_letters import DeadLetters
from scheduler.tenants import Tenants
from tests.queue_kit import limits, make_job, violations
from tests.queue_model import Model

TENANTS = "abc"
#: Nothing of these may be left once everything has expired.
KEYS_OF_JOBS = (
    *("job", "ev", "fp", "ref", "fol", "mirror", "hold", "run", "held", "shelf", "tq", "jobs", "batch_jobs", "batch"),
    *("dlq", "trash", "pictures", "records"),
)
SWEEPS = 40


@dataclass
class Upkeep(Model):
    """One such life. The keys of objects that the storage holds are in `objects`."""

    made: int = 0
    objects: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    lists: list[list[NewJob]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.auditor = Auditor(self.store, pause_seconds=0.0)
        self.trash = TrashBin(self.redis, object_key)
        self.letters = DeadLetters(self.store, self.store.settings)
        self.tenants = Tenants(self.redis, self.store.settings)

    @property
    def _is_busy(self) -> bool:
        return self.made < self.jobs

    def _steps(self) -> list[tuple[Callable[[], None], float]]:
        busy = self._is_busy
        return [
            *super()._steps(),
            (self._send_list, 0.8 if busy else 0.0),
            (self._change_cap, 0.4),
            (self._requeue, 0.3 if busy else 0.0),
            (self._move, 0.3),
            (self._expire, 1.5),
            (self._delete, 1.0 if busy else 0.02),
            (self._sweep, 1.0),
            (self._audit, 0.5),
        ]

    def _submit(self) -> None:
        before = len(self.ids)
        super()._submit()
        self.made += len(self.ids) - before

    def _send_list(self) -> None:
        """A list longer than one call, or an earlier one again, some of its rows deleted meanwhile."""
        if not self.lists or self.rng.random() < 0.5:
            tenant, name = self.rng.choice(TENANTS), f"list{self.serial}"
            self.lists.append([self._row(tenant, name, number) for number in range(self.rng.randrange(3, 12))])
        jobs = self.rng.choice(self.lists[-3:])
        key = KeyLimits(id=self.rng.choice("xy"), daily_units=10**6) if self.rng.random() < 0.5 else None
        for one in self._perhaps_twice(lambda: self.store.submit_many(jobs, limits(running_jobs=10, key=key))):
            self._know(one.job_id)

    def _know(self, job_id: str) -> None:
        """A list sent again, or a letter tried again, names jobs that are known, and such as were removed."""
        if job_id not in self.ids and job_id not in self.removed:
            self.ids.append(job_id)
            self.made += 1

    def _row(self, tenant: str, name: str, number: int) -> NewJob:
        self.serial += 1
        more = {"fingerprint": f"f{self.rng.randrange(12)}"} if self.rng.random() < 0.5 else {}
        return make_job(
            id=f"{self.seed:08x}{self.serial:024x}",
            tenant=tenant,
            lane=Lane.BATCH,
            batch_id=name,
            idempotency_key=f"{name}#{number}",
            body_hash="h",
            retention_seconds=self.rng.choice([60, 86_400]),
            **more,
        )

    def _work(self) -> None:
        """A picture is stored before its end is told, and only under a lease."""
        for run in self.runs:
            job = self.store.get(run.id)
            token = self.redis.hget(f"{PREFIX}job:{run.id}", "token")
            if job is not None and job.state is JobState.RUNNING and token == run.token and self.rng.random() < 0.3:
                self.objects.add(object_key(job.tenant, job.id, job.created_ms))
        super()._work()

    def _complete(self, job_id: str, token: str) -> bool:
        job = self.store.get(job_id)
        if job is None:
            return False
        key = object_key(job.tenant, job.id, job.created_ms)
        if key not in self.objects:
            return False  # nothing was stored: its worker died before
        picture = Picture(key=key, sha256=job_id * 2, width=512, height=512, size_bytes=1000)
        return self.store.complete(job_id, token, picture)

    def _change_cap(self) -> None:
        most = self.rng.choice([0, 1, 3, 1000]) if self._is_busy else 1000
        self.tenants.change(self.rng.choice(TENANTS), {"running_jobs": most})

    def _requeue(self) -> None:
        letters = self.letters.list_page(limit=50).jobs
        if letters:
            letter = self.rng.choice(letters)
            again = self._perhaps_twice(lambda: self.letters.requeue(letter.id, self.tenants.get(letter.tenant)))
            if again is not None:
                self._know(again.job_id)

    def _move(self) -> None:
        if self.ids:
            self.store.move(self.rng.choice(self.ids), to_front=self.rng.random() < 0.5)

    def _expire(self) -> None:
        """The time of some picture, record or object is over."""
        kind = self.rng.choice(["pictures", "pictures", "records", "trash"])
        members = sorted(self.redis.zrange(PREFIX + kind, 0, -1))
        if members:
            self._let_expire(kind, self.rng.choice(members))

    def _let_expire(self, kind: str, member: str) -> None:
        self.counts[f"{kind} expired"] += 1
        self.redis.zadd(PREFIX + kind, {member: 1})
        if kind == "records":  # never before its picture
            self.redis.zadd(f"{PREFIX}pictures", {member: 1}, xx=True)
        if kind != "trash":
            self.redis.hset(f"{PREFIX}job:{member}", "expires", "1")

    def _delete(self) -> None:
        ended = [job_id for job_id in self.ids if self.ended.get(job_id)]
        if ended:
            job_id = self.rng.choice(ended)
            if self._perhaps_twice(lambda: self.store.remove(job_id)):
                self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        self.counts["removed"] += 1
        self.removed.add(job_id)
        if job_id in self.ids:
            self.ids.remove(job_id)
        self.ended.pop(job_id, None)
        self.accepted.pop(job_id, None)
        self.poison.discard(job_id)

    def _sweep(self) -> None:
        """As scheduler/retention.py does, with a set in the storage's place."""
        for job_id in self.store.expire(50)[1]:
            if self.store.remove(job_id):
                self._forget(job_id)
        for one in self.trash.due(50):
            self.objects.discard(one.key)
            self.trash.forget([one])

    def _audit(self) -> None:
        report = self.auditor.audit()
        if not report.is_clean:
            self.problems.append(f"the audit tells {report}")

    def _watch(self) -> None:
        super()._watch()
        if self.rng.random() > 0.05:
            return
        for job in self.store.get_many(self.ids):
            if job is not None and job.picture and not job.picture_removed and job.picture.key not in self.objects:
                self.problems.append(f"{job.id} shows an object that is gone")

    def _check(self) -> list[str]:
        return [*super()._check(), *violations(self.redis, self.ids), *self._what_is_left()]

    def _what_is_left(self) -> list[str]:
        """Once the time of everything is over."""
        self._audit()
        for _ in range(SWEEPS):
            for kind in ("pictures", "records", "trash"):
                for member in self.redis.zrange(PREFIX + kind, 0, -1):
                    self._let_expire(kind, member)
            self._sweep()
        found = [f"{key} lies in the storage for ever" for key in self.objects]
        kinds = Counter(key.removeprefix(PREFIX).partition(":")[0] for key in self.redis.scan_iter(f"{PREFIX}*"))
        return found + [f"{kinds[kind]} keys of {kind} are left" for kind in KEYS_OF_JOBS if kinds[kind]]
