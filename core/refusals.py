"""What a refusal of submit.lua means: which limit, and when the same call can succeed, or that it never will."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from core.errors import (
    Draining,
    ExceedsLimits,
    Forbidden,
    Gone,
    IdempotencyMismatch,
    ListStopped,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RedisUnavailable,
    ZimgError,
)
from core.job import NewJob
from core.look import TenantLimits
from core.patience import RETRY_AFTER_MOST, Patience

DRAINING_RETRY_SECONDS = 60
#: The member of a call that says how many pictures it asks for.
COUNT_FIELD = "n"


def refusal_of(answer: Sequence[str], limits: TenantLimits, job: NewJob, patience: Patience) -> ZimgError:
    """The error for an answer of submit.lua that is not `ok`; `job` is the first of the call."""
    reason, *facts = answer
    make: Mapping[str, Callable[[], ZimgError]] = {
        "idempotency_mismatch": _mismatch,
        "key_of_removed": _removed,
        "hold_gone": _hold_gone,
        "list_stopped": _list_stopped,
        "banned": lambda: banned(facts[0]),
        "exceeds_limits": lambda: _exceeds(*facts),
        "draining": lambda: refusal_while_draining(facts[0]),
        "rate_limited": lambda: _too_fast(facts[0], limits),
        "quota_exceeded": lambda: _day_is_used(*facts, limits=limits),
        "queue_full": lambda: _queue_full(*facts, limits=limits, job=job, patience=patience),
        "overloaded": lambda: _overloaded(*facts, job=job, patience=patience),
    }
    return make[reason]()


def refusal_while_draining(entry: str) -> Draining:
    """The refusal for new work of an `entry` (lane:NAME or tenant:NAME) that the operator lets run empty."""
    kind, _, name = entry.partition(":")
    message = "This account takes no new work now; try again later."
    if kind == "lane":
        message = f"The {name} lane takes no new work now; try again later."
    return Draining(message, retry_after_seconds=DRAINING_RETRY_SECONDS)


def _mismatch() -> IdempotencyMismatch:
    return IdempotencyMismatch("This Idempotency-Key was used before with another body; send a new key.")


def _removed() -> Gone:
    return Gone("A picture of this Idempotency-Key was deleted; send another key to draw it again.")


def _hold_gone() -> RedisUnavailable:
    return RedisUnavailable("The list took too long and is stored in part; send it again with the same key.")


def _list_stopped() -> ListStopped:
    return ListStopped("The list was canceled while it came in; send it again to draw what is missing.")


def banned(reason: str) -> Forbidden:
    """The refusal for everything that a banned tenant asks for."""
    return Forbidden(f"This account was stopped: {reason}")


def _exceeds(limit: str, asked: str, most: str) -> ExceedsLimits:
    call = f"This call asks for {asked} picture{'' if asked == '1' else 's'}"
    why = {
        "daily": f"{call}, and this account may draw {most} a day",
        "queue": f"{call}, and of this account {most} may wait",
        "service": f"{call}, and {most} may wait here",
        "key": f"{call}, and this key may draw {most} a day",
    }
    return ExceedsLimits(why[limit], most=int(most), field=COUNT_FIELD)


def _too_fast(wait_ms: str, limits: TenantLimits) -> RateLimited:
    per_second = limits.of_key.burst_per_second
    message = f"More than {per_second:g} pictures a second; wait and send again."
    if per_second == 1:
        message = "More than 1 picture a second; wait and send again."
    return RateLimited(message, retry_after_seconds=_seconds(wait_ms))


def _day_is_used(wait_ms: str, units_of_key: str = "", *, limits: TenantLimits) -> QuotaExceeded:
    message = f"The day's pictures ({limits.daily_units}) are drawn or reserved; they return at 00:00 UTC."
    if units_of_key:
        message = f"This key's pictures of the day ({units_of_key}) are drawn or reserved; they return at 00:00 UTC."
    return QuotaExceeded(message, retry_after_seconds=_seconds(wait_ms))


def _queue_full(waiting: str, places: str, *, limits: TenantLimits, job: NewJob, patience: Patience) -> QueueFull:
    # Of a tenant that may run nothing no place comes free by itself.
    is_hopeless = limits.running_jobs < 1
    seconds = RETRY_AFTER_MOST if is_hopeless else patience.for_own_places(int(places), job, limits)
    most = limits.queued_jobs
    message = f"{waiting} of the {most} places in your queue are taken; send again when some jobs have ended."
    return QueueFull(message, retry_after_seconds=seconds)


def _overloaded(_waiting: str, places: str, *, job: NewJob, patience: Patience) -> Overloaded:
    seconds = patience.for_any_places(int(places), job)
    return Overloaded("The service's queue is full; try again later.", retry_after_seconds=seconds)


def _seconds(milliseconds: str) -> int:
    return max(1, math.ceil(int(milliseconds) / 1000))
