"""Limits that no script could count with are refused where they are set."""

from dataclasses import replace

import pytest

from core.errors import InvalidRequest
from core.settings import MOST, REFILL_SECONDS_MOST, Settings
from scheduler.quota import check_limits, default_limits
from tests.queue_kit import Kit


@pytest.mark.parametrize(
    "more",
    [
        {"burst_per_second": 1e-300},
        {"burst_per_second": 0.1, "burst": MOST},
        {"burst_per_second": float("nan")},
        {"burst_per_second": float("inf")},
        {"weight": float("nan")},
        {"burst": 2**70},
        {"daily_units": 10**30},
        {"queued_jobs": 2**70},
        {"running_jobs": MOST + 1},
    ],
)
def test_a_limit_that_can_not_be_counted_with_is_refused(more):
    with pytest.raises(InvalidRequest) as refusal:
        check_limits(replace(default_limits(Settings()), **more))

    assert refusal.value.field == next(iter(more))


@pytest.mark.parametrize(("rate", "burst"), [(0.0, MOST), (1 / REFILL_SECONDS_MOST, 1), (1.0, MOST), (float(MOST), 1)])
def test_the_ends_of_what_may_be_set_work(fake_redis, rate, burst):
    allowed = replace(default_limits(Settings()), burst_per_second=rate, burst=burst)
    kit = Kit(fake_redis)

    check_limits(allowed)

    kit.submit(allowed=allowed)
    assert kit.store.usage("a", allowed).burst == burst
