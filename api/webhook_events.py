"""The events that webhooks carry, typed: what a receiver may rely on. scheduler/webhooks.py makes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from api.objects import JobErrorObject


class EventImage(BaseModel):
    """A finished picture; its URL needs no key."""

    url: str
    sha256: str
    width: int
    height: int


class JobEventData(BaseModel):
    """The job that ended."""

    id: str
    object: Literal["job"]
    status: Literal["succeeded", "failed", "canceled"]
    seed: int
    metadata: dict[str, Any]
    batch: str | None
    images: list[EventImage]
    error: JobErrorObject | None


class BatchEventCounts(BaseModel):
    """Pictures of the batch by how they ended."""

    total: int
    completed: int
    failed: int
    canceled: int


class BatchEventData(BaseModel):
    """The batch whose last picture ended."""

    id: str
    object: Literal["batch"]
    request_counts: BatchEventCounts
    manifest_url: str


class EndpointEventData(BaseModel):
    """The endpoint that is tested."""

    id: str
    object: Literal["webhook"]


class Event(BaseModel):
    """An event in OpenAI's form; `id` is the same over all tries, so that a receiver can tell a repetition."""

    id: str
    object: Literal["event"]
    created_at: int


class JobSucceededEvent(Event):
    """A job's picture is there."""

    type: Literal["job.succeeded"]
    data: JobEventData


class JobFailedEvent(Event):
    """A job ended without a picture; `data.error` says why."""

    type: Literal["job.failed"]
    data: JobEventData


class JobCanceledEvent(Event):
    """A job was canceled by its owner."""

    type: Literal["job.canceled"]
    data: JobEventData


class BatchCompletedEvent(Event):
    """Every picture of a batch has ended, and at least one is there."""

    type: Literal["batch.completed"]
    data: BatchEventData


class BatchFailedEvent(Event):
    """Every picture of a batch has ended, and none is there."""

    type: Literal["batch.failed"]
    data: BatchEventData


class BatchCancelledEvent(Event):
    """Every picture of a batch was canceled."""

    type: Literal["batch.cancelled"]
    data: BatchEventData


class WebhookTestEvent(Event):
    """What the test call sends."""

    type: Literal["webhook.test"]
    data: EndpointEventData


EVENTS: dict[str, type[Event]] = {
    "job.succeeded": JobSucceededEvent,
    "job.failed": JobFailedEvent,
    "job.canceled": JobCanceledEvent,
    "batch.completed": BatchCompletedEvent,
    "batch.failed": BatchFailedEvent,
    "batch.cancelled": BatchCancelledEvent,
    "webhook.test": WebhookTestEvent,
}
