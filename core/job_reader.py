"""The reading half of the job store: jobs, lists, batches, workers, places and counts. Nothing here changes a job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import redis

from core.aside import ASIDE, put_aside
from core.batch_store import BatchCounts
from core.crowd import Crowds, look_at
from core.job import Job, JobState, Lane
from core.job_pages import Fits, IdPage, JobPage, JobPages
from core.job_record import jobs_from
from core.look import WAITING, LimitUse, Look, QueuePlace, TenantLimits, place_from, usage_arguments, use_from
from core.model_queues import ModelDepth, model_depths
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts
from core.settings import Settings
from core.workers import WorkerInfo

#: Of a lease: a worker that was silent for this long counts as gone when jobs are released.
LIVE_SHARE_OF_LEASE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How full the service is, as plain numbers for metrics and readiness."""

    waiting: Mapping[str, int] = field(default_factory=dict)  # lane -> jobs in a queue
    retrying: int = 0
    released: int = 0
    running: int = 0
    oldest_waiting_seconds: float = 0.0
    dead_letters: int = 0
    workers: int = 0
    worker_slots: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)  # SUCCEEDED, DEAD, CANCELED -> jobs since ever
    run_seconds: float = 0.0  # of the default model, as in ModelDepth
    gap_seconds: float = 0.0
    models: Mapping[str, ModelDepth] = field(default_factory=dict)  # as in NewJob.queue; "" = the default one


#: As in shared_records.lua.
STAGE_BOUNDS_MS = (50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000, 7200000)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long one stage of jobs took since ever: jobs up to each of STAGE_BOUNDS_MS, all jobs last; seconds in all."""

    up_to: Sequence[int]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallies:
    """What the service counted since ever."""

    dedup_hits: int = 0  # jobs that share another's picture
    webhook_attempts: Mapping[str, int] = field(default_factory=dict)  # how it ended -> attempts
    put_aside: Mapping[str, int] = field(default_factory=dict)  # one of core.aside.ASIDE_KINDS -> how often
    stages: Mapping[str, StageTimes] = field(default_factory=dict)
    audit: Mapping[str, int] = field(default_factory=dict)  # of the last audit: kind -> differences; `at`, server ms


class JobReader:
    """Reads what the scripts wrote. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self.redis = client
        self.settings = settings
        self._scripts = Scripts(client)
        self._pages = JobPages(client, self.get_many)
        self._crowds = Crowds(lambda model: look_at(lambda portion: self._scripts.run("crowd", model, portion)))

    @property
    def live_ms(self) -> int:
        """How long a silent worker still counts as live."""
        return round(self.settings.lease_seconds * 1000 * LIVE_SHARE_OF_LEASE)

    def get(self, job_id: str) -> Job | None:
        """The job, or None if there is no record of it (see `was_removed`)."""
        return self.get_many([job_id])[0]

    def get_many(self, ids: Sequence[str]) -> list[Job | None]:
        """As many answers as ids, in their order."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hgetall(f"{PREFIX}job:{job_id}")
            pipeline.time()
            *rows, now = pipeline.execute()
        return self._jobs_from(ids, rows, now)

    def _jobs_from(
        self, ids: Sequence[str], rows: Sequence[Mapping[str, str]], now: tuple[int, int]
    ) -> list[Job | None]:
        return jobs_from(ids, rows, now, lambda job_id, error: put_aside(self.redis, "job", job_id, error))

    def ended_among(self, ids: Sequence[str]) -> set[str]:
        """Those that ended or have no record."""
        return {job_id for job_id, job in zip(ids, self.get_many(ids), strict=True) if not job or job.state.is_terminal}

    def was_removed(self, job_id: str) -> bool:
        """Whether the job existed and its record was removed (410), as opposed to never known (404)."""
        with redis_errors():
            return bool(self.redis.exists(f"{PREFIX}tombstone:{job_id}"))

    def list_page(
        self,
        tenant: str,
        *,
        states: Collection[JobState] | None = None,
        fits: Fits = lambda job: True,
        batch_id: str | None = None,
        after: str = "",
        limit: int = 20,
    ) -> JobPage:
        """The tenant's jobs, newest first, that are in `states` and `fit`, behind the cursor of the page before.

        Raises InvalidRequest naming the cursor if it is none.
        """
        key = f"{PREFIX}batch_jobs:{batch_id}" if batch_id else f"{PREFIX}jobs:{tenant}"
        return self._pages.of_tenant(key, tenant, states=states, fits=fits, after=after, limit=limit)

    def list_jobs(
        self,
        tenant: str,
        *,
        states: Collection[JobState] | None = None,
        batch_id: str | None = None,
        before: str = "",
        limit: int = 20,
    ) -> list[Job]:
        """As `list_page`, however many records that takes."""
        found: list[Job] = []
        while len(found) < limit:
            left = limit - len(found)
            page = self.list_page(tenant, states=states, batch_id=batch_id, after=before, limit=left)
            found, before = found + page.jobs, page.cursor
            if not before:
                break
        return found

    def list_ids(self, tenant: str, *, states: Collection[JobState], after: str = "") -> IdPage:
        """The ids of the tenant's jobs in `states` among the next records behind a cursor, newest first."""
        return self._pages.ids(f"{PREFIX}jobs:{tenant}", states=states, after=after)

    def get_batch(self, batch_id: str) -> BatchCounts | None:
        """The batch's counts, or None if unknown."""
        with redis_errors():
            pipeline: Any = self.redis.pipeline().hgetall(f"{PREFIX}batch:{batch_id}")
            row, is_held = pipeline.exists(f"{PREFIX}hold:{batch_id}").execute()
        if not row:
            return None
        again = int(row.get("again", 0))
        total = int(row.get("total", 0)) - again
        return BatchCounts(
            id=batch_id,
            tenant=row.get("tenant", ""),
            total=total,
            succeeded=int(row.get(JobState.SUCCEEDED, 0)),
            dead=max(0, int(row.get(JobState.DEAD, 0)) - again),
            canceled=int(row.get(JobState.CANCELED, 0)),
            missing=max(0, int(row.get("expected", total)) - total),
            is_coming_in=bool(is_held),
            again=again,
        )

    def batch_job_ids(self, batch_id: str) -> list[str]:
        """The batch's jobs in the order of submission."""
        with redis_errors():
            return [str(one) for one in self.redis.zrange(f"{PREFIX}batch_jobs:{batch_id}", 0, -1)]

    def queue_place(self, job: Job) -> QueuePlace | None:
        """Position and honest ETA of a waiting job, from virtual time order and the measured pace; else None."""
        return self.queue_places([job]).get(job.id)

    def queue_places(self, jobs: Iterable[Job]) -> dict[str, QueuePlace]:
        """The places of those of the jobs that wait, in one call."""
        waiting = [job for job in jobs if job.state in WAITING]
        if not waiting:
            return {}
        answers = self._scripts.run_all([("place", (job.id, self.live_ms)) for job in waiting])
        told = [(job, answer) for job, answer in zip(waiting, answers, strict=True) if answer]
        return {job.id: place_from(answer, self._crowds) for job, answer in told}

    def with_places(self, ids: Sequence[str]) -> tuple[list[Job | None], dict[str, QueuePlace]]:
        """The jobs with these ids, and the places of those that wait: one call."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            self._ask_with_places(pipeline, ids)
            answers = pipeline.execute(raise_on_error=False)
        return self._jobs_and_places(answers, ids)

    def look(self, ids: Sequence[str], tenant: str, limits: TenantLimits) -> Look:
        """As `with_places`, and what `tenant` has used of `limits`: one call."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            self._ask_for_look(pipeline, ids, tenant, limits)
            answers = pipeline.execute(raise_on_error=False)
        return self._look_from(answers, ids, tenant, limits)

    def _ask_for_look(self, pipeline: Any, ids: Sequence[str], tenant: str, limits: TenantLimits) -> None:
        self._scripts.queue(pipeline, "usage", *usage_arguments(tenant, limits))
        self._ask_with_places(pipeline, ids)

    def _look_from(self, answers: Sequence[Any], ids: Sequence[str], tenant: str, limits: TenantLimits) -> Look:
        use = self._scripts.settled(answers[0], "usage", *usage_arguments(tenant, limits))
        jobs, places = self._jobs_and_places(answers[1:], ids)
        return Look(jobs=jobs, use=use_from(use, limits), places=places)

    def _ask_with_places(self, pipeline: Any, ids: Sequence[str]) -> None:
        for job_id in ids:
            pipeline.hgetall(f"{PREFIX}job:{job_id}")
        pipeline.time()
        for job_id in ids:
            self._scripts.queue(pipeline, "place", job_id, self.live_ms)

    def _jobs_and_places(
        self, answers: Sequence[Any], ids: Sequence[str]
    ) -> tuple[list[Job | None], dict[str, QueuePlace]]:
        *rows, now = answers[: len(ids) + 1]
        with redis_errors():
            for trouble in (answer for answer in (*rows, now) if isinstance(answer, Exception)):
                raise trouble
        jobs = self._jobs_from(ids, rows, now)
        places: dict[str, QueuePlace] = {}
        for job, answer in zip(jobs, answers[len(ids) + 1 :], strict=True):
            if job is None or job.state not in WAITING:
                continue
            if found := self._scripts.settled(answer, "place", job.id, self.live_ms):
                places[job.id] = place_from(found, self._crowds)
        return jobs, places

    def usage(self, tenant: str, limits: TenantLimits) -> LimitUse:
        """What the tenant has used of `limits` by now."""
        return use_from(self._scripts.run("usage", *usage_arguments(tenant, limits)), limits)

    def is_paused(self, kind: str, name: str) -> bool:
        """Whether an operator paused this `lane`, `tenant` or `worker`."""
        with redis_errors():
            return bool(self.redis.sismember(f"{PREFIX}paused", f"{kind}:{name}"))

    def live_workers(self) -> list[WorkerInfo]:
        """Workers that were heard of lately, by the server's clock."""
        with redis_errors():
            seconds, microseconds = self.redis.time()
            now_ms = int(seconds) * 1000 + int(microseconds) // 1000
            names: list[tuple[str, float]] = self.redis.zrangebyscore(  # type: ignore[assignment]
                f"{PREFIX}workers", now_ms - self.live_ms, "+inf", withscores=True
            )
            paused = self.redis.smembers(f"{PREFIX}paused") if names else set()
            pipeline = self.redis.pipeline(transaction=False)
            for name, _ in names:
                pipeline.hgetall(f"{PREFIX}worker:{name}")
            rows = pipeline.execute()
        return [
            WorkerInfo.from_fields(name, heartbeat, row, f"worker:{name}" in paused)
            for (name, heartbeat), row in zip(names, rows, strict=True)
        ]

    def depth(self) -> QueueDepth:
        """One reading of the whole queue, cheap enough for every scrape."""
        workers = self.live_workers()
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.hgetall(f"{PREFIX}nq")
            for name in ("retry", "lease", "dlq"):
                pipeline.zcard(PREFIX + name)
            pipeline.hgetall(f"{PREFIX}outcomes")
            waiting, retry, lease, dlq, outcomes = pipeline.execute()
            models = model_depths(self.redis, self._waits(), workers)
            oldest = self._oldest_waiting_seconds(self.entities())
        return QueueDepth(
            waiting={lane.value: int(waiting.get(lane.value, 0)) for lane in Lane},
            retrying=retry,
            released=sum(one.released for one in models.values()),
            running=lease,
            oldest_waiting_seconds=oldest,
            dead_letters=dlq,
            workers=len(workers),
            worker_slots=sum(worker.slots for worker in workers),
            outcomes={name: int(count) for name, count in outcomes.items()},
            run_seconds=models[""].run_seconds,
            gap_seconds=models[""].gap_seconds,
            models=models,
        )

    def _waits(self) -> dict[str, tuple[int, int]]:
        """Model -> jobs in its queue, and how many of them a pause holds back, seen in one step."""
        told = self._scripts.run("waiting")
        rows = zip(told[::3], told[1::3], told[2::3], strict=True)
        return {str(model): (int(waiting), int(held_back)) for model, waiting, held_back in rows}

    def tallies(self) -> Tallies:
        """One reading of the counters, the same from every process."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            for name in (f"{PREFIX}counts", f"{PREFIX}hook_attempts", f"{PREFIX}stage_times", f"{PREFIX}audit", ASIDE):
                pipeline.hgetall(name)
            counts, attempts, times, audit, aside = pipeline.execute()
        return Tallies(
            dedup_hits=int(counts.get("dedup_hits", 0)),
            webhook_attempts={outcome: int(count) for outcome, count in attempts.items()},
            put_aside={kind: int(count) for kind, count in aside.items()},
            stages={stage: _stage_times(stage, times) for stage in sorted({name.partition("|")[0] for name in times})},
            audit={kind: int(count) for kind, count in audit.items()},
        )

    def model_suffixes(self) -> list[str]:
        """What is put behind `act`, `rel` and `pace` for each model: "" for the default one, first."""
        with redis_errors():
            return ["", *sorted(f"@{name}" for name in map(str, self.redis.smembers(f"{PREFIX}models")))]

    def entities(self) -> set[str]:
        """Every (tenant, lane, model) that has or lately had jobs waiting: tenant|lane, tenant|lane@model."""
        suffixes = self.model_suffixes()
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=False)
            for suffix in suffixes:
                pipeline.zrange(f"{PREFIX}act{suffix}", 0, -1)
            pipeline.smembers(f"{PREFIX}parked")
            return {str(entity) for part in pipeline.execute() for entity in part}

    def _oldest_waiting_seconds(self, entities: Iterable[str]) -> float:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.time()
        for entity in entities:
            pipeline.zrange(f"{PREFIX}tq:{entity}", 0, 0, withscores=True)
        (seconds, microseconds), *heads = pipeline.execute()
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        for head in heads:
            for job_id, _ in head:  # its score is its place, which a priority or an operator moved
                pipeline.hget(f"{PREFIX}job:{job_id}", "created")
        oldest = min((float(created) for created in pipeline.execute() if created), default=now_ms)
        return max(0.0, (now_ms - oldest) / 1000)


def _stage_times(stage: str, times: Mapping[str, str]) -> StageTimes:
    counts = [int(times.get(f"{stage}|{bound}", 0)) for bound in (*STAGE_BOUNDS_MS, "inf")]
    return StageTimes(up_to=tuple(accumulate(counts)), seconds=float(times.get(f"{stage}|sum", 0)) / 1000)
