"""/v1/jobs: hand in, look, wait, list, cancel, delete, follow."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from flask import Response, g, jsonify, make_response, request

from api import events, objects, schema
from api.auth import require_still_open, require_tenant
from api.context import Services, base_url, services, tenant
from api.headers import Preference, body_hash, idempotency_key, name_hits, name_ignored, preference
from api.job_json import STATES_OF_STATUS, job_object, job_objects, status_of
from api.limits import known_use
from api.openapi_parts import EVENT_STREAM, JOBS, NOT_CHANGED, SECURITY, json_of, problems, routes
from api.repeats import counts_its_tries, key_of_call
from api.strict_json import printable
from api.submitting import submit_and_look
from api.waiting import wait_for_end, wait_until
from core.errors import Gone, NotFound, RedisUnavailable, Refusal
from core.job import Job
from core.job_store import Submitted
from core.look import Look

jobs = routes("jobs", JOBS, SECURITY)
jobs.before_request(require_tenant)

ROUTE = "jobs"
JOB_ID = re.compile(r"[0-9a-f]{32}")
DELETED = "This job was deleted, or its record expired."


#: A job, or with `n` above 1 a list of them.
ONE_OR_MANY = json_of(objects.JobObject, objects.JobList)


class Conflict(Refusal):
    """Raised when the job's state does not allow what was asked."""

    code = "conflict"


@jobs.post(
    "/v1/jobs",
    summary="Hand in a picture to draw",
    description="Answers 202 at once; `Prefer: wait=N` waits for the end, where a place to wait is free. "
    "With `n` above 1 the answer is a list. "
    "An `Idempotency-Key` makes it safe to send the same request again; without one, the same body within two seconds "
    "is taken for a double click and gets the same job. An SDK that counts its tries (`x-stainless-retry-count`) is no "
    "person: its equal calls are a job each, and what it marks as a retry joins the job of the call that it repeats.",
    responses={202: ONE_OR_MANY, 200: ONE_OR_MANY, **problems(410, 422, 429)},
)
def create(body: schema.JobCreate) -> Response:
    parts, wish = services(), preference()
    if not wish.wait_seconds:
        return _create(parts, body, wish)
    with parts.long_waits.place_if_any(tenant().name) as is_free:
        return _create(parts, body, wish if is_free else wish.without_waiting())


def _create(parts: Services, body: schema.JobCreate, wish: Preference) -> Response:
    hashed, key = body_hash(request.get_json()), idempotency_key(ROUTE)
    with ExitStack() as kept:
        if not key and counts_its_tries():
            key = kept.enter_context(key_of_call(parts.redis, ROUTE, tenant().name, hashed))
        submitted, seen = submit_and_look(
            parts, tenant(), body, key=key, body_hash=hashed, repeat_key=f"{ROUTE}:{hashed}"
        )
        made, shown = _made(parts, submitted, seen, wish.wait_seconds)
    is_done = wish.wait_seconds > 0 and all(job.state.is_terminal for job in made)
    response = _created(made, shown, is_done=is_done, is_list=(body.n or 1) > 1)
    if all(one.replayed for one in submitted):
        response.headers["Idempotency-Replayed"] = "true"
    name_hits(response, made)
    _name_preference(response, wish)
    name_ignored(response, body.ignored)
    return response


def _made(
    parts: Services, submitted: Sequence[Submitted], seen: Look, seconds: int
) -> tuple[list[Job], list[dict[str, object]]]:
    """The jobs and how they are shown: as `seconds` of waiting leave them, or as they were stored."""
    if seconds:
        with suppress(RedisUnavailable):  # they are stored: who is told otherwise asks for them twice
            found = wait_for_end(parts, [one.job_id for one in submitted], seconds, require_still_open)
            made = [job for job in found if job is not None]
            if not made:
                raise Gone(DELETED)
            return made, job_objects(parts, made)
    known_use(seen.use)
    made = [job for job in seen.jobs if job is not None]
    if not made:
        raise Gone(DELETED)
    return made, [job_object(parts, job, seen.places) for job in made]


def _created(made: Sequence[Job], shown: Sequence[dict[str, object]], *, is_done: bool, is_list: bool) -> Response:
    body = {"object": "list", "data": shown, "has_more": False, "next_cursor": None} if is_list else shown[0]
    response = make_response(jsonify(body), 200 if is_done else 202)
    ids = ",".join(job.id for job in made)
    response.headers["Location"] = f"{base_url()}/v1/jobs" + (f"?ids={ids}" if is_list else f"/{ids}")
    return response


def _name_preference(response: Response, wish: Preference) -> None:
    if wish.applied:
        response.headers["Preference-Applied"] = wish.applied


@jobs.get(
    "/v1/jobs",
    summary="List jobs, newest first",
    description="A page looks at 1,000 jobs at most: with `status` it may hold fewer than `limit`, or none, and still "
    "have a `next_cursor`; go on until `has_more` is false. With `ids`, where a call with `n` above 1 leads, `wait` "
    "holds the answer until all of them have ended.",
    responses={200: objects.JobList},
)
def list_jobs(query: schema.ListQuery) -> Response:
    parts = services()
    if query.ids is not None:
        return _several(parts, query.ids.split(","), query.wait or preference().wait_seconds)
    page = parts.jobs.list_page(
        tenant().name,
        states=STATES_OF_STATUS[query.status] if query.status else None,
        fits=lambda job: not query.status or status_of(job) == query.status,
        batch_id=query.batch,
        after=query.cursor or "",
        limit=query.limit,
    )
    shown, cursor = job_objects(parts, page.jobs), page.cursor or None
    response = jsonify({"object": "list", "data": shown, "has_more": cursor is not None, "next_cursor": cursor})
    name_ignored(response, ["wait"] if query.wait else [])
    return response


def _several(parts: Services, ids: Sequence[str], seconds: int) -> Response:
    """The jobs with these ids, in their order; ids that are not the tenant's are left out, and not waited for."""
    found = [job for job in parts.jobs.get_many(ids) if job is not None and job.tenant == tenant().name]
    if seconds and not all(job.state.is_terminal for job in found):
        with parts.long_waits.place(tenant().name):
            ended = wait_for_end(parts, [job.id for job in found], seconds, require_still_open)
        found = [job for job in ended if job is not None]
    shown = job_objects(parts, found)
    response = jsonify({"object": "list", "data": shown, "has_more": False, "next_cursor": None})
    if preference().wait_seconds:
        _name_preference(response, preference())
    return response


@jobs.get(
    "/v1/jobs/<string(length=32):job_id>",
    summary="Look at a job, or wait for its end",
    description="`wait` holds the answer until the job has ended. With `If-None-Match` it holds it until the job "
    "looks different, and answers 304 when it does not.",
    responses={200: objects.JobObject, 304: NOT_CHANGED, **problems(404, 410)},
)
def look(path: schema.JobPath, query: schema.JobQuery) -> Response:
    parts, owner = services(), tenant()
    seen = parts.jobs.look([path.job_id], owner.name, owner.limits) if JOB_ID.fullmatch(path.job_id) else None
    job = own_job(path.job_id, seen.jobs[0] if seen else None)
    seconds = query.wait or preference().wait_seconds
    if seen is not None and (not seconds or job.state.is_terminal):
        known_use(seen.use)
        response = _tagged(job_object(parts, job, seen.places))
    else:
        response = _tagged(job_object(parts, _wait(parts, job, seconds)))
    if preference().wait_seconds:
        _name_preference(response, preference())
    response.make_conditional(request)
    return response


def _tagged(shown: dict[str, object]) -> Response:
    response = jsonify(shown)
    response.headers["Cache-Control"] = "private, no-cache"
    response.add_etag()
    return response


def _wait(parts: Services, job: Job, seconds: int) -> Job:
    """The job at its end; or, for a caller that shows an ETag, as soon as it looks different."""
    seen = request.if_none_match

    def is_done(now: Job | None) -> bool:
        if now is None or now.state.is_terminal:
            return True
        return bool(seen) and not seen.contains_weak(_tagged(job_object(parts, now)).get_etag()[0] or "")

    with parts.long_waits.place(job.tenant):
        until = time.monotonic() + seconds
        return wait_until(parts, job.id, is_done, until, require_still_open) or find_job(job.id)


@jobs.delete(
    "/v1/jobs/<string(length=32):job_id>",
    summary="Delete an ended job: record, prompt and picture",
    responses={204: None, **problems(404, 409)},
)
def delete(path: schema.JobPath) -> Response:
    parts = services()
    try:
        job = find_job(path.job_id)
    except Gone:
        return Response(status=204)  # deleted before: the same call again is no error
    if not job.state.is_terminal:
        raise Conflict("The job has not ended; cancel it first.")
    parts.jobs.remove(job.id)  # retention deletes the picture, unless another job shows it too
    return Response(status=204)


@jobs.post(
    "/v1/jobs/<string(length=32):job_id>/cancel",
    summary="Cancel a job",
    description="Safe to repeat. A running job stops within one step and reads `canceling` until then; one whose "
    "picture others wait for (`dedup`) until that is drawn for them.",
    responses={200: objects.JobObject, **problems(404, 410)},
)
def cancel(path: schema.JobPath) -> Response:
    parts, job = services(), find_job(path.job_id)
    parts.jobs.cancel(job.id)
    return jsonify(job_object(parts, find_job(job.id)))


@jobs.post(
    "/v1/jobs/cancel",
    summary="Cancel several jobs, all or none",
    description="If one of the ids is not a job of yours, nothing is canceled.",
    responses={200: objects.JobList, **problems(404, 410)},
)
def cancel_many(body: schema.CancelMany) -> Response:
    parts = services()
    chosen = [_find_named(job_id) for job_id in dict.fromkeys(body.ids)]
    parts.jobs.cancel_many([job.id for job in chosen])
    found = parts.jobs.get_many([job.id for job in chosen])
    shown = job_objects(parts, [job for job in found if job is not None])
    return jsonify({"object": "list", "data": shown, "has_more": False, "next_cursor": None})


@jobs.get(
    "/v1/jobs/<string(length=32):job_id>/events",
    summary="Follow a job as server-sent events",
    description="`status`, `progress`, `output`, `error`; resume with `Last-Event-ID`; ends with the job.",
    responses={200: EVENT_STREAM, 204: None, **problems(404, 410)},
)
def follow(path: schema.JobPath) -> Response:
    job = find_job(path.job_id)
    return events.stream(services(), g.caller, job, request.headers.get("Last-Event-ID", ""))


def _find_named(job_id: str) -> Job:
    """As find_job; the refusal names which of several it was."""
    try:
        return find_job(job_id)
    except NotFound:
        raise NotFound(f"There is no job with the id {printable(job_id)}; nothing was canceled.") from None


def find_job(job_id: str) -> Job:
    """The tenant's own job. Raises NotFound for another's as well, so that ids tell nothing; Gone for a removed one."""
    return own_job(job_id, services().jobs.get(job_id) if JOB_ID.fullmatch(job_id) else None)


def own_job(job_id: str, job: Job | None) -> Job:
    """`job`, what was found under the id, as `find_job` gives it out."""
    if job is not None and job.tenant == g.tenant.name:
        return job
    if job is None and JOB_ID.fullmatch(job_id) and services().jobs.was_removed(job_id):
        raise Gone(DELETED)
    raise NotFound("There is no job with this id.")
