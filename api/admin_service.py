"""/v1/admin, the half about the running service: queue, workers, pause and drain, dead letters, webhook failures."""

from __future__ import annotations

from flask import Response, jsonify, make_response

from api import admin_objects, schema
from api import admin_service_objects as objects
from api.auth import require_admin
from api.context import Services, services
from api.jobs import Conflict
from api.openapi_parts import ADMIN, ADMIN_SECURITY, problems, routes
from core.errors import InvalidRequest, NotFound
from core.job import JobState, Lane
from core.presets import find_preset
from scheduler.dead_letters import DeadLetters
from scheduler.overview import Overview, TenantQueue
from scheduler.submission import work_of
from scheduler.tenants import ADMIN as OPERATOR
from scheduler.tenants import LOCAL
from scheduler.traffic import Flow, Kind, Stop, Traffic

admin_service = routes("admin_service", ADMIN, ADMIN_SECURITY)
admin_service.before_request(require_admin)

Stops = dict[tuple[Kind, str], Flow]
TENANTS_SHOWN = 200
FAILURES_SHOWN = 100


@admin_service.get(
    "/v1/admin/overview", summary="The whole service at one glance", responses={200: objects.OverviewObject}
)
def overview() -> Response:
    parts = services()
    stops = Traffic(parts.jobs).stops()
    are_off = [one.endpoint_disabled_because is not None for one in _hook_failures(parts)]
    shown = objects.OverviewObject(
        queue=_queue(parts, _by_name(stops)),
        workers=_workers(parts, _by_name(stops)),
        stopped=[_stop(one) for one in stops],
        dead_letters=parts.jobs.depth().dead_letters,
        webhook_failures=are_off.count(False),
        webhook_failures_off=are_off.count(True),
    )
    return jsonify(shown.model_dump(mode="json"))


@admin_service.get("/v1/admin/traffic", summary="What is paused or draining", responses={200: admin_objects.StopList})
def list_stops() -> Response:
    shown = [_stop(one) for one in Traffic(services().jobs).stops()]
    return jsonify(admin_objects.StopList(data=shown).model_dump(mode="json"))


@admin_service.put(
    "/v1/admin/traffic/<kind>/<name>",
    summary="Pause, drain or resume a lane, a tenant or a worker",
    description="`paused`: new jobs are taken in and wait. `draining`: a lane or tenant answers new work with 503, and "
    "what waits is drawn. A worker that is paused or draining takes up nothing more. What runs goes on.",
    responses={200: admin_objects.StopObject, **problems(404)},
)
def set_flow(path: admin_objects.StopPath, body: admin_objects.FlowChange) -> Response:
    parts = services()
    if path.kind is Kind.WORKER and body.state is not Flow.OPEN:
        _require_alive(parts, path.name)
    if path.kind is Kind.TENANT and body.state is not Flow.OPEN:
        _require_known(parts, path.name)
    Traffic(parts.jobs).set(path.kind, path.name, body.state)
    return jsonify(_stop(Stop(path.kind, path.name, body.state)).model_dump(mode="json"))


@admin_service.get(
    "/v1/admin/waiting", summary="List the jobs that wait in a tenant's lane", responses={200: objects.WaitingList}
)
def list_waiting(query: objects.WaitingQuery) -> Response:
    found = Overview(services().jobs).waiting_jobs(query.tenant, query.lane, limit=query.limit)
    return jsonify(objects.WaitingList(data=[objects.waiting_job(job) for job in found]).model_dump(mode="json"))


@admin_service.post(
    "/v1/admin/jobs/<string(length=32):job_id>/move",
    summary="Move a waiting job to the front or the back of its tenant's lane",
    description="Only a job that waits in its queue; what is on its way to a worker answers 409. The same move again "
    "changes nothing, and what other tenants get stays as it is.",
    responses={200: objects.WaitingJob, **problems(404, 409)},
)
def move(path: schema.JobPath, body: objects.Move) -> Response:
    store = services().jobs
    state, job = store.move(path.job_id, to_front=body.to == "front"), store.get(path.job_id)
    if state is None or job is None:
        raise NotFound("There is no job with this id.")
    if state is not JobState.QUEUED:
        raise Conflict("The job does not wait in a queue; only a waiting job can be moved.")
    return jsonify(objects.waiting_job(job).model_dump(mode="json"))


@admin_service.get(
    "/v1/admin/dead-letters",
    summary="List jobs that ended badly",
    description="Newest first. A page looks at 1,000 letters at most: with a filter it may hold fewer than `limit`, or "
    "none, and still have a `next_cursor`; go on until `has_more` is false.",
    responses={200: objects.LetterList},
)
def list_letters(query: objects.LetterQuery) -> Response:
    page = _letters(services()).list_page(
        tenant=query.tenant, code=query.code, limit=query.limit, after=query.cursor or ""
    )
    shown, cursor = [objects.letter_object(job) for job in page.jobs], page.cursor or None
    listed = objects.LetterList(data=shown, has_more=cursor is not None, next_cursor=cursor)
    return jsonify(listed.model_dump())


@admin_service.post(
    "/v1/admin/dead-letters/<string(length=32):job_id>/requeue",
    summary="Try a dead job again",
    description="As a new job with its own reservation; again with the same letter it is the same new job.",
    responses={201: objects.Requeued, **problems(404, 429)},
)
def requeue(path: schema.JobPath) -> Response:
    parts = services()
    job = parts.jobs.get(path.job_id)
    done = None if job is None else _letters(parts).requeue(job.id, parts.tenants.get(job.tenant))
    if done is None:
        raise NotFound("There is no dead letter with this id.")
    shown = objects.Requeued(letter=path.job_id, job_id=done.job_id, refused=None)
    response = make_response(jsonify(shown.model_dump()), 201)
    response.headers["Location"] = f"/v1/jobs/{done.job_id}"
    return response


@admin_service.post(
    "/v1/admin/dead-letters/requeue",
    summary="Try dead jobs again by filter",
    description="Those of a `tenant`, of a `code`, or `all`, newest first, until `limit` are tried again. One that a "
    "limit, a drain or a ban refuses stays a letter and does not count; `next_cursor`, sent as the next call's "
    "`cursor`, passes over such. A call looks at 1,000 letters at most, and may find none and have a `next_cursor`.",
    responses={200: objects.RequeuedList},
)
def requeue_many(body: objects.RequeueMany) -> Response:
    if not (body.all or body.tenant or body.code):
        raise InvalidRequest("Name a tenant or a code, or send all: true.", field="all", code="missing_field")
    parts = services()
    many = _letters(parts).requeue_many(tenant=body.tenant, code=body.code, limit=body.limit, after=body.cursor or "")
    shown = [objects.Requeued(letter=one.letter, job_id=one.job_id, refused=one.refused) for one in many.tried]
    return jsonify(objects.RequeuedList(data=shown, next_cursor=many.next_cursor or None).model_dump())


@admin_service.get(
    "/v1/admin/webhook-failures", summary="List deliveries that failed", responses={200: objects.HookFailureList}
)
def list_hook_failures() -> Response:
    return jsonify(objects.HookFailureList(data=_hook_failures(services())).model_dump())


def _hook_failures(parts: Services) -> list[objects.HookFailure]:
    found = [one for one in parts.webhooks.failures(limit=FAILURES_SHOWN) if one.attempts]
    endpoints = {wanted: parts.webhooks.endpoint(wanted) for wanted in {one.endpoint_id for one in found}}
    return [objects.hook_failure(one, endpoints[one.endpoint_id]) for one in found]


def _letters(parts: Services) -> DeadLetters:
    return DeadLetters(parts.jobs, parts.settings, parts.submission.reuse, parts.submission.fingerprint_now)


def _queue(parts: Services, stops: Stops) -> objects.QueueObject:
    depth = parts.jobs.depth()
    width, height = parts.profile.default_size
    return objects.QueueObject(
        lanes=[
            objects.LaneQueue(lane=lane, waiting=depth.waiting.get(lane, 0), state=_flow(stops, Kind.LANE, lane))
            for lane in Lane
        ],
        tenants=[
            objects.TenantQueueObject(
                tenant=one.tenant,
                interactive=one.waiting[Lane.INTERACTIVE],
                batch=one.waiting[Lane.BATCH],
                running=one.running,
                state=_flow(stops, Kind.TENANT, one.tenant),
            )
            for one in _tenant_queues(parts, stops)
        ],
        retrying=depth.retrying,
        released=depth.released,
        running=depth.running,
        oldest_waiting_seconds=round(depth.oldest_waiting_seconds, 1),
        seconds_per_picture=round(depth.gap_seconds * work_of(width, height, find_preset(parts.settings.preset)), 3),
        usual_size=f"{width}x{height}",
    )


def _tenant_queues(parts: Services, stops: Stops) -> list[TenantQueue]:
    """The longest queues, and every stopped tenant, however short its own is."""
    stopped = {name for kind, name in stops if kind is Kind.TENANT}
    found = Overview(parts.jobs).queues(stopped)
    return found[:TENANTS_SHOWN] + [one for one in found[TENANTS_SHOWN:] if one.tenant in stopped]


def _workers(parts: Services, stops: Stops) -> list[objects.WorkerObject]:
    workers = sorted(parts.jobs.live_workers(), key=lambda worker: worker.name)
    held = Overview(parts.jobs).held_jobs([worker.name for worker in workers])
    now_ms = parts.tenants.now_ms()  # by the clock that dates the heartbeats
    return [
        objects.worker_object(worker, held[worker.name], _flow(stops, Kind.WORKER, worker.name), now_ms)
        for worker in workers
    ]


def _require_alive(parts: Services, name: str) -> None:
    if all(worker.name != name for worker in parts.jobs.live_workers()):
        raise NotFound("No worker of this name is alive.")


def _require_known(parts: Services, name: str) -> None:
    """A stop of a name that nobody has would wait in silence for whoever gets it."""
    if name not in {LOCAL, OPERATOR, *parts.tenants.names(), *Overview(parts.jobs).tenants_with_jobs()}:
        raise NotFound("There is no tenant of this name.")


def _by_name(stops: list[Stop]) -> Stops:
    return {(one.kind, one.name): one.flow for one in stops}


def _flow(stops: Stops, kind: Kind, name: str) -> Flow:
    return stops.get((kind, name), Flow.OPEN)


def _stop(stop: Stop) -> admin_objects.StopObject:
    return admin_objects.StopObject(kind=stop.kind, name=stop.name, state=stop.flow)
