"""/v1/webhooks: where a tenant's events go, what became of them, a test call, and sending again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from flask import Response, jsonify, make_response
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

from api import schema
from api.auth import require_tenant
from api.context import services, tenant
from api.language import in_readers_language
from api.openapi_parts import SECURITY, WEBHOOKS, problems, routes
from api.webhook_words import OFF_BY_OWNER
from core.errors import InvalidRequest, NotFound, Refusal
from core.webhook_store import Delivery, Endpoint, Secret, WebhookStore, new_secret, now_ms
from scheduler.outbound import OutboundGuard
from scheduler.webhooks import check_event

webhooks = routes("webhooks", WEBHOOKS, SECURITY)
webhooks.before_request(require_tenant)

ENDPOINTS_MOST = 20
OVERLAP_SECONDS = 86_400
#: In place of an id: the tenant's endpoint for what its requests name.
OF_REQUESTS = "requests"

EventType = Literal["job.succeeded", "job.failed", "job.canceled", "batch.completed", "batch.failed", "batch.cancelled"]
Events = Annotated[list[EventType], Field(max_length=6, description="Which events; all of them when empty.")]


class TurnedOff(Refusal):
    """Raised where an event shall go to an endpoint that takes none."""

    code = "conflict"


class EndpointCreate(schema.Body):
    """An endpoint to send events to."""

    url: Annotated[StrictStr, Field(max_length=2_000, description="https://…", examples=["https://shop.example/hooks"])]
    events: Events = Field(default_factory=list)


class EndpointChange(schema.Body):
    """What to change of an endpoint."""

    url: Annotated[StrictStr | None, Field(max_length=2_000)] = None
    events: Events | None = None
    enabled: Annotated[StrictBool | None, Field(description="Off, or on again.")] = None


class Rotation(schema.Body):
    """How long the old secret signs beside the new one."""

    overlap_seconds: Annotated[StrictInt, Field(ge=0, le=30 * 86_400)] = OVERLAP_SECONDS


class EndpointPath(BaseModel):
    """An endpoint's id, or `requests`: the endpoint that signs and logs what goes to the `webhook_url` of requests."""

    endpoint_id: Annotated[str, Field(examples=["wh_0123456789abcdef01234567"])]


class DeliveryPath(EndpointPath):
    """An endpoint's id and that of one of its deliveries."""

    delivery_id: str


class EndpointObject(BaseModel):
    """An endpoint. That of `source` `request` stands for the URLs that your requests name, and has none of its own."""

    id: str
    object: Literal["webhook"] = "webhook"
    url: str | None
    source: Literal["registered", "request"]
    events: list[str]
    enabled: bool
    disabled_because: str | None
    created_at: int


class NewEndpointObject(EndpointObject):
    """An endpoint with its signing secret, which is shown this once."""

    secret: str


class RotatedEndpointObject(NewEndpointObject):
    """An endpoint with its new secret, and when those before end; more than five never sign."""

    old_secrets_end_at: list[int]
    secrets_ended_early: Annotated[
        int, Field(description="Old secrets that end now, before their time: five may sign.")
    ]


class EndpointList(BaseModel):
    """Your endpoints, oldest first."""

    object: Literal["list"] = "list"
    data: list[EndpointObject]


class AttemptObject(BaseModel):
    """One try; `status` 0 means that nobody answered."""

    at: int
    status: int
    duration_ms: int
    error: str | None


class DeliveryObject(BaseModel):
    """One event on its way."""

    id: str
    object: Literal["delivery"] = "delivery"
    event_id: str
    type: str
    url: str | None
    state: Literal["pending", "delivered", "failed"]
    created_at: int
    next_attempt_at: int | None
    attempts: list[AttemptObject]
    body: str


class DeliveryList(BaseModel):
    """An endpoint's deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryObject]
    has_more: bool
    next_cursor: str | None


class DeliveryQuery(BaseModel):
    """Which deliveries, and where to go on."""

    status: Annotated[Literal["failed"] | None, Field(description="Only those that were given up.")] = None
    cursor: Annotated[
        str | None, Field(pattern=r"^whd_[0-9a-f]{32}$", description="`next_cursor` of the page before.")
    ] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


@webhooks.post("/v1/webhooks", summary="Add an endpoint", responses={201: NewEndpointObject})
def create(body: EndpointCreate) -> Response:
    endpoint = Endpoint(
        id=f"wh_{secrets.token_hex(12)}",
        tenant=tenant().name,
        url=_checked(body.url),
        events=tuple(body.events),
        secrets=(Secret(value=new_secret()),),
        created_ms=now_ms(),
    )
    if not _store().save(endpoint, most=ENDPOINTS_MOST):
        raise InvalidRequest(f"There are {ENDPOINTS_MOST} endpoints already; remove one first.", field="url")
    return make_response(jsonify({**_endpoint_object(endpoint), "secret": endpoint.secrets[0].value}), 201)


@webhooks.get("/v1/webhooks", summary="List endpoints", responses={200: EndpointList})
def list_endpoints() -> Response:
    found = _store().endpoints(tenant().name)
    return jsonify({"object": "list", "data": [_endpoint_object(endpoint) for endpoint in found]})


@webhooks.get(
    "/v1/webhooks/<endpoint_id>", summary="Look at an endpoint", responses={200: EndpointObject, **problems(404)}
)
def look(path: EndpointPath) -> Response:
    return jsonify(_endpoint_object(_find(path.endpoint_id)))


@webhooks.patch(
    "/v1/webhooks/<endpoint_id>",
    summary="Change an endpoint, or turn it off or on",
    responses={200: EndpointObject, **problems(404)},
)
def change(path: EndpointPath, body: EndpointChange) -> Response:
    endpoint = _find(path.endpoint_id)
    if body.url is not None:
        _require_url(endpoint)
        _checked(body.url)
    return jsonify(_endpoint_object(_change(endpoint, lambda now: _changed(now, body))))


def _changed(endpoint: Endpoint, body: EndpointChange) -> Endpoint:
    if body.url is not None:
        endpoint = replace(endpoint, url=body.url)
    if body.events is not None:
        endpoint = replace(endpoint, events=tuple(body.events))
    if body.enabled is not None:
        endpoint = replace(endpoint, disabled="" if body.enabled else OFF_BY_OWNER)
    return endpoint


@webhooks.delete("/v1/webhooks/<endpoint_id>", summary="Remove an endpoint", responses={204: None, **problems(404)})
def remove(path: EndpointPath) -> Response:
    _store().remove(_find(path.endpoint_id))
    return Response(status=204)


@webhooks.post(
    "/v1/webhooks/<endpoint_id>/rotate",
    summary="Make a new secret; both sign for a while",
    responses={200: RotatedEndpointObject, **problems(404)},
)
def rotate(path: EndpointPath, body: Rotation) -> Response:
    fresh, ended_early = new_secret(), 0

    def rotated(now: Endpoint) -> Endpoint:
        nonlocal ended_early
        made, ended_early = now.rotated(fresh, now_ms=now_ms(), overlap_ms=body.overlap_seconds * 1000)
        return made

    endpoint = _change(_find(path.endpoint_id), rotated)
    newest, *old = endpoint.secrets
    told = {"old_secrets_end_at": [one.until_ms // 1000 for one in old], "secrets_ended_early": ended_early}
    return jsonify({**_endpoint_object(endpoint), "secret": newest.value, **told})


@webhooks.post(
    "/v1/webhooks/<endpoint_id>/test",
    summary="Send a test event",
    responses={202: DeliveryObject, **problems(404, 409)},
)
def test_call(path: EndpointPath) -> Response:
    endpoint = _find(path.endpoint_id)
    _require_url(endpoint)
    require_on(endpoint)
    delivery = _store().enqueue(endpoint, check_event(endpoint.id, int(time.time())))
    return make_response(jsonify(_delivery_object(delivery)), 202)


@webhooks.get(
    "/v1/webhooks/<endpoint_id>/deliveries",
    summary="What was sent, and what came of it",
    description="For 14 days: the newest 10,000 events of the endpoint, and beside them as many that were given up. "
    "An event that was sent again keeps the 100 attempts before.",
    responses={200: DeliveryList, **problems(404)},
)
def deliveries(path: EndpointPath, query: DeliveryQuery) -> Response:
    found = _store().deliveries(
        _find(path.endpoint_id).id, limit=query.limit + 1, after=query.cursor, failed=query.status == "failed"
    )
    page, has_more = found[: query.limit], len(found) > query.limit
    shown = [_delivery_object(delivery) for delivery in page]
    cursor = page[-1].id if has_more else None
    return jsonify({"object": "list", "data": shown, "has_more": has_more, "next_cursor": cursor})


@webhooks.post(
    "/v1/webhooks/<endpoint_id>/deliveries/<delivery_id>/resend",
    summary="Send an event again",
    responses={202: DeliveryObject, **problems(404, 409)},
)
def resend(path: DeliveryPath) -> Response:
    endpoint, store = _find(path.endpoint_id), _store()
    delivery = store.delivery(path.delivery_id)
    if delivery is None or delivery.endpoint_id != endpoint.id:
        raise NotFound("There is no such delivery.")
    require_on(endpoint)
    return make_response(jsonify(_delivery_object(store.resend(delivery))), 202)


def _store() -> WebhookStore:
    return services().webhooks


def _checked(url: str) -> str:
    return OutboundGuard(services().settings.webhook_allow).check(url)


def _require_url(endpoint: Endpoint) -> None:
    if endpoint.is_for_requests:
        raise InvalidRequest("Each request names the URL; this endpoint has none of its own.", field="url")


def require_on(endpoint: Endpoint) -> None:
    """Raises TurnedOff where nothing may be sent to it."""
    if endpoint.disabled:
        raise TurnedOff("This endpoint is off; it must be turned on first.")


def _find(endpoint_id: str) -> Endpoint:
    if endpoint_id == OF_REQUESTS:
        return _store().for_requests(tenant().name)
    endpoint = _store().endpoint(endpoint_id)
    if endpoint is None or endpoint.tenant != tenant().name:
        raise NotFound("There is no webhook with this id.")
    return endpoint


def _change(endpoint: Endpoint, how: Callable[[Endpoint], Endpoint]) -> Endpoint:
    """The endpoint as changed. Raises NotFound where it was removed meanwhile."""
    changed = _store().change(endpoint, how)
    if changed is None:
        raise NotFound("There is no webhook with this id.")
    return changed


def _endpoint_object(endpoint: Endpoint) -> dict[str, Any]:
    return EndpointObject(
        id=endpoint.id,
        url=endpoint.url or None,
        source="request" if endpoint.is_for_requests else "registered",
        events=list(endpoint.events),
        enabled=not endpoint.disabled,
        disabled_because=in_readers_language(endpoint.disabled) or None,
        created_at=endpoint.created_ms // 1000,
    ).model_dump()


def _delivery_object(delivery: Delivery) -> dict[str, Any]:
    return DeliveryObject(
        id=delivery.id,
        event_id=delivery.event_id,
        type=delivery.type,
        url=delivery.url or None,
        state=delivery.state,  # type: ignore[arg-type]
        created_at=delivery.created_ms // 1000,
        next_attempt_at=max(delivery.next_ms, delivery.created_ms) // 1000 if delivery.state == "pending" else None,
        attempts=[
            AttemptObject(
                at=attempt.at_ms // 1000,
                status=attempt.status,
                duration_ms=attempt.duration_ms,
                error=in_readers_language(attempt.error) or None,
            )
            for attempt in _store().all_attempts(delivery)
        ],
        body=delivery.body,
    ).model_dump()
