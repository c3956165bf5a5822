"""A seeded random life of the queue: lost, doubled and stale messages, dying and undead workers, replays, cancels.

Time does not pass: "the lease ran out" is a step like any other, so every interleaving is possible and each seed is the
same run each time. Afterwards the checker reads what is left and what each call had answered.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from core.job import JobState, Lane, Progress, Release
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import CRASHED, REFUSED, Kit, Running, limits, make_job, make_picture, violations

Answer = TypeVar("Answer")
STEPS_MOST = 60_000
MAX_CRASHES = 3
WORK_OF_A_TURN = {"interactive": 4.0, "batch": 1.0}
ROUNDING = 1e-6


@dataclass
class Model:
    """One run of `jobs` jobs from `seed` on an empty Redis."""

    redis: redis.Redis
    seed: int
    jobs: int = 120
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.kit = Kit(self.redis, Settings(max_crashes=MAX_CRASHES))
        self.kit.add_worker("m1", slots=1000, queue="other")
        self.store = self.kit.store
        self.ids: list[str] = []
        self.messages: list[Release] = []
        self.runs: list[Running] = []  # workers at work, some of them dead or undead
        self.poison: set[str] = set()
        self.claims: Counter[str] = Counter()
        self.unclaimed: dict[Release, tuple[str, float, float]] = {}  # releases: whose, work, cost in virtual time
        self.largest: dict[str, float] = {}  # work of a release, by whose it was
        self.accepted: Counter[str] = Counter()  # True answers of complete, by run
        self.ended: dict[str, JobState] = {}
        self.problems: list[str] = []
        self.serial = 0

    def run(self) -> list[str]:
        """Everything that is wrong afterwards; [] is right."""
        for _ in range(STEPS_MOST):
            self.rng.choices(*zip(*self._steps(), strict=True))[0]()
            self._watch()
            if not self._is_busy and len(self.ended) == len(self.ids):
                break
        for kind, name in [one.split(":", 1) for one in self.store.paused()]:
            self.store.resume(kind, name)
        return [*self.problems, *self._check(), *violations(self.redis, self.ids)]

    @property
    def _is_busy(self) -> bool:
        """Jobs are still to come."""
        return len(self.ids) < self.jobs

    def _steps(self) -> list[tuple[Callable[[], None], float]]:
        busy = self._is_busy
        return [
            (self._submit, 5.0 if busy else 0.0),
            (self._release, 5.0),
            (self._deliver, 6.0),
            (self._work, 4.0),
            (self._reap, 3.0),
            (self._run_out, 4.0),
            (self._cancel, 0.3 if busy else 0.02),
            (self._renew, 1.0),
            (self._pause, 0.1 if busy else 0.0),
            (self._resume, 0.1 if busy else 0.5),
        ]

    def _perhaps_twice(self, call: Callable[[], Answer]) -> Answer:
        """The answer got lost and the call is repeated."""
        if self.rng.random() < 0.2:
            self.counts["replayed"] += 1
            call()
        return call()

    def _submit(self) -> None:
        rng = self.rng
        tenant, count = rng.choice("abc"), rng.choice([1, 1, 1, 3])
        jobs = []
        for _ in range(count):
            self.serial += 1
            more: dict[str, Any] = {"fingerprint": f"f{rng.randrange(12)}"} if rng.random() < 0.5 else {}
            jobs.append(
                make_job(
                    id=f"{self.seed:08x}{self.serial:024x}",
                    tenant=tenant,
                    lane=rng.choice(list(Lane)),
                    cost_units=rng.choice([1, 2, 4]),
                    max_attempts=rng.choice([1, 2, 5]),
                    batch_id="b1" if count > 1 else "",
                    queue=rng.choice(["", "", "other"]),
                    **more,
                )
            )
        allowed = limits(running_jobs=rng.choice([2, 10, 1000]), weight=rng.choice([0.5, 1.0, 3.0]))
        self._perhaps_twice(lambda: self.store.submit_many(jobs, allowed))
        self.ids += [job.id for job in jobs]
        self.poison |= {job.id for job in jobs if rng.random() < 0.04}

    def _release(self) -> None:
        for message in self.store.release(self.rng.randrange(1, 6)):
            self._note_turn(message)
            if self.rng.random() < 0.08:
                self.counts["lost"] += 1
                continue
            self.messages.append(message)
            if self.rng.random() < 0.15:
                self.counts["doubled"] += 1
                self.messages.append(message)

    def _deliver(self) -> None:
        if not self.messages:
            return
        message = self.rng.choice(self.messages)
        if self.rng.random() < 0.9:  # else it stays and comes again, much later perhaps
            self.messages.remove(message)
        self.serial += 1
        # Now and then a message comes to a worker of the wrong model.
        queue = message.queue if self.rng.random() < 0.97 else "another"
        # Who dies takes a whole process along: the next claim is another process's.
        is_poison = message.job_id in self.poison
        dies = is_poison or self.rng.random() < 0.1
        token, worker = f"t{self.serial}", f"p{self.serial}" if dies else self.rng.choice(["w1", "w2"])
        lease = self._perhaps_twice(lambda: self.store.claim(message.job_id, message.epoch, token, worker, queue))
        if lease is None:
            self.counts["void"] += 1
            return
        self.claims[message.job_id] += 1
        self.unclaimed.pop(message, None)
        if dies:
            self.counts["died"] += 1
            if lease.alone and is_poison:  # others died before they had a seat
                self._perhaps_twice(lambda: self.store.take_seat(message.job_id, token))
        else:
            self.runs.append(Running(message.job_id, token))

    def _work(self) -> None:
        """Some run does something, in time or long after it lost its lease."""
        if not self.runs:
            return
        run = self.rng.choice(self.runs)
        what = self.rng.choices(
            ["complete", "progress", "shelve", "retry", "fail", "give_back"], [6, 1, 1, 1.5, 0.4, 0.7]
        )[0]
        if what == "progress":
            self.store.report_progress(run.id, run.token, Progress(stage="denoise", step=1, steps=4))
            return
        if what == "shelve":
            self._perhaps_twice(lambda: self.store.shelve(run.id, run.token))
            return
        self.runs.remove(run)
        if what == "complete":
            if self._perhaps_twice(lambda: self._complete(run.id, run.token)):
                self.accepted[run.id] += 1
            else:
                self.counts["fenced"] += 1
        elif what == "give_back":
            self._perhaps_twice(lambda: self.store.give_back(run.id, run.token))
        else:
            failure = CRASHED if what == "retry" else REFUSED
            self._perhaps_twice(lambda: self.store.fail(run.id, run.token, failure))

    def _complete(self, job_id: str, token: str) -> bool:
        return self.store.complete(job_id, token, make_picture(job_id))

    def _reap(self) -> None:
        self.kit.add_worker("m1", slots=1000, queue="other")
        self.kit.add_worker(
            "w1", slots=1000
        )  # a heartbeat: on a slow machine a life takes longer than a worker's silence
        self.redis.set(f"{PREFIX}grace", 1)
        self._perhaps_twice(self.store.reap)

    def _run_out(self) -> None:
        kinds = ["lease"] * 5 + ["rel", "rel@other", "retry", "retry"] + ["deadline"]
        kind = self.rng.choice(kinds)
        members = sorted(self.redis.zrange(PREFIX + kind, 0, -1))
        if members and (kind != "deadline" or self.rng.random() < 0.05):
            self.counts[f"{kind} ran out"] += 1
            member = self.rng.choice(members)
            self.redis.zadd(PREFIX + kind, {member: 1})
            if kind == "deadline":
                self.redis.hset(f"{PREFIX}job:{member}", "deadline", "1")

    def _cancel(self) -> None:
        if self.ids:
            job_id = self.rng.choice(self.ids)
            self._perhaps_twice(lambda: self.store.cancel(job_id))

    def _renew(self) -> None:
        if self.runs:
            self.store.renew([(run.id, run.token) for run in self.rng.sample(self.runs, min(3, len(self.runs)))])

    def _pause(self) -> None:
        self.store.pause(*self.rng.choice([("tenant", "a"), ("tenant", "b"), ("lane", "batch"), ("worker", "w1")]))

    def _resume(self) -> None:
        for one in self.store.paused():
            self.store.resume(*one.split(":", 1))

    def _watch(self) -> None:
        """An end is an end; looked at now and then, since each look costs."""
        if self.rng.random() > 0.1:
            return
        self.problems += self._unfair()
        looks = self.redis.pipeline(transaction=False)
        for job_id in self.ids:
            looks.hget(f"{PREFIX}job:{job_id}", "state")  # not the whole record: that is most of a life's time
        for job_id, told in zip(self.ids, looks.execute(), strict=True):
            if told is None:
                self.problems.append(f"{job_id} was accepted and is unknown")
                self.ended[job_id] = JobState.DEAD
                continue
            state = JobState(told)
            if job_id in self.ended and self.ended[job_id] is not state:
                self.problems.append(f"{job_id} was {self.ended[job_id]} and is {state}")
            elif state.is_terminal:
                self.ended[job_id] = state

    def _note_turn(self, message: Release) -> None:
        tenant, lane, work = self.redis.hmget(f"{PREFIX}job:{message.job_id}", "tenant", "lane", "work")
        entity = f"{tenant}|{lane}@{message.queue}".removesuffix("@")
        self.unclaimed[message] = (entity, float(work), float(work) / self._work_a_turn(entity))
        self.largest[entity] = max(float(work), self.largest.get(entity, 0.0))

    def _work_a_turn(self, entity: str) -> float:
        """What an entity may have, by its weight of now, for one step of the virtual clock."""
        tenant, _, lane = entity.partition("|")
        return float(self.redis.hget(f"{PREFIX}lim:{tenant}", "weight") or 1) * WORK_OF_A_TURN[lane.partition("@")[0]]

    def _unfair(self) -> list[str]:
        """Nobody waits out more work than one job, by his weight of now, and nobody is owed more than his releases that
        were not claimed: neither their work nor what they had cost."""
        found = []
        for queue in ("", "@other"):
            present = float(self.redis.get(f"{PREFIX}V{queue}") or 0)
            for entity, virtual in self.redis.zrange(f"{PREFIX}act{queue}", 0, -1, withscores=True):
                ahead, rate = virtual - present, self._work_a_turn(entity)
                lost = [(work, cost) for whose, work, cost in self.unclaimed.values() if whose == entity]
                work, cost = sum(one[0] for one in lost) + ROUNDING, sum(one[1] for one in lost) + ROUNDING
                if ahead * rate > self.largest.get(entity, 0.0) + ROUNDING:
                    found.append(f"{entity} waits out work of {ahead * rate}")
                if -ahead > cost or -ahead * rate > work:
                    found.append(f"{entity} is owed {-ahead}, work of {-ahead * rate}, and lost {lost}")
        return found

    def _check(self) -> list[str]:
        found = []
        if len(self.ended) < len(self.ids):
            found.append(f"{len(self.ids) - len(self.ended)} jobs never ended")
        for job_id, count in self.accepted.items():
            if count > 1:
                found.append(f"two runs of {job_id} were both accepted")
            if self.ended.get(job_id) not in (JobState.SUCCEEDED, JobState.CANCELED):
                found.append(f"{job_id} was accepted and is {self.ended.get(job_id)}")
        most = 1 + MAX_CRASHES
        found += [f"poison {one} ran {self.claims[one]} times" for one in self.poison if self.claims[one] > most]
        jobs = [job for job in self.store.get_many(self.ids) if job is not None and job.id not in self.poison]
        found += [f"{job.id} is no poison and is blamed for {job.crashes} crashes" for job in jobs if job.crashes]
        counts = self.store.get_batch("b1")
        if counts is not None and counts.open:
            found.append(f"the batch says {counts.open} are open")
        return found
