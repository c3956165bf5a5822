"""Lists too long for one script call: stored in portions under a hold, so that no call keeps the server for long.

The first call decides for the whole list and holds units and queue room for what is still to come (submit.lua); the
next ones draw from the hold, the last closes it. A list whose caller goes away in the middle is left in part: its rows
are jobs like all others, the hold runs out and gives back what it kept (reap_holds.lua), and the same list sent again
under the same ids stores what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import redis

from core.errors import IdempotencyMismatch
from core.job import Lane, NewJob
from core.redis_client import PREFIX, redis_errors

#: Rows of one script call: about 70 ms of the server's time on a slow core.
ROWS_AT_ONCE = 500
#: A hold that nobody drew from for so long is given back.
HOLD_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ListStep:
    """Which call of a list this is, as submit.lua reads it; an empty name: one call is the whole list."""

    name: str = ""
    step: str = ""  # open, draw, close
    rest: Sequence[NewJob] = ()  # what `open` holds room for: those behind this call that are not stored yet
    total: int = 0

    def values(self) -> dict[str, str]:
        """`list` for submit.lua; nothing for one call."""
        if not self.name:
            return {}
        interactive = sum(job.lane is Lane.INTERACTIVE for job in self.rest)
        return {
            "name": self.name,
            "step": self.step,
            "interactive": str(interactive),
            "batch": str(len(self.rest) - interactive),
            "units": str(sum(job.cost_units for job in self.rest)),
            "total": str(self.total),
            "keep_ms": str(HOLD_SECONDS * 1000),
        }


def is_long(jobs: Sequence[NewJob]) -> bool:
    """Whether several calls store these."""
    return len(jobs) > ROWS_AT_ONCE


def portions(client: redis.Redis, jobs: Sequence[NewJob]) -> list[tuple[Sequence[NewJob], ListStep]]:
    """The calls that store `jobs`. Raises IdempotencyMismatch for a key that stands for another body."""
    if not is_long(jobs):
        return [(jobs, ListStep())]
    parts = _parts(jobs)
    rest = [job for part in parts[1:] for job in _not_stored(client, part)]
    name = jobs[0].batch_id or jobs[0].id
    steps = [ListStep(name=name, step="draw") for _ in parts]
    steps[0] = ListStep(name=name, step="open", rest=rest, total=len(jobs))
    steps[-1] = ListStep(name=name, step="close")
    return list(zip(parts, steps, strict=True))


def are_stored(client: redis.Redis, jobs: Sequence[NewJob]) -> bool:
    """Whether earlier calls stored all of these. Raises IdempotencyMismatch as `portions` does."""
    return not any(_not_stored(client, part) for part in _parts(jobs))


def _parts(jobs: Sequence[NewJob]) -> list[Sequence[NewJob]]:
    return [jobs[first : first + ROWS_AT_ONCE] for first in range(0, len(jobs), ROWS_AT_ONCE)]


def _not_stored(client: redis.Redis, jobs: Sequence[NewJob]) -> list[NewJob]:
    """Those that no earlier call with the same ids or keys stored; what was stored and removed since was stored."""
    ids = [(f"{PREFIX}job:{job.id}", f"{PREFIX}tombstone:{job.id}") for job in jobs]
    keyed = [job for job in jobs if job.idempotency_key]
    with redis_errors():
        stored = _any_of_each(client, ids) if client.exists(*chain.from_iterable(ids)) else [False] * len(ids)
        names = [f"{PREFIX}idem:{job.tenant}:{job.idempotency_key}" for job in keyed]
        kept = client.mget(names) if names else []
    known = {job.id for job, is_stored in zip(jobs, stored, strict=True) if is_stored}
    for job, value in zip(keyed, kept, strict=True):
        if value and job.id not in known:
            if str(value).partition("|")[0] != job.body_hash:
                raise IdempotencyMismatch("This Idempotency-Key was used before with another body; send a new key.")
            known.add(job.id)
    return [job for job in jobs if job.id not in known]


def _any_of_each(client: redis.Redis, names: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether one of each two keys exists."""
    pipeline = client.pipeline(transaction=False)
    for pair in names:
        pipeline.exists(*pair)
    return [found > 0 for found in pipeline.execute()]
