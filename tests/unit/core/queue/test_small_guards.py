"""Small things that the scripts keep right and that no larger test would miss."""

import pytest

from core.errors import QueueFull
from core.job import JobState, Lane, Progress
from core.redis_client import PREFIX
from core.refusals import RETRY_AFTER_MOST
from tests.queue_kit import CRASHED, limits


def test_an_equal_interactive_request_does_not_queue_a_running_row_again(kit):
    run = kit.running(lane=Lane.BATCH, fingerprint="f")

    kit.queued(lane=Lane.INTERACTIVE, fingerprint="f")

    assert kit.store.release(9) == []
    assert kit.state(run.id) is JobState.RUNNING
    assert list(kit.redis.scan_iter(f"{PREFIX}tq:*")) == []


def test_jobs_of_two_calls_in_one_millisecond_keep_their_order(kit):
    """As if the clock stood still between them, or went back."""
    seconds, _ = kit.redis.time()
    kit.redis.set(f"{PREFIX}arrival", (int(seconds) + 3600) * 1000)

    ids = [kit.queued() for _ in range(3)]

    arrivals = [float(kit.redis.hget(f"{PREFIX}job:{one}", "arrival")) for one in ids]
    assert arrivals[0] < arrivals[1] < arrivals[2]
    assert [one.job_id for one in kit.store.release(9)] == ids


def test_what_a_double_click_is_known_by_is_kept_for_a_quarter_of_an_hour(kit):
    kit.submit(repeat_key="r", repeat_seconds=2.0)

    assert 890_000 < kit.redis.pttl(f"{PREFIX}repeat:a:r") <= 900_000


def test_a_canceled_heir_hands_on_that_the_flight_was_tried_once_already(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    first, second, third = (kit.queued(fingerprint="f", max_attempts=1) for _ in range(3))
    kit.store.fail(run.id, run.token, CRASHED)
    kit.store.cancel(first)
    heir = kit.claim_again(second)

    kit.store.fail(heir.id, heir.token, CRASHED)

    assert kit.state(third) is JobState.DEAD


def test_an_heir_follows_nobody_any_more(kit):
    leader, heir = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    assert kit.redis.hget(f"{PREFIX}job:{heir}", "leader") == leader

    kit.store.cancel(leader)

    assert kit.state(heir) is JobState.QUEUED
    assert kit.redis.hget(f"{PREFIX}job:{heir}", "leader") is None


def test_a_tenant_parked_at_its_cap_comes_back_at_its_own_virtual_time(kit):
    """Else its cap would forgive it the turns that it had: at the present time it would start before all others."""
    one_at_once = limits(running_jobs=1, weight=0.25)
    run = kit.running(allowed=one_at_once)
    kit.queued(allowed=one_at_once)
    assert kit.store.release(9) == []
    assert kit.redis.sismember(f"{PREFIX}parked", "a|interactive")

    kit.complete(run)

    assert kit.redis.zscore(f"{PREFIX}act", "a|interactive") == 1.0


def test_a_job_that_waits_for_its_retry_shows_no_progress(kit):
    run = kit.running()
    kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=1, steps=4))

    assert kit.store.fail(run.id, run.token, CRASHED) is JobState.RETRY

    assert kit.job(run.id).progress is None


def test_an_equal_interactive_request_lifts_no_row_into_a_paused_lane(kit):
    """The row's own lane goes on: it must not wait for the end of the pause."""
    kit.store.pause("lane", "interactive")
    row = kit.queued(lane=Lane.BATCH, fingerprint="f")

    kit.queued(lane=Lane.INTERACTIVE, fingerprint="f")

    assert [one.job_id for one in kit.store.release(9)] == [row]
    assert kit.job(row).lane is Lane.BATCH


def test_a_row_that_comes_back_while_the_interactive_lane_is_paused_stays_in_its_own(kit):
    run = kit.running(lane=Lane.BATCH, fingerprint="f")
    kit.queued(lane=Lane.INTERACTIVE, fingerprint="f")
    kit.store.pause("lane", "interactive")
    kit.store.give_back(run.id, run.token)

    assert [one.job_id for one in kit.store.release(9)] == [run.id]


def test_a_tenant_that_may_run_nothing_is_not_told_that_a_place_comes_free_at_once(kit):
    allowed = limits(queued_jobs=1, running_jobs=0)
    kit.queued(allowed=allowed)

    with pytest.raises(QueueFull) as refusal:
        kit.queued(allowed=allowed)

    assert refusal.value.retry_after_seconds == RETRY_AFTER_MOST
