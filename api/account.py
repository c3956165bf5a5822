"""/v1/account: what is one's own. Usage by day, limits, the key, deleting everything; and signing up with an invite."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from flask import Response, g, jsonify, make_response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from api import schema
from api.accounts import KeyObject, NewKeyObject, keep_session, key_object
from api.admin import cancel_open
from api.admin_objects import LIMITS, TENANT_PATTERN, DayObject, LimitsObject, Overlap, day_objects, limits_object
from api.auth import Caller, client_address, require_same_origin, require_tenant
from api.context import Services, services, tenant
from api.openapi_parts import ACCOUNT, SECURITY, problems, routes
from core.errors import Forbidden, InvalidRequest, Refusal
from core.job import JobState, Lane
from core.redis_client import PREFIX, redis_errors
from scheduler.overview import Overview
from scheduler.tenants import hash_key

account = routes("account", ACCOUNT, SECURITY)
account.before_request(require_tenant)

#: No guard before it: who signs up has no key yet.
sign_up = routes("sign_up", ACCOUNT, [])

#: Of one call that deletes an account's data; what is left waits for the next.
WORK_SECONDS = 3.0
ENDED_STATES = tuple(state for state in JobState if state.is_terminal)

ACCOUNT_EXAMPLE: dict[str, Any] = {
    "object": "account", "tenant": "shop-1", "admin": False, "lanes": ["interactive", "batch"], "preset": None,
    "limits": LIMITS, "used_today": 42, "reserved_today": 3,
    "days": [{"date": "2026-11-23", "used": 118, "reserved": 0}, {"date": "2026-11-24", "used": 42, "reserved": 3}],
    "key": None,
}  # fmt: skip


class NoKey(Refusal):
    """Raised where there is no key that could be replaced."""

    code = "conflict"


class AccountObject(BaseModel):
    """Who you are here, what you may use and have used, and the key that you came with."""

    model_config = ConfigDict(json_schema_extra={"example": ACCOUNT_EXAMPLE})

    object: Literal["account"] = "account"
    tenant: str
    admin: bool
    lanes: list[Lane]
    preset: str | None
    limits: LimitsObject
    used_today: int
    reserved_today: int
    days: Annotated[list[DayObject], Field(description="30 days (UTC), oldest first, today last.")]
    key: Annotated[KeyObject | None, Field(description="null without a key, and for the operator's own.")]


class ConfirmQuery(BaseModel):
    """So that nothing is deleted by mistake."""

    confirm: Annotated[str, Field(description="The account's own name.", examples=["shop-1"])]


class DeletedObject(BaseModel):
    """How much was deleted. One call works for a few seconds: call again while `remaining` is not 0."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"removed": 118, "canceled": 2, "remaining": 0, "ending": 0}}
    )

    removed: int
    canceled: int
    remaining: Annotated[int, Field(description="Jobs that are still there.")]
    ending: Annotated[int, Field(description="Those of them that a worker holds: they stop within a step.")]


class SignUp(schema.Body):
    """An invite's code, and the name of the account that it shall make."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"example": {"code": "invite_Zk3vX9QpL0sT2bRyMx7Qf", "name": "ada"}}
    )

    code: Annotated[StrictStr, Field(min_length=1, max_length=128)]
    name: Annotated[
        StrictStr, Field(min_length=1, max_length=63, description="a-z, 0-9, _ . -", pattern=TENANT_PATTERN)
    ]


class SignUpState(BaseModel):
    """Whether one can sign up here."""

    model_config = ConfigDict(json_schema_extra={"example": {"object": "sign_up", "open": True}})

    object: Literal["sign_up"] = "sign_up"
    open: bool


@account.get("/v1/account", summary="My account", responses={200: AccountObject})
def look() -> Response:
    parts, owner, caller = services(), tenant(), _caller()
    days = Overview(parts.jobs).usage([owner.name])[owner.name]
    key = parts.tenants.key(caller.key_hash) if caller.key_hash else None
    shown = AccountObject(
        tenant=owner.name,
        admin=caller.is_admin,
        lanes=list(owner.lanes),
        preset=owner.preset or None,
        limits=limits_object(owner),
        used_today=days[-1].used,
        reserved_today=days[-1].reserved,
        days=day_objects(days),
        key=KeyObject(**key_object(key)) if key else None,
    )
    return jsonify(shown.model_dump(mode="json"))


@account.post(
    "/v1/account/key/rotate",
    summary="Replace my key by a new one",
    description="The key of this call stops at once, or after `overlap_seconds`; a session of the page goes on. The "
    "new key is shown this once.",
    responses={201: NewKeyObject, **problems(409)},
)
def rotate(body: Overlap) -> Response:
    parts, caller = services(), _caller()
    made = parts.tenants.rotate_key(caller.key_hash, overlap_seconds=body.overlap_seconds) if caller.key_hash else None
    if made is None:
        raise NoKey("There is no key to replace: the operator's own is ZIMG_ADMIN_KEY, and localhost needs none.")
    response = make_response(jsonify({**key_object(made[1]), "key": made[0]}), 201)
    if caller.by_cookie:
        keep_session(response, parts, made[1].id)
    return response


@account.delete(
    "/v1/account/data",
    summary="Delete my data",
    description="Every job with its prompt and picture, every product list, every webhook. What waits is canceled. The "
    "count of pictures drawn stays, for the bill; so do the account and its keys.",
    responses={200: DeletedObject},
)
def delete_data(query: ConfirmQuery) -> Response:
    parts, owner = services(), tenant().name
    if query.confirm != owner:
        raise InvalidRequest(f"confirm must be the account's own name, {owner}.", field="confirm")
    begun = time.monotonic()
    parts.batches.forget_all(owner)
    for endpoint in parts.webhooks.endpoints(owner):
        parts.webhooks.remove(endpoint)
    canceled = cancel_open(parts, owner, until=begun + WORK_SECONDS / 2)  # first, so that nothing more is drawn
    parts.batches.forget_all(owner)  # again: one may have been stored meanwhile
    removed = _remove_ended(parts, owner, until=begun + WORK_SECONDS)
    with redis_errors():
        pipeline = parts.redis.pipeline(transaction=False)
        for kind in ("jobs", "run"):
            pipeline.zcard(f"{PREFIX}{kind}:{owner}")
        remaining, ending = pipeline.execute()
    told = DeletedObject(removed=removed, canceled=canceled, remaining=remaining, ending=min(ending, remaining))
    return jsonify(told.model_dump())


def _remove_ended(parts: Services, owner: str, *, until: float) -> int:
    """Forget ended jobs, as far as that goes by `until`; retention deletes their pictures within seconds."""
    removed, cursor, is_over = 0, "", False
    while not is_over and time.monotonic() < until:
        page = parts.jobs.list_ids(owner, states=ENDED_STATES, after=cursor)
        removed += parts.jobs.remove_many(page.ids)
        cursor, is_over = page.cursor, not page.cursor
    return removed


@sign_up.get("/v1/sign-up", summary="Whether one can sign up", responses={200: SignUpState})
def state() -> Response:
    return jsonify(SignUpState(open=_is_open()).model_dump())


@sign_up.post(
    "/v1/sign-up",
    summary="Sign up with an invite",
    description="Makes an account and its first key, which is shown this once. Only where `ZIMG_SIGN_UP=invite`. "
    "Where the answer was lost, the same call within an hour gives another key, while nobody has used the first.",
    responses={201: NewKeyObject, **problems(429)},
)
def create(body: SignUp) -> Response:
    parts = services()
    require_same_origin(parts)
    if not _is_open():
        raise Forbidden("Nobody can sign up here by themselves; the operator makes keys.")
    address, code = client_address(parts), body.code.strip()
    parts.failed_keys.check(address, hash_key(code))
    try:
        key, made = parts.invites.take(code, body.name)
    except Forbidden:
        parts.failed_keys.failed(address)
        raise
    return make_response(jsonify({**key_object(made), "key": key}), 201)


def _is_open() -> bool:
    return services().settings.sign_up == "invite"


def _caller() -> Caller:
    caller = g.caller
    assert isinstance(caller, Caller)
    return caller
