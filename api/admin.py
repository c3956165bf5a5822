"""/v1/admin, the half about people: tenants, limits, bans, usage, keys, invites. Only the admin key opens it."""

from __future__ import annotations

import math
import time

from flask import Response, jsonify, make_response

from api import admin_objects as objects
from api.accounts import KeyPath, NewKeyObject, key_object
from api.auth import require_admin
from api.context import Services, services
from api.openapi_parts import ADMIN, ADMIN_SECURITY, problems, routes
from core.errors import NotFound
from core.job import JobState
from scheduler.overview import HISTORY_DAYS, Overview
from scheduler.tenants import Tenant

admin = routes("admin", ADMIN, ADMIN_SECURITY)
admin.before_request(require_admin)

OPEN_STATES = tuple(state for state in JobState if not state.is_terminal)
LIMITS = tuple(objects.LimitsObject.model_fields)


@admin.get("/v1/admin/tenants", summary="List tenants", responses={200: objects.TenantList})
def list_tenants() -> Response:
    parts, names = services(), _names(services())
    today = Overview(parts.jobs).usage(names, 1)
    shown = [objects.tenant_object(parts.tenants.get(name), today[name][0]) for name in names]
    return jsonify(objects.TenantList(data=shown).model_dump(mode="json"))


@admin.get("/v1/admin/tenants/<tenant>", summary="Look at a tenant", responses={200: objects.TenantObject})
def look(path: objects.TenantPath) -> Response:
    return _shown(services().tenants.get(path.tenant))


@admin.patch(
    "/v1/admin/tenants/<tenant>",
    summary="Change a tenant's limits, lanes, weight or default preset",
    responses={200: objects.TenantObject},
)
def change(path: objects.TenantPath, body: objects.TenantChange) -> Response:
    limits = {name: value for name in LIMITS if (value := getattr(body, name)) is not None}
    return _shown(services().tenants.change(path.tenant, limits, preset=body.preset, lanes=body.lanes))


@admin.post(
    "/v1/admin/tenants/<tenant>/ban",
    summary="Ban a tenant",
    description="All its keys answer 403 with the reason, from the next request on; a list that is coming in stops. "
    "Jobs that wait are drawn unless `cancel_jobs` is true. The tenants `local` and `admin` can not be banned.",
    responses={200: objects.TenantObject},
)
def ban(path: objects.TenantPath, body: objects.Ban) -> Response:
    parts = services()
    banned = parts.tenants.ban(path.tenant, body.reason)
    parts.jobs.stop_lists(path.tenant)
    if body.cancel_jobs:
        cancel_open(parts, path.tenant)
    return _shown(banned)


@admin.post("/v1/admin/tenants/<tenant>/unban", summary="End a ban", responses={200: objects.TenantObject})
def unban(path: objects.TenantPath) -> Response:
    return _shown(services().tenants.unban(path.tenant))


@admin.get("/v1/admin/tenants/<tenant>/usage", summary="A tenant's usage by day", responses={200: objects.TenantUsage})
def tenant_usage(path: objects.TenantPath, query: objects.DaysQuery) -> Response:
    return jsonify(_usage(services(), [path.tenant], query.days)[0].model_dump())


@admin.get("/v1/admin/usage", summary="Usage of every tenant by day", responses={200: objects.UsageList})
def usage(query: objects.DaysQuery) -> Response:
    found = _usage(services(), _names(services()), query.days)
    found.sort(key=lambda one: (-one.used_today, -one.used, one.tenant))
    return jsonify(objects.UsageList(data=found).model_dump())


@admin.post(
    "/v1/admin/keys/<key_id>/rotate",
    summary="Replace a key by a new one",
    description="The old key stops at once, or after `overlap_seconds`. The new key is shown this once.",
    responses={201: NewKeyObject, **problems(404)},
)
def rotate(path: KeyPath, body: objects.Overlap) -> Response:
    made = services().tenants.rotate_key(path.key_id, overlap_seconds=body.overlap_seconds, by_operator=True)
    if made is None:
        raise NotFound("There is no such open key, or more than one begins like this.")
    return make_response(jsonify({**key_object(made[1]), "key": made[0]}), 201)


@admin.post(
    "/v1/admin/invites",
    summary="Make an invite",
    description="Its code lets `uses` people sign up by themselves where `ZIMG_SIGN_UP=invite`.",
    responses={201: objects.NewInviteObject},
)
def create_invite(body: objects.InviteCreate) -> Response:
    code, made = services().invites.create(
        uses=body.uses,
        expires_ms=services().tenants.now_ms() + body.expires_in * 1000 if body.expires_in else 0,
        label=body.label,
        daily_units=-1 if body.daily_units is None else body.daily_units,
    )
    return make_response(jsonify({**objects.invite_object(made).model_dump(), "code": code}), 201)


@admin.get("/v1/admin/invites", summary="List invites", responses={200: objects.InviteList})
def list_invites() -> Response:
    shown = [objects.invite_object(one) for one in services().invites.list_invites()]
    return jsonify(objects.InviteList(data=shown).model_dump())


@admin.delete("/v1/admin/invites/<invite_id>", summary="Withdraw an invite", responses={204: None, **problems(404)})
def withdraw_invite(path: objects.InvitePath) -> Response:
    if not services().invites.withdraw(path.invite_id):
        raise NotFound("There is no invite with this id.")
    return Response(status=204)


def cancel_open(parts: Services, owner: str, *, until: float = math.inf) -> int:
    """Cancel a tenant's jobs that have not ended, as far as that goes by `until` (monotonic); how many were asked."""
    parts.jobs.stop_lists(owner)  # first, so that nothing comes in behind what is canceled
    count, cursor, is_over = 0, "", False
    while not is_over and time.monotonic() < until:
        page = parts.jobs.list_ids(owner, states=OPEN_STATES, after=cursor)
        parts.jobs.cancel_many(page.ids)
        count, cursor, is_over = count + len(page.ids), page.cursor, not page.cursor
    return count


def _names(parts: Services) -> list[str]:
    return sorted(parts.tenants.names() | Overview(parts.jobs).tenants_with_jobs())


def _usage(parts: Services, names: list[str], days: int = HISTORY_DAYS) -> list[objects.TenantUsage]:
    return [
        objects.TenantUsage(
            tenant=name, used_today=found[-1].used, used=sum(day.used for day in found), days=objects.day_objects(found)
        )
        for name, found in Overview(parts.jobs).usage(names, days).items()
    ]


def _shown(tenant: Tenant) -> Response:
    today = Overview(services().jobs).usage([tenant.name], 1)[tenant.name][0]
    return jsonify(objects.tenant_object(tenant, today).model_dump(mode="json"))
