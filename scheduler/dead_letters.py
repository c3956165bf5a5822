"""Dead letters: jobs that ended DEAD, kept with their reason until a person reads them, and may be tried again."""

from __future__ import annotations

import hashlib

from core.job import Job, JobState, NewJob
from core.job_store import JobStore, Submitted
from core.redis_client import PREFIX, redis_errors
from core.settings import Settings
from scheduler.tenants import Tenant

PAGE = 200


class DeadLetters:
    """Lists and requeues. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, store: JobStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

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
        done = self._store.submit(self._again(job), tenant.limits)
        with redis_errors():
            self._store.redis.zrem(f"{PREFIX}dlq", job_id)
        return done

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
