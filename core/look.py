"""What an answer tells of a tenant's jobs: how they stand, their places in the queue, what is left of the limits.

All of it is asked for in one call, since a call costs the api more than what Redis does for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.crowd import Crowds
from core.job import Job, JobState
from core.model_queues import eta_seconds

#: States that have a place in the queue; a follower has its leader's.
WAITING = frozenset({JobState.QUEUED, JobState.RELEASED, JobState.RETRY, JobState.FOLLOWING})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What one key may use beside its tenant's limits, None: as much as its tenant. `id` names its counters.

    Its burst comes back as fast as its tenant's, or where that has no such limit, within a second.
    """

    id: str
    daily_units: int | None = None
    burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What one tenant may use; `weight` is its share of the service when all want more than there is.

    `key`: limits of the key that asks, if it has some of its own.
    """

    daily_units: int
    burst_per_second: float
    burst: int
    queued_jobs: int
    running_jobs: int
    weight: float = 1.0
    key: KeyLimits | None = None

    @property
    def of_key(self) -> TenantLimits:
        """The same for the key that asks: its own limits where it has some."""
        daily, burst = (self.key.daily_units, self.key.burst) if self.key else (None, None)
        of_key = self if daily is None else replace(self, daily_units=daily)
        if burst is None:
            return of_key
        return replace(of_key, burst=burst, burst_per_second=self.burst_per_second or burst)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """How much of its limits a tenant has used; resets in seconds from now. For the RateLimit header fields.

    Of a key with limits of its own: of the tighter ones.
    """

    burst: int
    burst_remaining: int
    burst_next_seconds: float  # until one more picture is allowed; 0 when nothing is used
    burst_reset_seconds: float  # until all of it is
    daily_limit: int
    daily_used: int
    daily_reserved: int
    daily_reset_seconds: float
    queue_limit: int
    queue_waiting: int
    queue_held: int  # room that lists which are coming in keep

    @property
    def queue_remaining(self) -> int:
        return max(0, self.queue_limit - self.queue_waiting - self.queue_held)

    @property
    def daily_remaining(self) -> int:
        return max(0, self.daily_limit - self.daily_used - self.daily_reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlace:
    """Where a waiting job stands: 1 = next to be released; 0 = released, on its way to a worker."""

    position: int
    eta_seconds: float | None  # until its picture; None before anything was ever measured, and while paused
    paused: bool = False  # an operator stopped its lane, its tenant, or every worker of its model


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Jobs in the order asked for (None: no record), the places of those that wait, their tenant's use if known."""

    jobs: Sequence[Job | None]
    use: LimitUse | None
    places: Mapping[str, QueuePlace] = field(default_factory=dict)


def emission_of(limits: TenantLimits) -> float:
    """Milliseconds of the burst that one request uses up; 0 = not limited."""
    return 1000 / limits.burst_per_second if limits.burst_per_second > 0 else 0.0


def usage_arguments(tenant: str, limits: TenantLimits) -> tuple[str, str]:
    """Of usage.lua."""
    return tenant, limits.key.id if limits.key else ""


def use_from(answer: Sequence[Any], limits: TenantLimits) -> LimitUse:
    """Reads the answer of usage.lua."""
    now, _debt, _used, _reserved, *rest = answer[:7]
    own = _use_of(answer[:7], limits)
    if len(answer) == 7:
        return own
    key = _use_of([now, *answer[7:], *rest], limits.of_key)
    daily = min(own, key, key=_daily_left)
    burst = min(own, key, key=_burst_left) if emission_of(limits) else key
    return replace(
        own,
        **{name: getattr(daily, name) for name in ("daily_limit", "daily_used", "daily_reserved")},
        **{name: getattr(burst, name) for name in _BURST},
    )


_BURST = ("burst", "burst_remaining", "burst_next_seconds", "burst_reset_seconds")


def _daily_left(use: LimitUse) -> int:
    return use.daily_remaining


def _burst_left(use: LimitUse) -> tuple[int, float]:
    return use.burst_remaining, -use.burst_next_seconds


def _use_of(answer: Sequence[Any], limits: TenantLimits) -> LimitUse:
    emission_ms = emission_of(limits)
    _now, debt_ms, used, reserved, day_ms, waiting, held = answer
    spent = int(-(-int(debt_ms) // emission_ms)) if emission_ms else 0
    until_next_ms = int(debt_ms) - max(0, min(spent, limits.burst) - 1) * emission_ms
    return LimitUse(
        burst=limits.burst,
        burst_remaining=max(0, limits.burst - spent),
        burst_next_seconds=max(0.0, until_next_ms / 1000),
        burst_reset_seconds=int(debt_ms) / 1000,
        daily_limit=limits.daily_units,
        daily_used=int(used),
        daily_reserved=int(reserved),
        daily_reset_seconds=int(day_ms) / 1000,
        queue_limit=limits.queued_jobs,
        queue_waiting=int(waiting),
        queue_held=int(held),
    )


def place_from(answer: Sequence[Any], crowds: Crowds) -> QueuePlace:
    """Reads the answer of place.lua; `crowds` is asked where many start before."""
    found = _Place.read(answer, crowds)
    eta = eta_seconds(found.work + found.in_flight, found.pace, found.slots, found.wait_ms)
    return QueuePlace(position=found.position, eta_seconds=None if found.paused else eta, paused=found.paused)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until a job's release, and the time between two of a unit of work (None: it was released meanwhile)."""

    seconds: float
    gap_ms: float | None


def start_from(answer: Sequence[Any], crowds: Crowds) -> Start | None:
    """Reads the answer of place.lua: when the job is released, None while it is paused or nothing was measured.

    As many are released as end, so what is in flight does not count. Never sooner than measured runs let expect.
    """
    found = _Place.read(answer, crowds)
    if found.paused or found.pace is None:
        return None
    seconds = eta_seconds(found.work, (found.longest_gap_ms, 0.0), found.slots, found.longest_wait_ms)
    return None if seconds is None else Start(seconds, found.longest_gap_ms)


@dataclass(frozen=True, slots=True)
class _Place:
    """What place.lua says."""

    position: int
    work: float  # its own, and that before it
    in_flight: float
    pace: tuple[float, float] | None  # (gap, run) ms
    slots: int
    wait_ms: float
    paused: bool
    longest_gap_ms: float
    longest_wait_ms: float

    @classmethod
    def read(cls, answer: Sequence[Any], crowds: Crowds) -> _Place:
        ahead, work_ahead, busy, work, gap_ms, run_ms, slots, wait_ms, paused, tag, entity, model, *longest = answer
        others, work_of_others = crowds.of(model).before(float(tag), entity) if tag else (0, 0.0)
        return cls(
            position=int(ahead) + others + 1,
            work=float(work_ahead) + work_of_others + float(work),
            in_flight=float(busy),
            pace=(float(gap_ms or 0), float(run_ms)) if run_ms else None,
            slots=int(slots),
            wait_ms=float(wait_ms),
            paused=bool(paused),
            longest_gap_ms=float(longest[0] or 0),
            longest_wait_ms=float(longest[1]),
        )
