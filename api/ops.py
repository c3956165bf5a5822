"""/healthz, /readyz and /metrics: for probes and Prometheus, without a key."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from flask import Response, current_app, jsonify
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from api.context import Services, services
from api.openapi_parts import OPERATIONS, routes
from core.errors import Unavailable, ZimgError
from core.job_reader import STAGE_BOUNDS_MS, QueueDepth, StageTimes
from core.metrics import REGISTRY, ModelReading, ServiceCollector, ServiceReading, StageReading
from core.redis_client import redis_errors
from core.redis_memory import redis_memory

ops = routes("ops", OPERATIONS)

#: An object that is never there; asking for it tells whether the storage answers.
NO_OBJECT = "readiness/none.png"
TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}

log = structlog.get_logger(__name__)


@ops.get("/healthz", summary="Whether this process answers", responses={200: {"description": "It does"}})
def healthz() -> Response:
    return jsonify({"status": "ok", "uptime_sec": int(time.monotonic() - services().started_monotonic)})


@ops.get(
    "/readyz",
    summary="Whether pictures can be drawn now",
    responses={200: {"description": "They can"}, 503: {"description": "Not now; `checks` says why"}},
)
def readyz() -> Response:
    parts = services()
    checks = {
        "redis": _state(lambda: _ping(parts)),
        "storage": _state(lambda: parts.images.head(NO_OBJECT)),
        "workers": _state(lambda: _require_workers(parts)),
    }
    is_ready = all(state == "ok" for state in checks.values())
    response = jsonify({"status": "ready" if is_ready else "not ready", "checks": checks})
    response.status_code = 200 if is_ready else 503
    response.headers["Cache-Control"] = "no-store"
    return response


@ops.get("/metrics", summary="Prometheus metrics", responses={200: TEXT})
def metrics() -> Response:
    registry: CollectorRegistry = current_app.extensions["zimg-registry"]
    return Response(generate_latest(REGISTRY) + generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def service_registry(parts: Services) -> CollectorRegistry:
    """What Redis knows of the whole service, read at each scrape."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(lambda: _reading(parts)))
    return registry


def _reading(parts: Services) -> ServiceReading | None:
    try:
        depth, workers, tallies = parts.jobs.depth(), parts.jobs.live_workers(), parts.jobs.tallies()
        memory = redis_memory(parts.redis)
    except ZimgError:
        return None
    return ServiceReading(
        waiting=dict(depth.waiting) | {"retry": depth.retrying},
        released=depth.released,
        running=depth.running,
        oldest_waiting_seconds=depth.oldest_waiting_seconds,
        dead_letters=depth.dead_letters,
        workers=depth.workers,
        worker_slots=depth.worker_slots,
        outcomes={state.lower(): count for state, count in depth.outcomes.items()},
        dedup_hits=tallies.dedup_hits,
        webhook_attempts=tallies.webhook_attempts,
        put_aside=tallies.put_aside,
        stages={stage: _stage(times) for stage, times in tallies.stages.items()},
        audit=tallies.audit,
        audited_ms=tallies.audit.get("at", 0),
        models=_models(parts, depth),
        worker_gauges={worker.name: worker.gauges for worker in workers},
        redis_used_bytes=memory.used_bytes if memory else 0,
        redis_most_bytes=memory.most_bytes if memory else 0,
    )


def _models(parts: Services, depth: QueueDepth) -> dict[str, ModelReading]:
    """By the model's id; the default one is nameless in the queue."""
    return {
        name or parts.profile.id: ModelReading(
            outstanding=one.outstanding,
            paused=one.paused,
            runnable=one.runnable,
            worker_slots=one.worker_slots,
            seconds_per_picture=one.gap_seconds,
        )
        for name, one in depth.models.items()
    }


def _stage(times: StageTimes) -> StageReading:
    bounds = [*(f"{bound / 1000:g}" for bound in STAGE_BOUNDS_MS), "+Inf"]
    return StageReading(buckets=list(zip(bounds, times.up_to, strict=True)), seconds=times.seconds)


def _state(check: Callable[[], object]) -> str:
    try:
        check()
    except ZimgError as error:
        return f"{error.code}: {error}"
    return "ok"


def _ping(parts: Services) -> None:
    with redis_errors():
        parts.redis.ping()


def _require_workers(parts: Services) -> None:
    least, alive = parts.settings.min_workers, len(parts.jobs.live_workers())
    if alive < least:
        raise Unavailable(f"{alive} of at least {least} workers alive")
