"""The limits of a tenant: its own where it has some, the service's defaults else. submit.lua keeps to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from core.errors import InvalidRequest
from core.job_store import TenantLimits
from core.settings import MOST, REFILL_SECONDS_MOST, Settings

_KINDS: dict[str, Callable[[str], Any]] = {
    name: kind for name, kind in get_type_hints(TenantLimits).items() if name != "key"
}
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 1000.0


def default_limits(settings: Settings) -> TenantLimits:
    """What a tenant without limits of its own may use."""
    return TenantLimits(
        daily_units=settings.tenant_daily_units,
        burst_per_second=settings.tenant_burst_per_second,
        burst=settings.tenant_burst,
        queued_jobs=settings.tenant_queued_jobs,
        running_jobs=settings.tenant_running_jobs,
        weight=1.0,
    )


def limits_from(stored: Mapping[str, str], defaults: TenantLimits) -> TenantLimits:
    """The stored limits over the defaults; fields it does not have keep their default."""
    own = {name: kind(stored[name]) for name, kind in _KINDS.items() if name in stored}
    return replace(defaults, **own) if own else defaults


def stored_limits(limits: TenantLimits) -> dict[str, float]:
    """What is kept of a tenant's limits, by name."""
    return {name: getattr(limits, name) for name in _KINDS}


def check_key_limits(of_tenant: TenantLimits, *, daily_units: int, burst: int) -> None:
    """Raises InvalidRequest naming a limit of a key that is above its tenant's, which would hold nothing back."""
    for name, value in (("daily_units", daily_units), ("burst", burst)):
        most = getattr(of_tenant, name)
        if value > most:
            raise InvalidRequest(f"{name} of a key may be at most its account's, {most}.", field=name)


def check_limits(limits: TenantLimits) -> TenantLimits:
    """The same limits; raises InvalidRequest naming the one that can not work."""
    for name, value in stored_limits(limits).items():
        if value < 0:
            raise InvalidRequest(f"{name} must be 0 or more.", field=name)
        if not value <= MOST:  # nor a value that is no number
            raise InvalidRequest(f"{name} must be at most {MOST}.", field=name)
    if not LEAST_WEIGHT <= limits.weight <= MOST_WEIGHT:
        raise InvalidRequest(f"weight must be from {LEAST_WEIGHT} to {MOST_WEIGHT}.", field="weight")
    if 0 < limits.burst_per_second < limits.burst / REFILL_SECONDS_MOST:
        message = "burst_per_second must be larger: a whole burst would take more than a century to come back."
        raise InvalidRequest(message, field="burst_per_second")
    if limits.burst_per_second > 0 and limits.burst < 1:
        raise InvalidRequest("burst must be 1 or more.", field="burst")
    return limits
