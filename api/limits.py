"""A tenant's limits as headers: the IETF's RateLimit fields, and the names that OpenAI's clients look for."""

from __future__ import annotations

import math

from flask import Response

from api.context import Services
from core.job_store import LimitUse
from scheduler.tenants import Tenant

DAY_SECONDS = 86_400


def tell_limits(response: Response, parts: Services, owner: Tenant) -> None:
    """Say what is left. Pictures are counted, not requests."""
    use = parts.jobs.usage(owner.name, owner.limits)
    response.headers["RateLimit-Policy"] = _policies(owner, use)
    response.headers["RateLimit"] = (
        f'"burst";r={use.burst_remaining};t={math.ceil(use.burst_reset_seconds)}, '
        f'"daily";r={use.daily_remaining};t={math.ceil(use.daily_reset_seconds)}'
    )
    response.headers["x-ratelimit-limit-requests"] = str(use.daily_limit)
    response.headers["x-ratelimit-remaining-requests"] = str(use.daily_remaining)
    response.headers["x-ratelimit-reset-requests"] = f"{math.ceil(use.daily_reset_seconds)}s"


def _policies(owner: Tenant, use: LimitUse) -> str:
    daily = f'"daily";q={use.daily_limit};w={DAY_SECONDS};zimg-unit="pictures"'
    rate = owner.limits.burst_per_second
    if rate <= 0:
        return daily
    return f'"burst";q={use.burst};w={max(1, math.ceil(use.burst / rate))};zimg-unit="pictures", {daily}'
