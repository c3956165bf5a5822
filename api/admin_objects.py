"""The forms of the operator's requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from api import schema
from core.job import Lane
from core.settings import MOST as INT_MOST
from scheduler.invites import Invite
from scheduler.overview import HISTORY_DAYS, DayUse
from scheduler.quota import LEAST_WEIGHT, MOST_WEIGHT
from scheduler.tenants import BAN_REASON_MOST, Tenant
from scheduler.traffic import Flow, Kind

TENANT_PATTERN = "^[a-z0-9][a-z0-9_.-]{0,62}$"
DAY = 86_400
HEX_ID = "9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"

Count = Annotated[StrictInt, Field(ge=0, le=INT_MOST), schema.WHOLE]
Rate = Annotated[float, Field(ge=0, le=INT_MOST, strict=True)]


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": value})


class TenantPath(BaseModel):
    """A tenant's name."""

    tenant: Annotated[str, Field(pattern=TENANT_PATTERN, examples=["shop-1"])]


class LimitsObject(BaseModel):
    """What a tenant may use; `weight` is its share when all want more than there is."""

    daily_units: int
    burst_per_second: float
    burst: int
    queued_jobs: int
    running_jobs: int
    weight: float


LIMITS = {
    "daily_units": 500, "burst_per_second": 2.0, "burst": 60, "queued_jobs": 200, "running_jobs": 8, "weight": 1.0,
}  # fmt: skip
TENANT = {
    "object": "tenant", "name": "shop-1", "limits": LIMITS, "lanes": ["interactive", "batch"], "preset": None,
    "ban_reason": None, "used_today": 42, "reserved_today": 3,
}  # fmt: skip


class TenantObject(BaseModel):
    """A tenant: limits, lanes, default preset, ban, and its pictures of today."""

    model_config = _example(TENANT)

    object: Literal["tenant"] = "tenant"
    name: str
    limits: LimitsObject
    lanes: list[Lane]
    preset: str | None
    ban_reason: str | None
    used_today: int
    reserved_today: int


class TenantList(BaseModel):
    """Every tenant that has a key, a job or limits of its own, by name."""

    model_config = _example({"object": "list", "data": [TENANT]})

    object: Literal["list"] = "list"
    data: list[TenantObject]


class TenantChange(schema.Exact):
    """What to change of a tenant; what is absent stays. It holds from the next request and release on."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"daily_units": 500, "running_jobs": 8, "weight": 3}}
    )

    daily_units: Annotated[Count | None, Field(description="Pictures a day (UTC).")] = None
    burst_per_second: Annotated[Rate | None, Field(description="Pictures a second in the long run; 0 = as many.")] = (
        None
    )
    burst: Annotated[
        Annotated[StrictInt, Field(ge=1, le=INT_MOST), schema.WHOLE] | None, Field(description="Pictures at once.")
    ] = None
    queued_jobs: Annotated[Count | None, Field(description="Jobs that may wait.")] = None
    running_jobs: Annotated[Count | None, Field(description="Jobs that may run at the same time.")] = None
    weight: Annotated[float, Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT, strict=True)] | None = None
    lanes: Annotated[list[Lane] | None, Field(min_length=1, max_length=2)] = None
    preset: Annotated[Literal["", "turbo", "turbo-8"] | None, Field(description='"" = the service\'s own.')] = None


class Ban(schema.Exact):
    """Why; the tenant reads it with each refusal."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"reason": "the invoice of October is open"}}
    )

    reason: Annotated[StrictStr, Field(min_length=1, max_length=BAN_REASON_MOST, json_schema_extra={"pattern": r"\S"})]
    cancel_jobs: Annotated[bool, Field(strict=True, description="Also cancel what it has waiting and running.")] = False


class DayObject(BaseModel):
    """Units of one day (UTC)."""

    date: str
    used: int
    reserved: int


class TenantUsage(BaseModel):
    """One tenant's pictures by day, oldest first, today last."""

    tenant: str
    used_today: int
    used: Annotated[int, Field(description="Over all these days.")]
    days: list[DayObject]


class UsageList(BaseModel):
    """Usage of every tenant, the busiest first."""

    model_config = _example(
        {
            "object": "list",
            "data": [
                {
                    "tenant": "shop-1",
                    "used_today": 42,
                    "used": 910,
                    "days": [{"date": "2026-11-24", "used": 42, "reserved": 3}],
                }
            ],
        }
    )

    object: Literal["list"] = "list"
    data: list[TenantUsage]


class DaysQuery(BaseModel):
    """How far back."""

    days: Annotated[int, Field(ge=1, le=HISTORY_DAYS)] = HISTORY_DAYS


class Overlap(schema.Exact):
    """How long the old key works beside the new one; 0 stops it at once.

    Where the answer was lost, the same call within an hour closes the new key that nobody has used and makes another. A
    key that stopped at once can make this call no more; then the operator can.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"overlap_seconds": 3600}})

    overlap_seconds: Annotated[Annotated[StrictInt, Field(ge=0, le=30 * DAY), schema.WHOLE], Field()] = 0


class InviteCreate(schema.Exact):
    """An invite to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"uses": 5, "expires_in": 604800, "label": "workshop", "daily_units": 50}},
    )

    uses: Annotated[StrictInt, Field(ge=1, le=10_000, description="Accounts that it may make."), schema.WHOLE] = 1
    expires_in: Annotated[
        Annotated[StrictInt, Field(ge=60, le=366 * DAY), schema.WHOLE] | None, Field(description="Seconds.")
    ] = 7 * DAY
    label: Annotated[StrictStr, Field(max_length=100)] = ""
    daily_units: Annotated[Count | None, Field(description="Of each account; the service's default if absent.")] = None


class InvitePath(BaseModel):
    """An invite's id: the SHA-256 of its code."""

    invite_id: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


INVITE = {
    "id": HEX_ID * 2, "object": "invite", "hint": "x7Qf", "label": "workshop", "uses": 5, "left": 3,
    "daily_units": 50, "created_at": 1764000000, "expires_at": 1764604800,
}  # fmt: skip


class InviteObject(BaseModel):
    """An invite as it may be shown."""

    model_config = _example(INVITE)

    id: str
    object: Literal["invite"] = "invite"
    hint: str
    label: str
    uses: int
    left: int
    daily_units: int | None
    created_at: int
    expires_at: int | None


class NewInviteObject(InviteObject):
    """A new invite. `code` is shown this once and kept nowhere."""

    model_config = _example({**INVITE, "code": "invite_Zk3vX9QpL0sT2bRyMx7Qf"})

    code: str


class InviteList(BaseModel):
    """All invites, oldest first."""

    model_config = _example({"object": "list", "data": [INVITE]})

    object: Literal["list"] = "list"
    data: list[InviteObject]


class StopPath(BaseModel):
    """A lane (`interactive`, `batch`), a tenant or a worker by its name."""

    kind: Kind
    name: Annotated[str, Field(min_length=1, max_length=200, examples=["batch"])]


class FlowChange(schema.Exact):
    """`paused`: new jobs wait. `draining`: none are taken in, what waits is drawn. A stopped worker takes nothing."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"state": "paused"}})

    state: Flow


class StopObject(BaseModel):
    """A lane, tenant or worker, and whether work flows."""

    model_config = _example({"kind": "lane", "name": "batch", "state": "paused"})

    kind: Kind
    name: str
    state: Flow


class StopList(BaseModel):
    """All that is paused or draining."""

    model_config = _example({"object": "list", "data": [{"kind": "lane", "name": "batch", "state": "paused"}]})

    object: Literal["list"] = "list"
    data: list[StopObject]


def limits_object(tenant: Tenant) -> LimitsObject:
    """A tenant's limits as they are shown."""
    limits = tenant.limits
    return LimitsObject(**{name: getattr(limits, name) for name in LimitsObject.model_fields})


def tenant_object(tenant: Tenant, today: DayUse) -> TenantObject:
    """A tenant as it is shown."""
    return TenantObject(
        name=tenant.name,
        limits=limits_object(tenant),
        lanes=list(tenant.lanes),
        preset=tenant.preset or None,
        ban_reason=tenant.ban_reason or None,
        used_today=today.used,
        reserved_today=today.reserved,
    )


def day_objects(days: list[DayUse]) -> list[DayObject]:
    """Days as they are shown."""
    return [DayObject(date=day.day, used=day.used, reserved=day.reserved) for day in days]


def invite_object(invite: Invite) -> InviteObject:
    """An invite as it is shown."""
    return InviteObject(
        id=invite.id,
        hint=invite.hint,
        label=invite.label,
        uses=invite.uses,
        left=invite.left,
        daily_units=invite.daily_units if invite.daily_units >= 0 else None,
        created_at=invite.created_ms // 1000,
        expires_at=invite.expires_ms // 1000 or None,
    )
