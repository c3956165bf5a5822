"""Dead letters: jobs that ended DEAD, kept with their reason until a person reads them, and may be tried again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.batch_store import BatchStore
from core.errors import RedisUnavailable, ZimgError
from core.job import Job, JobState, NewJob
from core.job_pages import JobPage, JobPages
from core.job_store import JobStore, Submitted
from core.look import KeyLimits, TenantLimits
from core.redis_client import PREFIX, redis_errors
from core.settings import Settings
from scheduler.reuse import Reuse
from scheduler.tenants import Tenant, Tenants

LETTERS = f"{PREFIX}dlq"
MISSING = "not_found"  # removed meanwhile, or tried again by somebody else
LOOKED_AT_MOST = 1_000  # letters of one call that tries many again; it also scans no more records than any page


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of a letter: the new job that tries it again, or the code of what refused it."""

    letter: str
    job_id: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTried:
    """What became of letters, newest first; those that were refused stay, and `next_cursor` passes them over.

    "": there are no more behind them.
    """

    tried: Sequence[Tried]
    next_cursor: str


class DeadLetters:
    """Lists and requeues, for one call of an operator. Every method raises RedisUnavailable on connection trouble."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        reuse: Reuse | None = None,
        fingerprint_now: Callable[[Job], str] = lambda job: job.fingerprint,
    ) -> None:
        """`reuse` and `fingerprint_now` as in Submission."""
        self._store = store
        self._settings = settings
        self._reuse = reuse
        self._fingerprint_now = fingerprint_now
        self._tenants = Tenants(store.redis, settings)
        self._batches = BatchStore(store.redis, settings)
        self._pages = JobPages(store.redis, store.get_many)
        self._keys: dict[str, list[KeyLimits]] = {}  # by tenant, oldest first; an instance lives for one call

    def list_page(
        self, *, tenant: str | None = None, code: str | None = None, limit: int = 100, after: str = ""
    ) -> JobPage:
        """Dead jobs, newest first, behind a cursor; those of one tenant or one reason (`failure.code`) if named.

        A page looks at so many letters only (core/job_pages.py): with a filter it may be empty, and have a cursor.
        Raises InvalidRequest for a wrong cursor.
        """

        def sift(ids: Sequence[str]) -> list[str]:
            return self._like(ids, tenant, code)

        def fits(job: Job) -> bool:
            return _matches(job, tenant, code)

        is_filtered = tenant is not None or code is not None
        return self._pages.page(LETTERS, sift=sift if is_filtered else None, fits=fits, after=after, limit=limit)

    def _like(self, ids: Sequence[str], tenant: str | None, code: str | None) -> list[str]:
        """Those that may be the tenant's and for this reason, by a look at these two fields."""
        with redis_errors():
            pipeline = self._store.redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hmget(f"{PREFIX}job:{job_id}", ["tenant", "failure"])
            rows = zip(ids, pipeline.execute(), strict=True)
        named = "" if code is None else json.dumps(code)
        return [job_id for job_id, (of, failure) in rows if tenant in (None, of) and named in (failure or "")]

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
        if job.batch_id:
            self._batches.lengthen(job.batch_id, job.tenant)
        with redis_errors():
            self._store.redis.zrem(LETTERS, job_id)
        return done

    def requeue_many(
        self, *, tenant: str | None = None, code: str | None = None, limit: int, after: str = ""
    ) -> ManyTried:
        """As `requeue`, of the newest letters behind a cursor, until `limit` (without refused ones) are tried again.

        A page of them at most, as `list_page` looks at. Raises RedisUnavailable where nothing was tried yet.
        """
        page = self.list_page(tenant=tenant, code=code, limit=LOOKED_AT_MOST, after=after)
        tried: list[Tried] = []
        refused: dict[tuple[str, ...], str] = {}
        made = 0
        for job in page.jobs:
            if made >= limit:
                break
            whose = (job.tenant, job.lane, job.queue, job.key)  # what refuses one of these refuses all of them
            try:
                outcome = self._try(job, refused.get(whose))
            except RedisUnavailable as error:
                if not tried:
                    raise
                here = page.places[len(tried) - 1].cursor
                return ManyTried(tried=[*tried, Tried(letter=job.id, refused=error.code)], next_cursor=here)
            if outcome.refused and outcome.refused != MISSING:  # which says nothing of the others
                refused[whose] = outcome.refused
            made += outcome.job_id is not None
            tried.append(outcome)
        is_whole = len(tried) == len(page.jobs)
        return ManyTried(tried=tried, next_cursor=page.cursor if is_whole else page.places[len(tried) - 1].cursor)

    def _try(self, job: Job, refused: str | None) -> Tried:
        try:
            done = None if refused else self.requeue(job.id, self._tenants.get(job.tenant))
        except RedisUnavailable:
            raise
        except ZimgError as error:
            return Tried(letter=job.id, refused=error.code)
        return Tried(letter=job.id, job_id=done.job_id) if done else Tried(letter=job.id, refused=refused or MISSING)

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
            fingerprint=self._fingerprint_now(job),
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
