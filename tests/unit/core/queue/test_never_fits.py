"""A call over a limit whatever is used: it is told how much fits, not to wait."""

import pytest

import core.long_list
from core.errors import ExceedsLimits, OverLimit, QueueFull, QuotaExceeded
from core.job import JobState, Lane
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, limits, make_job

SERVICE_OF_FOUR = Settings(queued_jobs=4)


def submit(kit, count, allowed=GENEROUS, **more):
    return kit.store.submit_many([make_job(**more) for _ in range(count)], allowed)


def refused(kit, count, allowed=GENEROUS, **more):
    """The refusal; nothing is stored, reserved or counted for it."""
    before = kit.snapshot()
    with pytest.raises(ExceedsLimits) as caught:
        submit(kit, count, allowed, **more)
    assert kit.snapshot() == before
    return caught.value


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize(
    ("allowed", "settings", "why"),
    [
        (limits(daily_units=4), Settings(), "this account may draw 4 a day"),
        (limits(queued_jobs=4), Settings(), "of this account 4 may wait"),
        (GENEROUS, SERVICE_OF_FOUR, "4 may wait here"),
    ],
)
def test_what_is_more_than_a_limit_is_told_how_much_fits_and_just_so_much_does(
    queue_redis, allowed, settings, why, lane
):
    kit = Kit(queue_redis, settings)

    error = refused(kit, 5, allowed, lane=lane)

    assert str(error) == f"This call asks for 5 pictures, and {why}; send at most 4 at once."
    assert (error.code, error.field, error.most) == ("exceeds_limits", "n", 4)
    assert not isinstance(error, OverLimit)
    assert len(submit(kit, 4, allowed, lane=lane)) == 4


@pytest.mark.parametrize(
    ("allowed", "most"),
    [
        (limits(daily_units=3, queued_jobs=2), 2),
        (limits(daily_units=2, queued_jobs=3), 2),
        (limits(daily_units=3, queued_jobs=9), 3),
    ],
)
def test_of_several_limits_the_narrowest_is_named(kit, allowed, most):
    assert refused(kit, 5, allowed).most == most
    assert len(submit(kit, most, allowed)) == most


@pytest.mark.parametrize("allowed", [limits(daily_units=0), limits(queued_jobs=0)])
def test_where_nothing_ever_fits_the_operator_is_named(kit, allowed):
    assert str(refused(kit, 1, allowed)).endswith("; tell the operator that you need more.")


@pytest.mark.parametrize(
    ("allowed", "error"), [(limits(daily_units=4), QuotaExceeded), (limits(queued_jobs=4), QueueFull)]
)
def test_what_would_fit_but_for_what_is_there_is_told_to_wait(kit, allowed, error):
    kit.submit(allowed=allowed)

    with pytest.raises(error) as caught:
        submit(kit, 4, allowed)

    assert caught.value.retry_after_seconds >= 1


def test_nobody_is_told_to_wait_first(kit):
    """Neither for the burst, nor for a lane that drains, nor for what others use."""
    allowed = limits(daily_units=2, burst_per_second=0.01, burst=1)
    kit.submit(allowed=allowed)
    kit.redis.sadd(f"{PREFIX}draining", "lane:interactive", "tenant:a")

    assert refused(kit, 3, allowed).most == 2


def test_more_than_a_whole_burst_fits_when_nothing_was_used(kit):
    assert len(submit(kit, 5, limits(burst_per_second=0.01, burst=2))) == 5


def test_what_an_earlier_call_stored_is_not_counted_again(kit):
    jobs = [make_job(lane=Lane.BATCH) for _ in range(6)]
    kit.store.submit_many(jobs[:3], GENEROUS)

    done = kit.store.submit_many(jobs, limits(daily_units=6, queued_jobs=6))

    assert [one.replayed for one in done] == [True] * 3 + [False] * 3
    assert all(one.replayed for one in kit.store.submit_many(jobs, limits(daily_units=0, queued_jobs=0)))


@pytest.mark.parametrize(
    ("allowed", "settings"),
    [(limits(daily_units=9), Settings()), (limits(queued_jobs=9), Settings()), (GENEROUS, Settings(queued_jobs=9))],
)
def test_a_list_in_portions_is_told_of_the_whole_of_it(queue_redis, monkeypatch, allowed, settings):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)
    kit = Kit(queue_redis, settings)

    error = refused(kit, 10, allowed, lane=Lane.BATCH, batch_id="b1")

    assert error.most == 9
    assert "asks for 10 pictures" in str(error)


def test_a_list_that_was_broken_off_goes_on_under_limits_that_only_its_rest_keeps(kit, monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)
    jobs = [make_job(lane=Lane.BATCH, batch_id="b1") for _ in range(10)]
    kit.store.submit_many(jobs[:3], GENEROUS)
    for job in jobs[:3]:
        kit.store.cancel(job.id)

    done = kit.store.submit_many(jobs, limits(daily_units=7, queued_jobs=7))

    assert [one.state for one in done[3:]] == [JobState.QUEUED] * 7


def test_a_list_counts_its_rows_where_its_sender_does():
    error = ExceedsLimits("This call asks for 20 pictures, and 9 may wait here", most=9, field="n")

    in_rows = error.in_rows(2, field="file")

    assert str(in_rows) == "This call asks for 20 pictures, and 9 may wait here; send at most 4 rows at once."
    assert (in_rows.most, in_rows.field, in_rows.code) == (4, "file", "exceeds_limits")
    assert str(error.in_rows(10, field="file")).endswith("; tell the operator that you need more.")
