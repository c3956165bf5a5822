"""Dead letters: jobs that ended DEAD, kept with their reason until a person reads them, and may be tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.errors import RedisUnavailable, ZimgError
from core.job import Job, JobState, NewJob
from core.job_store import JobStore, Submitted
from core.look import KeyLimits, TenantLimits
from core.redis_client import PREFIX, redis_errors
from core.settings import Settings
from scheduler.reuse import Reuse
from scheduler.tenants import Tenant, Tenants

PAGE = 200
LOOKED_AT_MOST = 1_000  # letters of one call that tries many again


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a letter: the new job that tries it again, or the code of what refused it."""

    letter: str
    job_id: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTried:
    """What became of letters, newest first; those that were refused stay, and `next_offset` passes them over.

    None: there are no more behind them.
    """

    tried: Sequence[Tried]
    next_offset: int | None


class DeadLetters:
    """Lists and requeues, for one call of an operator. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, store: JobStore, settings: Settings, reuse: Reuse | None = None) -> None:
        """`reuse` as in Submission."""
        self._store = store
        self._settings = settings
        self._reuse = reuse
        self._tenants = Tenants(store.redis, settings)
        self._keys: dict[str, list[KeyLimits]] = {}  # by tenant, oldest first; an instance lives for one call

    def list_letters(
        self, *, tenant: str | None = None, code: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Dead jobs, newest first; those of one tenant or one reason (`failure.code`) if named."""
        found: list[Job] = []
        start = 0
        while len(found) < offset + limit:
            with redis_errors():
                ids: list[str] = self._store.redis.zrevrange(  # type: ignore[assignment]
                    f"{PREFIX}dlq", start, start + PAGE - 1
                )
            if not ids:
                break
            start += PAGE
            found += [job for job in self._store.get_many(ids) if job and _matches(job, tenant, code)]
        return found[offset : offset + limit]

    def requeue(self, job_id: str, tenant: Tenant) -> Submitted | None:
        """Try a dead job again as a new job with its own reservation; the same call again gives the same new job.

        An end is an end: the old record and its refund stay. None if the job is not dead or not the tenant's.
        Raises what a submit raises.
        """
        job = self._store.get(job_id)
        if job is None or job.state is not JobState.DEAD or job.tenant != tenant.name:
            return None
        again = self._again(job)
        if self._reuse is not None:
            self._reuse.check([again])
        done = self._store.submit(again, self._limits(job, tenant))
        with redis_errors():
            self._store.redis.zrem(f"{PREFIX}dlq", job_id)
        return done

    def requeue_many(
        self, *, tenant: str | None = None, code: str | None = None, limit: int, offset: int = 0
    ) -> ManyTried:
        """As `requeue`, of the newest letters behind `offset`, until `limit` (without refused ones) are tried again.

        Raises RedisUnavailable where nothing was tried yet.
        """
        found = self.list_letters(tenant=tenant, code=code, limit=LOOKED_AT_MOST + 1, offset=offset)
        tried: list[Tried] = []
        refused: dict[tuple[str, ...], str] = {}
        made = 0
        for job in found[:LOOKED_AT_MOST]:
            if made >= limit:
                break
            whose = (job.tenant, job.lane, job.queue, job.key)  # what refuses one of these refuses all of them
            try:
                outcome = self._try(job, refused.get(whose))
            except RedisUnavailable as error:
                if not tried:
                    raise
                tried.append(Tried(letter=job.id, refused=error.code))
                return ManyTried(tried=tried, next_offset=offset + _stay(tried[:-1]))
            if outcome.refused:
                refused[whose] = outcome.refused
            made += outcome.job_id is not None
            tried.append(outcome)
        return ManyTried(tried=tried, next_offset=offset + _stay(tried) if len(found) > len(tried) else None)

    def _try(self, job: Job, refused: str | None) -> Tried:
        try:
            done = None if refused else self.requeue(job.id, self._tenants.get(job.tenant))
        except RedisUnavailable:
            raise
        except ZimgError as error:
            return Tried(letter=job.id, refused=error.code)
        return (
            Tried(letter=job.id, job_id=done.job_id) if done else Tried(letter=job.id, refused=refused or "not_found")
        )

    def _limits(self, job: Job, tenant: Tenant) -> TenantLimits:
        """The tenant's, and those of the key that asked first, if it still has some: it counts there as before."""
        if not job.key:
            return tenant.limits
        if job.tenant not in self._keys:
            self._keys[job.tenant] = [key.limits for key in self._tenants.list_keys(job.tenant) if key.limits]
        own = reversed(self._keys[job.tenant])  # of those that go on with its counters, the newest
        return replace(tenant.limits, key=next((one for one in own if one.id == job.key), None))

    def _again(self, job: Job) -> NewJob:
        return NewJob(
            id=hashlib.sha256(f"requeue:{job.id}".encode()).hexdigest()[:32],
            tenant=job.tenant,
            lane=job.lane,
            request=job.request,
            fingerprint=job.fingerprint,
            cost_units=job.cost_units,
            deadline_seconds=(job.deadline_ms - job.created_ms) // 1000,
            max_attempts=self._settings.max_attempts,
            batch_id=job.batch_id,
            metadata=job.metadata,
            queue=job.queue,
            priority=job.priority,
            webhook_url=job.webhook_url,
            base_url=job.base_url,
            work=job.work,
            retention_seconds=job.retention_seconds,
            again=job.id,
        )


def _matches(job: Job, tenant: str | None, code: str | None) -> bool:
    if tenant is not None and job.tenant != tenant:
        return False
    return code is None or (job.failure is not None and job.failure.code == code)


def _stay(tried: Sequence[Tried]) -> int:
    """How many are letters still."""
    return sum(one.job_id is None for one in tried)
