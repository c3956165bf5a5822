"""A new job as submit.lua reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.job import NewJob, Priority
from core.settings import Settings


def row_values(job: NewJob, settings: Settings) -> tuple[Any, ...]:
    """Sixteen arguments, in the order that submit.lua reads them."""
    # The object goes with its record.
    kept_seconds = min(job.retention_seconds or settings.picture_retention_seconds, settings.record_retention_seconds)
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
        kept_seconds * 1000,
    )


def extras(jobs: Sequence[NewJob], listed: Mapping[str, str]) -> list[str]:
    """What few calls have, as one argument behind all rows, else nothing.

    Fields of the record by the job's number; `listed` says which call of a long list this is.
    """
    found: dict[str, Mapping[str, str]] = {"list": listed} if listed else {}
    for number, job in enumerate(jobs, 1):
        priority = "" if job.priority is Priority.NORMAL else job.priority.value
        told = (("priority", priority), ("webhook", job.webhook_url), ("base", job.base_url))
        own = {name: value for name, value in told if value}
        if own:
            found[str(number)] = own
    return [json.dumps(found)] if found else []
