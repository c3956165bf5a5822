"""A new job as submit.lua reads it, and as it stands right after."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from core.job import Job, JobState, NewJob, Priority
from core.look import KeyLimits, TenantLimits, emission_of
from core.settings import Settings


def row_values(job: NewJob, settings: Settings) -> tuple[Any, ...]:
    """Sixteen arguments, in the order that submit.lua reads them."""
    return (
        job.id,
        f"{job.lane.value}@{job.queue}" if job.queue else job.lane.value,
        job.fingerprint,
        job.idempotency_key,
        job.body_hash,
        job.repeat_key,
        job.repeat_seconds * 1000,
        job.cost_units,
        job.work or job.cost_units,
        job.deadline_seconds * 1000,
        job.max_attempts,
        job.priority.head_start_ms,
        job.batch_id,
        job.request.to_json(),
        json.dumps(dict(job.metadata), ensure_ascii=False, separators=(",", ":")),
        _kept_seconds(job, settings) * 1000,
    )


def as_stored(job: NewJob, settings: Settings, *, state: JobState, leader: str) -> Job:
    """The record that a submit has just made, by our own clock, for an answer where it can not be read."""
    now_ms = time.time_ns() // 1_000_000
    return Job(
        id=job.id,
        tenant=job.tenant,
        lane=job.lane,
        state=JobState.FOLLOWING if state.is_terminal else state,  # its end is not known here
        request=job.request,
        fingerprint=job.fingerprint,
        cost_units=job.cost_units,
        created_ms=now_ms,
        deadline_ms=now_ms + job.deadline_seconds * 1000,
        leader=leader,
        batch_id=job.batch_id,
        metadata=job.metadata,
        queue=job.queue,
        priority=job.priority,
        webhook_url=job.webhook_url,
        base_url=job.base_url,
        work=job.work or job.cost_units,
        retention_seconds=_kept_seconds(job, settings),
    )


def _kept_seconds(job: NewJob, settings: Settings) -> int:
    """The object goes with its record."""
    return min(job.retention_seconds or settings.picture_retention_seconds, settings.record_retention_seconds)


def extras(
    jobs: Sequence[NewJob], listed: Mapping[str, str], limits: TenantLimits, *, charges_hits: bool = False
) -> list[str]:
    """What few calls have, as one argument behind all rows, else nothing.

    Fields of the record by the job's number; `listed` says which call of a long list this is, `limits` what the key
    that asks may use, `charges_hits` that who is shown another job's picture pays for it, too.
    """
    found: dict[str, Mapping[str, Any]] = {"list": listed} if listed else {}
    if limits.key is not None:
        found["key"] = _of_key(limits, limits.key)
    for number, job in enumerate(jobs, 1):
        priority = "" if job.priority is Priority.NORMAL else job.priority.value
        pays = "1" if charges_hits and job.fingerprint else ""
        told = (
            ("priority", priority),
            ("webhook", job.webhook_url),
            ("base", job.base_url),
            ("again", job.again),
            ("pays", pays),
        )
        fields = {name: value for name, value in told if value}
        if fields:
            found[str(number)] = fields
    return [json.dumps(found)] if found else []


def _of_key(limits: TenantLimits, key: KeyLimits) -> dict[str, Any]:
    own = {"id": key.id, "daily": key.daily_units, "burst": key.burst, "emission": emission_of(limits.of_key)}
    return {name: value for name, value in own.items() if value is not None}
