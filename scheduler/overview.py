"""What an operator sees of the service: the queue by lane and tenant, what each worker holds, usage by day."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from core.job import Job, JobState, Lane
from core.job_store import JobStore
from core.redis_client import PREFIX, redis_errors

HISTORY_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantQueue:
    """How many jobs of a tenant wait, by lane, and how many are with workers or on the way to one."""

    tenant: str
    waiting: Mapping[Lane, int] = field(default_factory=dict)
    running: int = 0


@dataclass(frozen=True, slots=True)
class DayUse:
    """Units of one day (UTC, ISO date): charged, and reserved by jobs that have not ended."""

    day: str
    used: int
    reserved: int


class Overview:
    """Reads; changes nothing. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._redis = store.redis

    def queues(self, stopped: Collection[str] = ()) -> list[TenantQueue]:
        """Tenants with jobs that wait or run, and those that are `stopped`, the longest queue first.

        A drained tenant has no job in the end; only where it is still seen can it be resumed.
        """
        with redis_errors():
            suffixes = self._store.model_suffixes()
            tenants = sorted(self._tenants_with_jobs_now().union(stopped))
            pipeline = self._redis.pipeline(transaction=False)
            for tenant in tenants:
                for lane in Lane:
                    for suffix in suffixes:
                        pipeline.zcard(f"{PREFIX}tq:{tenant}|{lane.value}{suffix}")
                pipeline.zcard(f"{PREFIX}run:{tenant}")
            counts = iter(pipeline.execute())
        found = []
        for tenant in tenants:
            waiting = {lane: sum(next(counts) for _ in suffixes) for lane in Lane}
            running = next(counts)
            if running or any(waiting.values()) or tenant in stopped:
                found.append(TenantQueue(tenant=tenant, waiting=waiting, running=running))
        return sorted(found, key=lambda one: (-sum(one.waiting.values()), -one.running, one.tenant))

    def waiting_jobs(self, tenant: str, lane: Lane, *, limit: int) -> list[Job]:
        """The jobs of a tenant's lane in the order in which they will be released, model after model."""
        with redis_errors():
            suffixes = self._store.model_suffixes()
            pipeline = self._redis.pipeline(transaction=False)
            for suffix in suffixes:
                pipeline.zrange(f"{PREFIX}tq:{tenant}|{lane.value}{suffix}", 0, limit - 1)
            ids = [str(job_id) for found in pipeline.execute() for job_id in found]
        return [job for job in self._store.get_many(ids[:limit]) if job is not None and job.state is JobState.QUEUED]

    def held_jobs(self, workers: Sequence[str]) -> dict[str, list[Job]]:
        """The jobs that each of these workers holds now."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for name in workers:
                pipeline.sunion([f"{PREFIX}held:{name}", f"{PREFIX}shelf:{name}"])
            held = [sorted(ids) for ids in pipeline.execute()]
        jobs = iter(self._store.get_many([job_id for ids in held for job_id in ids]))
        return {
            name: [job for _ in ids if (job := next(jobs)) is not None] for name, ids in zip(workers, held, strict=True)
        }

    def _tenants_with_jobs_now(self) -> set[str]:
        """Those with a queue, and those of whom nothing waits any more: released, or held by a worker."""
        names = [str(name) for name in self._redis.zrange(f"{PREFIX}workers", 0, -1)]
        pipeline = self._redis.pipeline(transaction=False)
        for suffix in self._store.model_suffixes():
            pipeline.zrange(f"{PREFIX}rel{suffix}", 0, -1)
        for name in names:
            pipeline.smembers(f"{PREFIX}held:{name}")
        ids = {str(job_id) for found in pipeline.execute() for job_id in found}
        for job_id in ids:
            pipeline.hget(f"{PREFIX}job:{job_id}", "tenant")
        return {entity.rpartition("|")[0] for entity in self._store.entities()} | {
            str(tenant) for tenant in pipeline.execute() if tenant
        }

    def tenants_with_jobs(self) -> set[str]:
        """Every tenant that ever had a job in a queue."""
        with redis_errors():
            gone = self._redis.hkeys(f"{PREFIX}vt")
        return {entity.rpartition("|")[0] for entity in (*self._store.entities(), *map(str, gone))}

    def usage(self, tenants: Sequence[str], days: int = HISTORY_DAYS) -> dict[str, list[DayUse]]:
        """Each tenant's units of the last `days` days by the server's clock, oldest first, today last."""
        with redis_errors():
            seconds, _ = self._redis.time()
            today = datetime.fromtimestamp(int(seconds), UTC).date()
            dates = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
            pipeline = self._redis.pipeline(transaction=False)
            for tenant in tenants:
                for date in dates:
                    pipeline.hmget(f"{PREFIX}use:{tenant}:{date:%Y%m%d}", ["used", "reserved"])
            rows = iter(pipeline.execute())
        return {
            tenant: [
                DayUse(date.isoformat(), *(int(value or 0) for value in row))
                for date, row in zip(dates, rows, strict=False)
            ]
            for tenant in tenants
        }
