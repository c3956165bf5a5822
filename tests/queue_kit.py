"""What every test of the queue needs: jobs that say only what matters, and a way to let time run out at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from core.job import Failure, GenerationRequest, Job, JobState, Lane, NewJob, Picture, Release
from core.job_store import JobStore, Submitted, TenantLimits, WorkerInfo
from core.redis_client import PREFIX
from core.scripts import first_line, script_texts
from core.settings import Settings

GENEROUS = TenantLimits(
    daily_units=10**9, burst_per_second=0.0, burst=1, queued_jobs=10**6, running_jobs=10**6, weight=1.0
)
CRASHED = Failure(code="engine_failed", message="The engine failed.", retryable=True)
REFUSED = Failure(code="invalid_prompt", message="Nothing to draw.", retryable=False)


def make_job(**more: Any) -> NewJob:
    """A job of tenant `a`; only what matters is said."""
    prompt = more.pop("prompt", "a red mug")
    request = GenerationRequest(prompt=prompt, width=512, height=512, seed=1, preset="turbo", model="tiny")
    return NewJob(**{"id": secrets.token_hex(16), "tenant": "a", "lane": Lane.INTERACTIVE, "request": request, **more})


def script_sha(name: str) -> bytes:
    """What a request to run the script holds."""
    return hashlib.sha1((first_line(name) + script_texts()[name]).encode()).hexdigest().encode()


def make_picture(job_id: str) -> Picture:
    return Picture(key=f"a/2026-11/{job_id}.png", sha256=job_id * 2, width=512, height=512, size_bytes=1000)


def limits(**more: Any) -> TenantLimits:
    return replace(GENEROUS, **more)


@dataclass(frozen=True)
class Running:
    """A claimed job, as its worker knows it."""

    id: str
    token: str


@dataclass
class Kit:
    """A store on an empty Redis with one worker of many seats."""

    redis: redis.Redis
    settings: Settings = field(default_factory=Settings)
    _tokens: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.store = JobStore(self.redis, self.settings)
        self.add_worker("w1", slots=1000)

    def add_worker(self, name: str, slots: int, **more: Any) -> None:
        self.store.heartbeat(WorkerInfo(name=name, slots=slots, **more))

    def submit(self, *, allowed: TenantLimits = GENEROUS, **more: Any) -> Submitted:
        return self.store.submit(make_job(**more), allowed)

    def queued(self, **more: Any) -> str:
        return self.submit(**more).job_id

    def released(self, **more: Any) -> Release:
        job_id = self.queued(**more)
        return next(one for one in self.store.release(1000) if one.job_id == job_id)

    def running(self, *, worker: str = "w1", **more: Any) -> Running:
        return self.claim(self.released(**more), worker=worker)

    def claim(self, release: Release, *, worker: str = "w1") -> Running:
        token = f"token-{next(self._tokens)}"
        lease = self.store.claim(release.job_id, release.epoch, token, worker)
        assert lease is not None
        return Running(release.job_id, token)

    def claim_again(self, job_id: str) -> Running:
        """The next run of a job that is queued."""
        return self.claim(next(one for one in self.store.release(1000) if one.job_id == job_id))

    def ride_alone(self, job_id: str) -> Running:
        """As `claim_again`; and it has its worker's engine for itself."""
        run = self.claim_again(job_id)
        assert self.store.take_seat(run.id, run.token)
        return run

    def complete(self, run: Running) -> bool:
        return self.store.complete(run.id, run.token, make_picture(run.id))

    def succeeded(self, **more: Any) -> str:
        run = self.running(**more)
        assert self.complete(run)
        return run.id

    def dead(self, **more: Any) -> str:
        run = self.running(**more)
        assert self.store.fail(run.id, run.token, REFUSED) is JobState.DEAD
        return run.id

    def waiting_to_retry(self, **more: Any) -> Running:
        run = self.running(**more)
        assert self.store.fail(run.id, run.token, CRASHED) is JobState.RETRY
        return run

    def job(self, job_id: str) -> Job:
        job = self.store.get(job_id)
        assert job is not None
        return job

    def state(self, job_id: str) -> JobState:
        return self.job(job_id).state

    def let_run_out(self, kind: str, job_id: str) -> None:
        """As if the lease, release, retry wait, deadline, picture or record of the job were due long ago."""
        assert self.redis.zscore(PREFIX + kind, job_id) is not None, f"{job_id} is not in {kind}"
        self.redis.zadd(PREFIX + kind, {job_id: 1})

    def ledger(self, job_id: str) -> list[str]:
        return [entry["kind"] for _, entry in self.redis.xrange(f"{PREFIX}ledger") if entry["job"] == job_id]

    def use(self, tenant: str = "a") -> dict[str, int]:
        total: Counter[str] = Counter()
        for key in self.redis.scan_iter(f"{PREFIX}use:{tenant}:*"):
            total.update({name: int(value) for name, value in self.redis.hgetall(key).items()})
        return dict(total)

    def events(self, job_id: str) -> list[tuple[str, str]]:
        return [(entry["type"], entry["data"]) for _, entry in self.redis.xrange(f"{PREFIX}ev:{job_id}")]

    def snapshot(self) -> dict[str, Any]:
        """Everything that is stored, to show that a call changed nothing."""
        readers = {
            "string": self.redis.get,
            "hash": self.redis.hgetall,
            "set": lambda key: sorted(self.redis.smembers(key)),
            "zset": lambda key: self.redis.zrange(key, 0, -1, withscores=True),
            "list": lambda key: self.redis.lrange(key, 0, -1),
            "stream": self.redis.xrange,
        }
        return {key: readers[self.redis.type(key)](key) for key in sorted(self.redis.scan_iter(f"{PREFIX}*"))}


def purses(entry: dict[str, str]) -> list[str]:
    """Whose units are counted: the tenant's, and those of a key with limits of its own."""
    return [entry["tenant"], *([f"{entry['tenant']}/{entry['key']}"] if entry.get("key") else [])]


def _object_of(picture: str | None) -> str | None:
    """The key of a picture's object; None of one that can not be read."""
    try:
        return str(json.loads(picture or "")["key"] or "")
    except (ValueError, TypeError, KeyError):
        return None


def _wrong_bills(client: redis.Redis) -> list[str]:
    """Each picture that was drawn is paid by one of those who were shown it (it may be removed), and by no other."""
    costs = {entry["job"]: int(entry["cost"]) for _, entry in client.xrange(f"{PREFIX}ledger")}
    least = 1 if all(client.exists(f"{PREFIX}job:{job_id}") for job_id in costs) else 0
    payers: dict[str, list[str]] = {}
    for key in client.scan_iter(f"{PREFIX}job:*"):
        state, picture = client.hmget(key, "state", "picture")
        job_id, shown = key.removeprefix(f"{PREFIX}job:"), _object_of(picture)
        if state == "SUCCEEDED" and shown:
            payers.setdefault(shown, []).extend([job_id] * (costs.get(job_id, 0) > 0))
    return [f"{picture} is paid by {who}" for picture, who in payers.items() if not least <= len(who) <= 1]


def violations(client: redis.Redis, job_ids: list[str], *, is_mixed: bool = False) -> list[str]:
    """The invariants at rest: every job ended and settled once, nothing reserved, nothing held, no counter off."""
    found: list[str] = []
    ledger: dict[str, list[str]] = {}
    for _, entry in client.xrange(f"{PREFIX}ledger"):
        ledger.setdefault(entry["job"], []).append(entry["kind"])
    for job_id in job_ids:
        state, kinds = client.hget(f"{PREFIX}job:{job_id}", "state"), ledger.get(job_id, [])
        if state not in ("SUCCEEDED", "DEAD", "CANCELED"):
            found.append(f"{job_id} has not ended: {state}")
        if kinds != ["charge" if state == "SUCCEEDED" else "refund"]:
            found.append(f"{job_id} is {state} but settled as {kinds}")
    if not is_mixed:  # the release before charges each picture that is shown
        found += _wrong_bills(client)
    for name in ("rel", "rel@other", "lease", "retry", "deadline", "act"):
        members = client.zrange(PREFIX + name, 0, -1)
        if members and name != "act":
            found.append(f"{name} still holds {members[:3]}")
    found += [f"nq of {lane} is {count}" for lane, count in client.hgetall(f"{PREFIX}nq").items() if int(count)]
    for pattern in ("run:*", "held:*", "shelf:*", "fol:*", "mirror*", "tq:*", "parked"):
        found += [f"{key} is left" for key in client.scan_iter(PREFIX + pattern)]
    found += [f"queued_work of {key}" for key in client.hgetall(f"{PREFIX}queued_work")]
    charged: Counter[str] = Counter()
    for _, entry in client.xrange(f"{PREFIX}ledger"):
        for purse in purses(entry):
            charged[f"{purse}:{entry['day']}"] += int(entry["cost"]) * (entry["kind"] == "charge")
    held: Counter[str] = Counter()  # by lists that are still coming in
    for key in client.scan_iter(f"{PREFIX}hold:*"):
        kept = client.hgetall(key)
        for purse in purses(kept):
            held[f"{purse}:{kept['day']}"] += int(kept["units"])
        if client.zscore(f"{PREFIX}holds", key.removeprefix(f"{PREFIX}hold:")) is None:
            found.append(f"{key} never runs out")
    for key in client.scan_iter(f"{PREFIX}use:*"):
        use = client.hgetall(key)
        if int(use.get("reserved", 0)) != held[key.removeprefix(f"{PREFIX}use:")]:
            found.append(f"{key} reserves {use.get('reserved')}, open holds {held[key.removeprefix(f'{PREFIX}use:')]}")
        if int(use.get("used", 0)) != charged[key.removeprefix(f"{PREFIX}use:")]:
            found.append(f"{key} says {use.get('used')} used, the ledger {charged[key.removeprefix(f'{PREFIX}use:')]}")
    return found
