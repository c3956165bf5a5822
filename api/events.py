"""GET /v1/jobs/{id}/events: a job's life as server-sent events, resumed by `Last-Event-ID`.

Each event has the id of its entry in the job's Redis stream, and each `progress` is a whole snapshot, so one frame is
enough to catch up. While a job waits, its place in the queue comes as `status` frames without an id: they are not part
of the stream and must not move the point of resumption.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import structlog
from flask import Response, stream_with_context

from api.auth import Caller, is_still_open
from api.context import Services
from api.errors import localized
from api.job_json import failure_message, image_objects, status_of
from api.waiting import KEY_SECONDS
from core.errors import Unavailable
from core.events import Event, known_id
from core.job import Job, JobState
from core.look import QueuePlace

PING_SECONDS = 15.0
PLACE_SECONDS = 2.0
#: A stream ends after this and the browser opens it again, so none holds a thread for ever.
STREAM_SECONDS_MOST = 30 * 60
TERMINAL_STATUSES = frozenset({"succeeded", "failed", "canceled", "expired"})

log = structlog.get_logger(__name__)

SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def frame(kind: str, data: dict[str, Any], event_id: str = "") -> str:
    """One server-sent event."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def stream(parts: Services, caller: Caller, job: Job, last_event_id: str) -> Response:
    """The job's events from `last_event_id` on, until it has ended. Raises as `LongWaits.enter`.

    204 for a job that has ended and whose last event the caller has: it tells a browser not to come back.
    """
    after_id = known_id(last_event_id)
    if job.state.is_terminal and after_id and not parts.events.read(job.id, after_id):
        return Response(status=204)
    leave = parts.long_waits.enter(job.tenant)
    response = Response(
        stream_with_context(_until_trouble(_frames(parts, caller, job, after_id))),
        mimetype="text/event-stream",
        headers=SSE_HEADERS,
    )
    response.call_on_close(leave)
    return response


def _until_trouble(frames: Iterator[str]) -> Iterator[str]:
    """The frames; where Redis goes away the stream ends, and its reader comes back with the last id it saw."""
    try:
        yield from frames
    except Unavailable as error:
        log.warning("stream ended", action="events", code=error.code)


def _frames(parts: Services, caller: Caller, job: Job | None, after_id: str) -> Iterator[str]:
    assert job is not None
    job_id, shown, told_end = job.id, "", False
    ends, quiet_since = time.monotonic() + STREAM_SECONDS_MOST, time.monotonic()
    is_open = _KeyWatch(parts, caller)
    yield ": open\n\n"
    with parts.hub.follow(job_id) as follower:
        while time.monotonic() < ends and not parts.closing.is_set() and is_open():
            over = job is None or job.state.is_terminal
            events = follower.wait(after_id, 0.0 if over else PLACE_SECONDS)
            (job,), places = parts.jobs.with_places([job_id])  # after the events: an `output` needs the picture
            for event in events:
                yield event_frame(job, event)
                after_id, quiet_since = event.id, time.monotonic()
                told_end = told_end or (event.type == "status" and event.data.get("status") in TERMINAL_STATUSES)
            if over:
                if job is not None and not told_end:
                    yield from summary(job)
                return
            new_place = _place(job, places.get(job_id))
            if new_place and new_place != shown:
                shown, quiet_since = new_place, time.monotonic()
                yield new_place
            if time.monotonic() - quiet_since >= PING_SECONDS:
                quiet_since = time.monotonic()
                yield ": ping\n\n"


class _KeyWatch:
    """Tells whether the caller's key still opens the stream; it is looked up each KEY_SECONDS."""

    def __init__(self, parts: Services, caller: Caller) -> None:
        self._parts, self._caller = parts, caller
        self._next = time.monotonic() + KEY_SECONDS

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return True
        self._next = time.monotonic() + KEY_SECONDS
        return is_still_open(self._parts, self._caller)


def event_frame(job: Job | None, event: Event) -> str:
    """A stored event as the API shows it: no object keys, no internals."""
    data = dict(event.data)
    if event.type == "output":
        shown = image_objects(job) if job is not None and not job.picture_removed else []
        data = {"images": [image.model_dump(mode="json") for image in shown]}
    elif event.type == "status" and job is not None and job.picture_removed:
        data["status"] = status_of(job)
    elif event.type == "error":
        data = {"code": data.get("code"), "message": localized(str(data.get("code")), str(data.get("message") or ""))}
    return frame(event.type, data, event.id)


def _place(job: Job | None, place: QueuePlace | None) -> str:
    """The job's place in the queue as a frame, "" when it does not wait."""
    if job is None or place is None:
        return ""
    data = {"status": status_of(job), "queue_position": place.position, "eta_seconds": place.eta_seconds}
    if place.paused:
        data["paused"] = True
    return frame("status", data)


def summary(job: Job) -> Iterator[str]:
    """How an ended job ended, for a stream that is no longer there (it is kept for an hour)."""
    if job.state is JobState.SUCCEEDED and not job.picture_removed:
        yield frame("output", {"images": [image.model_dump(mode="json") for image in image_objects(job)]})
    if job.state is JobState.DEAD and job.failure:
        yield frame("error", {"code": job.failure.code, "message": failure_message(job.failure)})
    yield frame("status", {"status": status_of(job)})
