"""A tenant's jobs, newest first, page by page: each page looks at so many records at most and says where it ended.

A page goes on from a place in time, not from a job: the job that a cursor names may be deleted meanwhile. A page with a
filter may end early, even empty, with a cursor all the same; without one the list is over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from core.errors import InvalidRequest
from core.job import Job, JobState
from core.redis_client import PREFIX, redis_errors

#: Records that one page looks at: about 50 ms of a process that has others to answer.
SCANNED_MOST = 1_000
READ_AT_ONCE = 200
CURSOR_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?-[0-9a-f]{32}$"

Fits = Callable[[Job], bool]
#: Of these ids, those whose records are worth reading whole; it looks at few of their fields.
Sift = Callable[[Sequence[str]], Collection[str]]


class Place(NamedTuple):
    """Where in a list; places compare as the list is ordered."""

    score: float
    id: str

    @property
    def cursor(self) -> str:
        return f"{self.score!r}-{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Some jobs, where each stands, and the cursor of what comes behind them: "" at the end of the list."""

    jobs: list[Job]
    places: list[Place]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IdPage:
    """As JobPage, of ids alone."""

    ids: list[str]
    cursor: str


class JobPages:
    """Reads the lists that submit.lua keeps. Raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, get_many: Callable[[Sequence[str]], list[Job | None]]) -> None:
        self._redis = client
        self._get_many = get_many

    def of_tenant(
        self, key: str, tenant: str, *, states: Collection[JobState] | None, fits: Fits, after: str, limit: int
    ) -> JobPage:
        """As `page`, of the tenant's jobs in `states`."""

        def is_wanted(job: Job) -> bool:
            return job.tenant == tenant and (states is None or job.state in states) and fits(job)

        def in_states(ids: Sequence[str]) -> set[str]:
            return {one for one, state in zip(ids, self._states(ids), strict=True) if state in (states or ())}

        return self.page(key, sift=in_states if states else None, fits=is_wanted, after=after, limit=limit)

    def page(self, key: str, *, sift: Sift | None = None, fits: Fits, after: str, limit: int) -> JobPage:
        """At most `limit` jobs that fit, behind the cursor `after`. Raises InvalidRequest for a wrong cursor."""
        place, found, scanned, is_over = self._place(key, after), list[tuple[Place, Job]](), 0, False
        while len(found) <= limit and scanned < SCANNED_MOST and not is_over:
            many = READ_AT_ONCE if sift else min(READ_AT_ONCE, limit + 1 - len(found))
            entries = places_behind(self._redis, key, place, many)
            jobs = zip(entries, self._jobs([entry.id for entry in entries], sift), strict=True)
            found += [(at, job) for at, job in jobs if job is not None and fits(job)]
            place, scanned, is_over = entries[-1] if entries else place, scanned + len(entries), len(entries) < many
        if len(found) > limit:
            found, place, is_over = found[:limit], found[limit - 1][0], False
        cursor = "" if is_over or place is None else place.cursor
        return JobPage(jobs=[job for _, job in found], places=[at for at, _ in found], cursor=cursor)

    def ids(self, key: str, *, states: Collection[JobState], after: str) -> IdPage:
        """The ids of those among the next records that are in one of `states`."""
        entries = places_behind(self._redis, key, self._place(key, after), READ_AT_ONCE)
        all_ids = [entry.id for entry in entries]
        found = [one for one, state in zip(all_ids, self._states(all_ids), strict=True) if state in states]
        return IdPage(ids=found, cursor="" if len(entries) < READ_AT_ONCE else entries[-1].cursor)

    def _place(self, key: str, cursor: str) -> Place | None:
        """What a cursor says; the one of a release before is a job's id alone."""
        if not cursor:
            return None
        score, _, job_id = cursor.rpartition("-")
        if score:
            if not re.fullmatch(CURSOR_PATTERN, cursor):
                raise unknown_cursor()
            return Place(float(score), job_id)
        with redis_errors():
            known: Any = self._redis.zscore(key, job_id)
        if known is None:
            raise unknown_cursor()
        return Place(float(known), job_id)

    def _jobs(self, ids: Sequence[str], sift: Sift | None) -> list[Job | None]:
        """A job for each id, None for one that is gone, or that was sifted out and not read."""
        chosen: Collection[str] = ids if sift is None or not ids else sift(ids)
        read = {job.id: job for job in self._get_many(list(chosen)) if job is not None} if chosen else {}
        return [read.get(one) for one in ids]

    def _states(self, ids: Sequence[str]) -> list[str | None]:
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in ids:
                pipeline.hget(f"{PREFIX}job:{job_id}", "state")
            return pipeline.execute()


def places_behind(client: redis.Redis, key: str, after: Place | None, many: int) -> list[Place]:
    """The next places of a sorted set, the highest first. Several may have one score, some of them before `after`."""
    start, at = ("+inf" if after is None else repr(after.score)), 0
    while True:
        with redis_errors():
            rows: Any = client.zrevrangebyscore(key, start, "-inf", start=at, num=many + 1, withscores=True)
        entries = [Place(float(score), str(wanted)) for wanted, score in rows]
        behind = [entry for entry in entries if after is None or entry < after]
        if behind or len(entries) <= many:
            return behind[:many]
        at += len(entries)


def unknown_cursor() -> InvalidRequest:
    """Of a cursor that says no place."""
    return InvalidRequest("cursor is none of this list; send the request without one.", field="cursor")
