"""POST /v1/images/generations: OpenAI's call. It waits for the pictures, or streams OpenAI's own events.

OpenAI's client repeats a call that took too long, by itself and without a key of its own. Such a retry joins the jobs
of the call that it repeats (`repeats.py`).
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import structlog
from flask import Response, jsonify, request, stream_with_context

from api import objects, schema
from api.auth import require_still_open, require_tenant
from api.context import Services, base_url, services, tenant
from api.errors import GenerationFailed, problem_body, problem_for
from api.events import PING_SECONDS, SSE_HEADERS
from api.headers import body_hash, idempotency_key, name_hits, name_ignored
from api.job_json import effective_parameters, picture_url
from api.language import preferred_language
from api.openapi_parts import OPENAI, SECURITY, image_events, json_of, problems, routes
from api.pictures import read_picture
from api.repeats import key_of_call
from api.sizes import OPENAI_SIZES
from api.submitting import submit, wanted_profile
from api.waiting import has_ended, wait_for_end, wait_until
from core.errors import RedisUnavailable, Unavailable, ZimgError
from core.job import Job, JobState
from core.job_store import Submitted

images = routes("images", OPENAI, SECURITY)
images.before_request(require_tenant)

log = structlog.get_logger(__name__)

ROUTE = "images"
STILL_RUNNING_RETRY_SECONDS = 2


PICTURES_OR_STREAM = {
    "content": {**json_of(objects.ImagesResponse)["content"], **image_events()["content"]},
    "description": "Pictures; or, with `stream`, an `image_generation.completed` event for each.",
}


class StillRunning(Unavailable):
    """Raised when the pictures are not ready within the time that a synchronous call may take; the jobs go on."""

    code = "still_running"

    def __init__(self, job_ids: Sequence[str]) -> None:
        message = "The jobs go on: send the same request again with the same Idempotency-Key, or look at the job."
        super().__init__(message, retry_after_seconds=STILL_RUNNING_RETRY_SECONDS)
        self.extra: dict[str, Any] = {
            "job_ids": list(job_ids),
            "job_urls": [f"{base_url()}/v1/jobs/{job_id}" for job_id in job_ids],
        }


@images.post(
    "/v1/images/generations",
    summary="Draw pictures and wait for them (OpenAI)",
    description="OpenAI's images endpoint. Parameters that the preset decides are accepted, ignored and named in "
    "`X-Zimg-Ignored`, and so are the names of other models and OpenAI's sizes beyond what is drawn. "
    "With `stream: true` the answer is OpenAI's event stream. Equal calls draw a picture each; the "
    "retry of a call joins the job of that call: by the same `Idempotency-Key`; or by `x-stainless-retry-count`, while "
    "the call has no answer and for ten seconds after it, since an answer may be lost on its way. A client that goes "
    "away cancels nothing: its picture is drawn and kept, and `/v1/jobs` lists it.",
    responses={200: PICTURES_OR_STREAM, **problems(409, 410, 422, 429, 500)},
)
def generate(body: schema.ImageCreate) -> Response:
    parts, owner = services(), tenant()
    hashed = body_hash(request.get_json())
    given = idempotency_key(ROUTE)
    with ExitStack() as kept:  # of a stream until it is over
        kept.callback(parts.long_waits.enter(owner.name))  # before anything is stored
        key = given or kept.enter_context(key_of_call(parts.redis, ROUTE, owner.name, hashed))
        submitted = submit(parts, owner, body, key=key, body_hash=hashed)
        made = None if body.stream else _finished(parts, submitted)
        response = _stream(parts, submitted) if made is None else jsonify(_answer(parts, body, made))
        response.headers["X-Zimg-Job-Id"] = ",".join(one.job_id for one in submitted)
        if all(one.replayed for one in submitted):
            response.headers["Idempotency-Replayed"] = "true"
        name_hits(response, submitted if made is None else made)
        name_ignored(response, _ignored(parts, body))
        if body.stream:
            response.call_on_close(kept.pop_all().close)
    return response


def _ignored(parts: Services, body: schema.ImageCreate) -> list[str]:
    """`output_format: png` is what one gets; other unknown names change nothing, nor does another model's."""
    names = [name for name in body.ignored if (name, (body.model_extra or {}).get(name)) != ("output_format", "png")]
    if body.model and body.model != wanted_profile(parts, body.model, any_name=True).id:
        names.append("model")
    if body.size in OPENAI_SIZES:
        names.append("size")
    return sorted(names)


def _finished(parts: Services, submitted: Sequence[Submitted]) -> list[Job]:
    """The jobs, all succeeded. Raises StillRunning, or GenerationFailed for the first that did not succeed."""
    ids = [one.job_id for one in submitted]
    try:
        found = wait_for_end(parts, ids, parts.settings.sync_wait_seconds, require_still_open)
    except RedisUnavailable as error:  # they are stored, and go on without anybody who looks
        raise StillRunning(ids) from error
    made = [job for job in found if job is not None]
    if len(made) < len(ids):
        raise GenerationFailed("The job was deleted while it was waited for.", code="gone")
    for job in made:
        _check(job)
    if not all(job.state.is_terminal for job in made):
        raise StillRunning(ids)
    return made


def _check(job: Job) -> None:
    if job.picture_removed:
        raise GenerationFailed("This picture expired or was deleted.", code="gone")
    if job.state is JobState.CANCELED:
        raise GenerationFailed("The job was canceled.", code="canceled")
    if job.state is JobState.DEAD:
        failure = job.failure
        raise GenerationFailed(
            failure.message if failure else "The picture could not be made.",
            code=failure.code if failure else "generation_failed",
        )


def _answer(parts: Services, body: schema.ImageCreate, made: Sequence[Job]) -> dict[str, Any]:
    shown = objects.ImagesResponse(
        created=made[0].created_ms // 1000,
        data=[objects.OpenAIImage(**_image(parts, body, job)) for job in made],
        size=f"{made[0].request.width}x{made[0].request.height}",
        effective_parameters=effective_parameters(made[0]),
        job_ids=[job.id for job in made],
    )
    return shown.model_dump(mode="json", exclude_none=True)


def _usual_format(model: str | None) -> str:
    """Where none is asked for: OpenAI's present models know no links, and their samples look for none."""
    return "b64_json" if (model or "").startswith(("gpt-image", "chatgpt-image")) else "url"


def _image(parts: Services, body: schema.ImageCreate, job: Job) -> dict[str, str]:
    """Either of the two, never both: some clients prefer the one that they did not ask for."""
    if (body.response_format or _usual_format(body.model)) == "b64_json":
        return {"b64_json": base64.b64encode(read_picture(parts, job)).decode()}
    return {"url": picture_url(job.id)}


def _stream(parts: Services, submitted: Sequence[Submitted]) -> Response:
    frames = stream_with_context(_told(_frames(parts, [one.job_id for one in submitted])))
    return Response(frames, mimetype="text/event-stream", headers=SSE_HEADERS)


def _told(frames: Iterator[str]) -> Iterator[str]:
    """The frames; what goes wrong on the way is told as OpenAI's `error` event, since the answer has begun."""
    try:
        yield from frames
    except ZimgError as error:
        log.warning("stream ended", action="images", code=error.code)
        yield _error_frame(error.code, str(error))


def _frames(parts: Services, ids: Sequence[str]) -> Iterator[str]:
    """OpenAI's `image_generation.completed` for each finished picture; never a partial one that is not true."""
    deadline = time.monotonic() + parts.settings.sync_wait_seconds
    for job_id in ids:
        job = parts.jobs.get(job_id)
        while (
            job is not None and not job.state.is_terminal and time.monotonic() < deadline and not parts.closing.is_set()
        ):
            yield ": waiting\n\n"  # also finds out whether anybody still listens
            until = min(deadline, time.monotonic() + PING_SECONDS)
            job = wait_until(parts, job_id, has_ended, until, require_still_open)
        if (error := _why_not(job)) is not None:
            yield error
            return
        assert job is not None
        yield _frame(_completed(parts, job))


def _why_not(job: Job | None) -> str | None:
    """The error frame of a job without a picture, None for one that has its picture."""
    if job is None:
        return _error_frame("gone", "The job was deleted while it was waited for.")
    if not job.state.is_terminal:
        return _error_frame("still_running", "The job goes on; look at it under /v1/jobs.")
    try:
        _check(job)
    except GenerationFailed as failed:
        return _error_frame(failed.code, str(failed))
    return None


def _completed(parts: Services, job: Job) -> dict[str, Any]:
    return {
        "type": "image_generation.completed",
        "b64_json": base64.b64encode(read_picture(parts, job)).decode(),
        "created_at": job.created_ms // 1000,
        "size": f"{job.request.width}x{job.request.height}",
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
        "usage": {
            "input_tokens": 0,
            "output_tokens": 0,
            "total_tokens": 0,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        },
        "job_id": job.id,
        "url": picture_url(job.id),
    }


def _error_frame(code: str, detail: str) -> str:
    code, problem = problem_for(code)
    shown = problem_body(code, problem, detail, language=preferred_language())
    return _frame({"type": "error", "error": shown["error"], "code": code})


def _frame(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
