"""release.lua: how much is released, to whom: the window, caps, pauses, records that are gone."""

import pytest

from core.job import JobState, Lane
from core.job_store import WorkerInfo
from core.redis_client import PREFIX
from tests.queue_kit import Kit, limits


@pytest.fixture
def small(queue_redis):
    """One worker with 4 seats: a window of 8."""
    kit = Kit(queue_redis)
    kit.store.forget_worker("w1")
    kit.add_worker("w4", slots=4)
    return kit


def test_without_a_live_worker_nothing_is_released(small):
    small.queued()
    small.store.forget_worker("w4")

    assert small.store.release(10) == []


def test_a_silent_worker_does_not_count(small):
    small.queued()
    small.redis.zadd(f"{PREFIX}workers", {"w4": 1})

    assert small.store.release(10) == []


def test_the_window_is_one_and_a_half_seats_and_two(small):
    for _ in range(20):
        small.queued()

    assert len(small.store.release(100)) == 8
    assert small.store.release(100) == []


def test_jobs_that_a_live_worker_holds_count_in_the_window(small):
    for _ in range(20):
        small.queued()
    for release in small.store.release(6):
        small.claim(release, worker="w4")

    assert len(small.store.release(100)) == 2


def test_jobs_that_a_dead_worker_holds_do_not_count(small):
    for _ in range(20):
        small.queued()
    for release in small.store.release(6):
        small.claim(release, worker="gone")

    assert len(small.store.release(100)) == 8


def test_a_worker_that_started_anew_holds_nothing(small):
    for _ in range(20):
        small.queued()
    for release in small.store.release(6):
        small.claim(release, worker="w4")

    small.store.heartbeat(WorkerInfo(name="w4", slots=4, started_ms=2))

    assert len(small.store.release(100)) == 8


def test_an_end_opens_the_window(small):
    for _ in range(20):
        small.queued()
    runs = [small.claim(release, worker="w4") for release in small.store.release(100)]

    small.complete(runs[0])

    assert len(small.store.release(100)) == 1


def test_no_more_than_asked_for_is_released(kit):
    for _ in range(5):
        kit.queued()

    assert len(kit.store.release(2)) == 2


def test_each_release_has_a_new_epoch(kit):
    first = kit.released()
    kit.let_run_out("rel", first.job_id)
    kit.store.reap()

    again = kit.store.release(1)[0]

    assert (again.job_id, again.epoch) == (first.job_id, first.epoch + 1)


def test_a_tenant_at_its_cap_is_skipped_and_blocks_nobody(kit):
    for _ in range(5):
        kit.queued(tenant="capped", allowed=limits(running_jobs=2))
    others = [kit.queued(tenant="free") for _ in range(3)]

    released = [one.job_id for one in kit.store.release(100)]

    assert len(released) == 5
    assert set(others) <= set(released)


def test_a_capped_tenant_goes_on_when_one_of_its_jobs_ends(kit):
    for _ in range(3):
        kit.queued(allowed=limits(running_jobs=1))
    run = kit.claim(kit.store.release(100)[0])
    assert kit.store.release(100) == []

    kit.complete(run)

    assert len(kit.store.release(100)) == 1


def test_a_paused_lane_waits_and_the_other_does_not(kit):
    batch, person = kit.queued(lane=Lane.BATCH), kit.queued()
    kit.store.pause("lane", "batch")

    assert [one.job_id for one in kit.store.release(100)] == [person]

    kit.store.resume("lane", "batch")
    assert [one.job_id for one in kit.store.release(100)] == [batch]


def test_a_paused_tenant_waits_and_the_others_do_not(kit):
    paused, other = kit.queued(tenant="p"), kit.queued(tenant="o")
    kit.store.pause("tenant", "p")

    assert [one.job_id for one in kit.store.release(100)] == [other]

    kit.store.resume("tenant", "p")
    assert [one.job_id for one in kit.store.release(100)] == [paused]


def test_a_job_submitted_to_a_paused_lane_waits_too(kit):
    kit.store.pause("lane", "batch")
    kit.store.release(1)
    job = kit.queued(lane=Lane.BATCH)

    assert kit.store.release(100) == []
    assert kit.state(job) is JobState.QUEUED


def test_a_paused_worker_offers_no_seats_and_claims_nothing(small):
    release = small.released()
    small.queued()
    small.store.pause("worker", "w4")

    assert small.store.release(100) == []
    assert small.store.claim(release.job_id, release.epoch, "t", "w4") is None
    assert small.state(release.job_id) is JobState.QUEUED


def test_a_submit_wakes_the_scheduler_once(kit):
    kit.redis.delete(f"{PREFIX}wake")
    kit.queued()
    kit.queued()

    assert kit.store.wait_for_wake(0.1)
    assert not kit.store.wait_for_wake(0.01)


def test_a_job_released_again_names_no_worker(kit):
    run = kit.running()
    assert kit.job(run.id).worker == "w1"
    kit.store.give_back(run.id, run.token)

    kit.store.release(10)

    assert kit.job(run.id).worker == ""


def test_a_resumed_lane_and_a_new_worker_are_released_to_at_once(kit):
    kit.queued()
    kit.store.pause("tenant", "a")
    kit.store.release(1)
    for news in (lambda: kit.store.resume("tenant", "a"), lambda: kit.add_worker("w2", slots=1)):
        kit.redis.delete(f"{PREFIX}wake")

        news()

        assert kit.store.wait_for_wake(0.01)


def test_an_entry_whose_record_is_gone_is_passed_over_and_counted_no_more(kit):
    gone, waiting = kit.queued(), kit.queued()
    kit.redis.delete(f"{PREFIX}job:{gone}")

    assert [one.job_id for one in kit.store.release(10)] == [waiting]

    assert kit.store.depth().waiting == {"interactive": 0, "batch": 0}
    assert kit.redis.hgetall(f"{PREFIX}queued_work") == {}


def test_nothing_is_left_of_a_queue_whose_last_record_is_gone(kit):
    kit.redis.delete(f"{PREFIX}job:{kit.queued()}")

    assert kit.store.release(10) == []

    assert kit.store.depth().waiting == {"interactive": 0, "batch": 0}
    assert kit.redis.hgetall(f"{PREFIX}queued_work") == {}
