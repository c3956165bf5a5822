"""A job as its hash in Redis says.

A newer release may have written it: fields that are not known here are passed over, and an unknown value is read as the
known one that does no harm. A record that is broken all the same is put aside, so that it hides no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from core.job import (
    Failure,
    GenerationRequest,
    Job,
    JobState,
    Lane,
    Picture,
    Priority,
    Progress,
    known_fields,
    known_value,
)
from core.redis_client import milliseconds

#: What reading a broken value raises.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def jobs_from(
    ids: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    now: tuple[int, int],
    on_broken: Callable[[str, Exception], None],
) -> list[Job | None]:
    """A job for each id, as its hash says at the server's time `now`; None where there is none, or a broken one."""
    now_ms = milliseconds(now)

    def read(job_id: str, row: Mapping[str, str]) -> Job | None:
        try:
            return job_from(job_id, row, now_ms) if row.get("state") else None
        except UNREADABLE as error:
            on_broken(job_id, error)
            return None

    return [read(job_id, row) for job_id, row in zip(ids, rows, strict=True)]


def state_of(text: str) -> JobState:
    """An unknown state is no end, and nothing runs that could be asked to stop."""
    return known_value(JobState, text, JobState.QUEUED)


def lane_of(text: str) -> Lane:
    """Of an unknown lane nobody is known to wait for it."""
    return known_value(Lane, text, Lane.BATCH)


def job_from(job_id: str, row: Mapping[str, str], now_ms: int) -> Job:
    """A job as its hash says; a picture past its retention counts as removed, whether or not it was swept already."""

    def flag(name: str) -> bool:
        return row.get(name) == "1"

    def number(name: str) -> int:
        return int(row.get(name) or 0)

    return Job(
        id=job_id,
        tenant=row["tenant"],
        lane=lane_of(row["lane"]),
        state=state_of(row["state"]),
        request=GenerationRequest.from_json(row["request"]),
        fingerprint=row.get("fingerprint", ""),
        cost_units=number("cost"),
        created_ms=number("created"),
        deadline_ms=number("deadline"),
        started_ms=number("started"),
        finished_ms=number("finished"),
        epoch=number("epoch"),
        attempt=number("attempt"),
        crashes=number("crashes"),
        alone=flag("alone"),
        cancel_requested=flag("cancel"),
        leader=row.get("leader", ""),
        worker=row.get("worker", ""),
        batch_id=row.get("batch", ""),
        metadata=dict(json.loads(row.get("metadata", "{}"))),
        progress=Progress(**known_fields(Progress, row["progress"])) if "progress" in row else None,
        picture=Picture.from_json(row["picture"]) if "picture" in row else None,
        failure=Failure.from_json(row["failure"]) if "failure" in row else None,
        expires_ms=number("expires"),
        picture_removed=flag("picture_removed") or 0 < number("expires") <= now_ms,
        queue=row.get("model", ""),
        priority=known_value(Priority, row.get("priority") or "normal", Priority.NORMAL),
        webhook_url=row.get("webhook", ""),
        base_url=row.get("base", ""),
        work=float(row.get("work") or 0),
        retention_seconds=number("retention") // 1000,
        key=row.get("key", ""),
    )
