"""The forms of the operator's answers about the running service."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from api import schema
from api.admin_objects import HEX_ID, TENANT_PATTERN, StopObject
from api.language import in_readers_language
from core.job import Job, Lane
from core.job_pages import CURSOR_PATTERN
from core.webhook_store import Delivery, Endpoint
from core.workers import WorkerInfo
from scheduler.traffic import Flow

LETTERS_MOST = 200
WAITING_MOST = 200
CODE_PATTERN = "^[a-z_]{1,64}$"


class LaneQueue(BaseModel):
    """One lane."""

    lane: str
    waiting: int
    state: Flow


class TenantQueueObject(BaseModel):
    """One tenant's share of the queue."""

    tenant: str
    interactive: int
    batch: int
    running: int
    state: Flow


class QueueObject(BaseModel):
    """The queue by lane and by tenant, the longest first; a stopped tenant is there without jobs too."""

    lanes: list[LaneQueue]
    tenants: list[TenantQueueObject]
    retrying: int
    released: int
    running: int
    oldest_waiting_seconds: float
    seconds_per_picture: Annotated[
        float,
        Field(description="Between two ends while busy, for `usual_size` in the service's preset; 0: not known yet."),
    ]
    usual_size: Annotated[str, Field(description="The default model's default size.")]


class HeldJob(BaseModel):
    """A job that a worker holds."""

    id: str
    tenant: str
    lane: str
    stage: str | None
    step: int
    steps: int
    started_at: int | None


class WorkerObject(BaseModel):
    """A worker that lives. `state` draining and no jobs: it may be stopped."""

    name: str
    host: str
    device: str
    model: str
    version: str
    slots: int
    state: Flow
    started_at: int
    last_heard_seconds: float
    gpu_memory_used_bytes: int | None
    gpu_memory_total_bytes: int | None
    plan: Annotated[str | None, Field(description="How the engine spends its memory, in words.")]
    jobs: list[HeldJob]


EXAMPLE: dict[str, Any] = {
    "object": "overview",
    "queue": {
        "lanes": [
            {"lane": "interactive", "waiting": 2, "state": "open"},
            {"lane": "batch", "waiting": 812, "state": "paused"},
        ],
        "tenants": [{"tenant": "shop-1", "interactive": 2, "batch": 812, "running": 4, "state": "open"}],
        "retrying": 0,
        "released": 1,
        "running": 4,
        "oldest_waiting_seconds": 93.4,
        "seconds_per_picture": 1.9,
        "usual_size": "1024x1024",
    },
    "workers": [
        {
            "name": "gpu-1-41-a0c3",
            "host": "gpu-1",
            "device": "cuda:0",
            "model": "z-image-turbo",
            "version": "0.1.0",
            "slots": 4,
            "state": "open",
            "started_at": 1764000000,
            "last_heard_seconds": 1.2,
            "gpu_memory_used_bytes": 6012954214,
            "gpu_memory_total_bytes": 8589934592,
            "plan": "ring 2 x 0.32 GiB",
            "jobs": [
                {
                    "id": HEX_ID, "tenant": "shop-1", "lane": "interactive", "stage": "denoise", "step": 2, "steps": 4,
                    "started_at": 1764000400,
                }
            ],
        }
    ],
    "stopped": [{"kind": "lane", "name": "batch", "state": "paused"}],
    "dead_letters": 1,
    "webhook_failures": 0,
    "webhook_failures_off": 2,
}  # fmt: skip


class OverviewObject(BaseModel):
    """The whole service at one glance."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    object: Literal["overview"] = "overview"
    queue: QueueObject
    workers: list[WorkerObject]
    stopped: list[StopObject]
    dead_letters: int
    webhook_failures: Annotated[int, Field(description="To endpoints that are on: what there is to look at.")]
    webhook_failures_off: Annotated[
        int, Field(description="To endpoints that are off, until their owner turns them on.")
    ]


LETTER: dict[str, Any] = {
    "id": HEX_ID, "object": "dead_letter", "tenant": "shop-1", "lane": "batch", "code": "poison",
    "reason": "The job stopped its worker 3 times.", "prompt": "a red mug", "size": "512x512", "attempts": 3,
    "crashes": 3, "created_at": 1764000000, "died_at": 1764000300,
}  # fmt: skip


class LetterObject(BaseModel):
    """A job that ended badly, and why."""

    model_config = ConfigDict(json_schema_extra={"example": LETTER})

    id: str
    object: Literal["dead_letter"] = "dead_letter"
    tenant: str
    lane: str
    code: str
    reason: str
    prompt: str
    size: str
    attempts: int
    crashes: int
    created_at: int
    died_at: int


class LetterList(BaseModel):
    """Dead letters, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"object": "list", "data": [LETTER], "has_more": False, "next_cursor": None}}
    )

    object: Literal["list"] = "list"
    data: list[LetterObject]
    has_more: bool
    next_cursor: str | None


class LetterQuery(BaseModel):
    """Which letters."""

    tenant: Annotated[str | None, Field(pattern=TENANT_PATTERN)] = None
    code: Annotated[str | None, Field(pattern=CODE_PATTERN, description="The reason's code.")] = None
    limit: Annotated[int, Field(ge=1, le=LETTERS_MOST)] = 50
    cursor: Annotated[str | None, Field(pattern=CURSOR_PATTERN, description="`next_cursor` of the page before.")] = None


class RequeueMany(schema.Exact):
    """Which letters to try again: those of one tenant, of one reason, of both; or `all` of them, in so many words."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"code": "storage_failed", "limit": 100}})

    tenant: Annotated[StrictStr | None, Field(pattern=TENANT_PATTERN)] = None
    code: Annotated[StrictStr | None, Field(pattern=CODE_PATTERN)] = None
    all: Annotated[StrictBool, Field(description="Of every tenant, for every reason, unless one is named.")] = False
    limit: Annotated[StrictInt, Field(ge=1, le=LETTERS_MOST), schema.WHOLE] = LETTERS_MOST
    cursor: Annotated[
        StrictStr | None, Field(pattern=CURSOR_PATTERN, description="`next_cursor` of the call before, or of a page.")
    ] = None


class Requeued(BaseModel):
    """A letter and the new job that tries it again; or why it was refused."""

    letter: str
    job_id: str | None
    refused: Annotated[str | None, Field(description="An error code, such as quota_exceeded.")]


class RequeuedList(BaseModel):
    """What became of each letter, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "object": "list",
                "data": [{"letter": HEX_ID, "job_id": HEX_ID[::-1], "refused": None}],
                "next_cursor": None,
            }
        }
    )

    object: Literal["list"] = "list"
    data: list[Requeued]
    next_cursor: Annotated[str | None, Field(description="Where the next call goes on; null at the end.")]


WAITING: dict[str, Any] = {
    "id": HEX_ID, "tenant": "shop-1", "lane": "batch", "model": "z-image-turbo", "priority": "normal",
    "created_at": 1764000000,
}  # fmt: skip


class WaitingQuery(BaseModel):
    """Whose jobs."""

    tenant: Annotated[str, Field(pattern=TENANT_PATTERN)]
    lane: Lane
    limit: Annotated[int, Field(ge=1, le=WAITING_MOST)] = 50


class WaitingJob(BaseModel):
    """A job in its tenant's lane; its prompt is nobody's business here."""

    model_config = ConfigDict(json_schema_extra={"example": WAITING})

    id: str
    tenant: str
    lane: Lane
    model: str
    priority: Literal["low", "normal", "high"]
    created_at: int


class WaitingList(BaseModel):
    """The jobs of one tenant's lane, the next first; for each model by itself."""

    model_config = ConfigDict(json_schema_extra={"example": {"object": "list", "data": [WAITING]}})

    object: Literal["list"] = "list"
    data: list[WaitingJob]


class Move(schema.Exact):
    """Where to: before or behind all others of the tenant's lane."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"to": "front"}})

    to: Literal["front", "back"]


def waiting_job(job: Job) -> WaitingJob:
    """A waiting job as the operator sees it."""
    return WaitingJob(
        id=job.id,
        tenant=job.tenant,
        lane=job.lane,
        model=job.request.model,
        priority=job.priority.value,
        created_at=job.created_ms // 1000,
    )


HOOK_FAILURE: dict[str, Any] = {
    "delivery_id": "whd_0123456789abcdef0123456789abcdef", "tenant": "shop-1", "endpoint_id": "wh_0123456789abcdef",
    "url": "https://shop.example/hooks", "type": "job.succeeded", "state": "pending", "attempts": 3, "status": 502,
    "error": None, "last_attempt_at": 1764000000, "next_attempt_at": 1764000300, "endpoint_disabled_because": None,
}  # fmt: skip


class HookFailure(BaseModel):
    """A delivery whose last attempt failed. `state` pending: it is tried again; failed: given up."""

    delivery_id: str
    tenant: str
    endpoint_id: str
    url: str | None
    type: str
    state: str
    attempts: int
    status: int
    error: str | None
    last_attempt_at: int
    next_attempt_at: int | None
    endpoint_disabled_because: str | None


class HookFailureList(BaseModel):
    """Failed deliveries of all tenants, the latest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"object": "list", "data": [HOOK_FAILURE]}})

    object: Literal["list"] = "list"
    data: list[HookFailure]


def held_job(job: Job) -> HeldJob:
    """A job in a worker's hands; its prompt is nobody's business here."""
    progress = job.progress
    return HeldJob(
        id=job.id,
        tenant=job.tenant,
        lane=job.lane,
        stage=progress.stage if progress else None,
        step=progress.step if progress else 0,
        steps=progress.steps if progress else 0,
        started_at=job.started_ms // 1000 or None,
    )


def worker_object(worker: WorkerInfo, jobs: list[Job], state: Flow, now_ms: int) -> WorkerObject:
    """A worker as it is shown."""
    used, total = (worker.gauges.get(f"gpu_memory_{what}_bytes") for what in ("used", "total"))
    return WorkerObject(
        name=worker.name,
        host=worker.host,
        device=worker.device,
        model=worker.model,
        version=worker.version,
        slots=worker.slots,
        state=state,
        started_at=worker.started_ms // 1000,
        last_heard_seconds=round(max(0, now_ms - worker.heartbeat_ms) / 1000, 1),
        gpu_memory_used_bytes=None if used is None else int(used),
        gpu_memory_total_bytes=None if total is None else int(total),
        plan=worker.plan or None,
        jobs=[held_job(job) for job in jobs],
    )


def letter_object(job: Job) -> LetterObject:
    """A dead job as the operator sees it."""
    return LetterObject(
        id=job.id,
        tenant=job.tenant,
        lane=job.lane,
        code=job.failure.code if job.failure else "internal_error",
        reason=in_readers_language(job.failure.message) if job.failure else "",
        prompt=job.request.prompt,
        size=f"{job.request.width}x{job.request.height}",
        attempts=job.attempt,
        crashes=job.crashes,
        created_at=job.created_ms // 1000,
        died_at=job.finished_ms // 1000,
    )


def hook_failure(delivery: Delivery, endpoint: Endpoint | None) -> HookFailure:
    """A failed delivery as the operator sees it."""
    last = delivery.attempts[-1]
    return HookFailure(
        delivery_id=delivery.id,
        tenant=delivery.tenant,
        endpoint_id=delivery.endpoint_id,
        url=delivery.url or (endpoint.url if endpoint else None),
        type=delivery.type,
        state=delivery.state,
        attempts=len(delivery.attempts),
        status=last.status,
        error=in_readers_language(last.error) or None,
        last_attempt_at=last.at_ms // 1000,
        next_attempt_at=max(delivery.next_ms, delivery.created_ms) // 1000 if delivery.state == "pending" else None,
        endpoint_disabled_because=in_readers_language(endpoint.disabled) or None if endpoint else None,
    )
