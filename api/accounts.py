"""Keys, the page's session, and what a tenant has used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from flask import Response, jsonify, make_response, request
from pydantic import BaseModel, Field, StrictInt, StrictStr

from api import schema
from api.auth import caller_of_key, find_caller, keyless, require_admin, require_same_origin, require_tenant
from api.context import Services, services, tenant
from api.openapi_parts import ACCOUNT, ADMIN_SECURITY, SECURITY, problems, routes
from api.sessions import COOKIE, SESSION_SECONDS, close_session, open_session
from core.errors import NotFound, Unauthenticated
from core.settings import MOST
from scheduler.tenants import NO_LIMIT, ApiKey

keys = routes("keys", ACCOUNT, ADMIN_SECURITY)
keys.before_request(require_admin)

#: No guard before it: signing in is how one becomes somebody.
session = routes("session", ACCOUNT, [])

usage = routes("usage", ACCOUNT, SECURITY)
usage.before_request(require_tenant)


class KeyCreate(schema.Exact):
    """A key to make."""

    tenant: Annotated[
        StrictStr,
        Field(
            description="Who pays: a-z, 0-9, _ . -",
            examples=["shop-1"],
            json_schema_extra={"pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$"},
        ),
    ]
    label: Annotated[StrictStr, Field(max_length=100, description="A note to find it again.")] = ""
    admin: Annotated[bool, Field(strict=True, description="Whether it opens the operator's routes.")] = False
    expires_in: Annotated[
        Annotated[StrictInt, Field(ge=60, le=10 * 366 * 86_400), schema.WHOLE] | None,
        Field(description="Seconds; never if absent."),
    ] = None
    daily_units: Annotated[
        Annotated[StrictInt, Field(ge=0, le=MOST), schema.WHOLE] | None,
        Field(description="Pictures a day (UTC) by this key alone; as many as its account may draw if absent."),
    ] = None
    burst: Annotated[
        Annotated[StrictInt, Field(ge=1, le=MOST), schema.WHOLE] | None,
        Field(
            description="Pictures at once by this key alone, at its account's rate; as many as its account's if absent."
        ),
    ] = None


class KeyPath(BaseModel):
    """A key's id: its SHA-256, or at least the first 8 characters of it."""

    key_id: str


class KeyObject(BaseModel):
    """A key as it may be shown."""

    id: str
    object: Literal["key"] = "key"
    tenant: str
    label: str
    hint: str
    admin: bool
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None
    daily_units: Annotated[int | None, Field(description="Its own limit of pictures a day, if it has one.")]
    burst: Annotated[int | None, Field(description="Its own limit of pictures at once, if it has one.")]


class NewKeyObject(KeyObject):
    """A new key. `key` is shown this once and kept nowhere."""

    key: str


class KeyList(BaseModel):
    """All keys, oldest first."""

    object: Literal["list"] = "list"
    data: list[KeyObject]


class SignIn(schema.Body):
    """The key that a session stands for."""

    key: Annotated[StrictStr, Field(min_length=1, max_length=256)]


class SessionObject(BaseModel):
    """Who the page is."""

    object: Literal["session"] = "session"
    signed_in: bool
    tenant: str | None
    admin: bool
    key_required: bool


class UsageObject(BaseModel):
    """What a tenant has used today (UTC), in pictures, and what its limits are."""

    object: Literal["usage"] = "usage"
    tenant: str
    daily_limit: int
    daily_used: int
    daily_reserved: Annotated[
        int, Field(description="Of pictures that are not done, lists that are coming in included.")
    ]
    daily_remaining: int
    resets_in_seconds: int
    burst: int
    burst_per_second: float
    queued_jobs_limit: int
    queued_jobs: Annotated[int, Field(description="Pictures that wait.")]
    queued_jobs_held: Annotated[int, Field(description="Room that lists keep which are coming in.")]
    queued_jobs_remaining: int
    running_jobs_limit: int


@keys.post("/v1/keys", summary="Make a key (admin)", responses={201: NewKeyObject})
def create(body: KeyCreate) -> Response:
    expires_ms = services().tenants.now_ms() + body.expires_in * 1000 if body.expires_in else 0
    key, made = services().tenants.create_key(
        body.tenant,
        label=body.label,
        is_admin=body.admin,
        expires_ms=expires_ms,
        daily_units=NO_LIMIT if body.daily_units is None else body.daily_units,
        burst=NO_LIMIT if body.burst is None else body.burst,
    )
    return make_response(jsonify({**key_object(made), "key": key}), 201)


@keys.get("/v1/keys", summary="List keys (admin)", responses={200: KeyList})
def list_keys() -> Response:
    return jsonify({"object": "list", "data": [key_object(key) for key in services().tenants.list_keys()]})


@keys.delete("/v1/keys/<key_id>", summary="Revoke a key (admin)", responses={204: None, **problems(404)})
def revoke(path: KeyPath) -> Response:
    if not services().tenants.revoke_key(path.key_id):
        raise NotFound("There is no such key, or more than one begins like this.")
    return Response(status=204)


@session.get("/v1/session", summary="Who am I", responses={200: SessionObject})
def who() -> Response:
    return jsonify(_session_object(services()))


@session.post(
    "/v1/session",
    summary="Exchange a key for a session of the page",
    responses={200: SessionObject},
)
def sign_in(body: SignIn) -> Response:
    parts = services()
    require_same_origin(parts)
    caller = caller_of_key(parts, body.key.strip())
    if caller is None:
        raise Unauthenticated("This API key is not known here; it may have been revoked or replaced.")
    shown = SessionObject(signed_in=True, tenant=caller.tenant.name, admin=caller.is_admin, key_required=True)
    response = jsonify(shown.model_dump())
    keep_session(response, parts, caller.key_hash)
    return response


def keep_session(response: Response, parts: Services, key_hash: str) -> None:
    """Give the page a session that stands for the key with this hash."""
    response.set_cookie(
        COOKIE,
        open_session(parts.redis, key_hash),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure or parts.settings.public_base_url.startswith("https://"),
    )


@session.delete("/v1/session", summary="End the page's session", responses={204: None})
def sign_out() -> Response:
    require_same_origin(services())
    token = request.cookies.get(COOKIE, "")
    if token:
        close_session(services().redis, token)
    response = Response(status=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
    return response


@usage.get("/v1/usage", summary="What I have used today", responses={200: UsageObject})
def used() -> Response:
    owner = tenant()
    use = services().jobs.usage(owner.name, owner.limits)
    shown = UsageObject(
        tenant=owner.name,
        daily_limit=use.daily_limit,
        daily_used=use.daily_used,
        daily_reserved=use.daily_reserved,
        daily_remaining=use.daily_remaining,
        resets_in_seconds=round(use.daily_reset_seconds),
        burst=use.burst,
        burst_per_second=owner.limits.of_key.burst_per_second,
        queued_jobs_limit=owner.limits.queued_jobs,
        queued_jobs=use.queue_waiting,
        queued_jobs_held=use.queue_held,
        queued_jobs_remaining=use.queue_remaining,
        running_jobs_limit=owner.limits.running_jobs,
    )
    return jsonify(shown.model_dump())


def _session_object(parts: Services) -> dict[str, Any]:
    caller = find_caller(parts)
    return SessionObject(
        signed_in=caller is not None,
        tenant=caller.tenant.name if caller else None,
        admin=bool(caller and caller.is_admin),
        key_required=not keyless(parts),
    ).model_dump()


def key_object(key: ApiKey) -> dict[str, Any]:
    """A key as it may be shown."""
    return KeyObject(
        id=key.id,
        tenant=key.tenant,
        label=key.label,
        hint=key.hint,
        admin=key.is_admin,
        created_at=key.created_ms // 1000,
        last_used_at=key.last_used_ms // 1000 or None,
        expires_at=key.expires_ms // 1000 or None,
        revoked_at=key.revoked_ms // 1000 or None,
        daily_units=None if key.daily_units == NO_LIMIT else key.daily_units,
        burst=None if key.burst == NO_LIMIT else key.burst,
    ).model_dump()
