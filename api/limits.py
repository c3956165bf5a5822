"""A tenant's limits as headers: the IETF's RateLimit fields, and the names that OpenAI's clients look for.

They stand on every answer of a route that acts for a tenant, refusals too. Pictures are counted, not requests.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import structlog
from flask import Response, g

from api.context import services
from api.errors import postpone
from core.errors import Unavailable
from core.job_store import LimitUse, TenantLimits
from scheduler.tenants import Tenant

DAY_SECONDS = 86_400
#: Refusals of pictures, which the limits of pictures may postpone; too many streams is over when one of them ends.
OF_PICTURES = frozenset({"rate_limit_exceeded", "quota_exceeded", "queue_full"})

log = structlog.get_logger(__name__)


def known_use(use: LimitUse | None) -> None:
    """What the answer's own call to Redis said of its tenant's limits, if it did: then they are not asked for again."""
    g.limit_use = use


def tell_limits(response: Response) -> Response:
    """after_request: say what is left, with at most one more call to Redis; no answer waits for it twice, nor fails."""
    owner: Tenant | None = g.get("tells_limits")
    if owner is None or g.get("redis_is_away"):
        return response
    try:
        use = g.get("limit_use") or services().jobs.usage(owner.name, owner.limits)
    except Unavailable as error:
        log.warning("limits are not told", action="answer", code=error.code)
        return response
    response.headers.extend(_fields(owner.limits, use))
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and g.get("answered", ("",))[0] in OF_PICTURES:
        postpone(response, _seconds_to_wait(owner.limits, use))
    return response


def _fields(limits: TenantLimits, use: LimitUse) -> dict[str, str]:
    daily_reset = math.ceil(use.daily_reset_seconds)
    policies = [
        f'"daily";q={use.daily_limit};w={DAY_SECONDS};zimg-unit="pictures"',
        f'"queue";q={use.queue_limit};zimg-unit="pictures"',
    ]
    left = [f'"daily";r={use.daily_remaining};t={daily_reset}', f'"queue";r={use.queue_remaining}']
    per_second = limits.of_key.burst_per_second
    if per_second > 0:
        window = max(1, math.ceil(use.burst / per_second))
        policies.insert(0, f'"burst";q={use.burst};w={window};zimg-unit="pictures"')
        left.insert(0, f'"burst";r={use.burst_remaining};t={math.ceil(use.burst_next_seconds)}')
    return {
        "RateLimit-Policy": ", ".join(policies),
        "RateLimit": ", ".join(left),
        "x-ratelimit-limit-requests": str(use.daily_limit),
        "x-ratelimit-remaining-requests": str(use.daily_remaining),
        "x-ratelimit-reset-requests": f"{daily_reset}s",
    }


def _seconds_to_wait(limits: TenantLimits, use: LimitUse) -> int:
    """Until the limits that have nothing left have something: sooner, the same call would be refused again."""
    burst = use.burst_next_seconds if limits.of_key.burst_per_second > 0 and not use.burst_remaining else 0.0
    daily = use.daily_reset_seconds if not use.daily_remaining else 0.0
    return math.ceil(max(burst, daily))
