"""How long the caller of a full queue is told to wait: what holds up the jobs that must go first counts."""

import pytest

from core.errors import Overloaded, QueueFull
from core.job import Lane
from core.patience import RETRY_AFTER_MOST, UNKNOWN_SECONDS
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, limits, make_job
from tests.unit.core.queue.test_place import begin_now, with_pace

FULL = limits(queued_jobs=10)


def told(kit, count=1, allowed=FULL, **more):
    with pytest.raises((QueueFull, Overloaded)) as refusal:
        kit.store.submit_many([make_job(**more) for _ in range(count)], allowed)
    return refusal.value.retry_after_seconds


def fill(kit, *, lane=Lane.INTERACTIVE, many=10, allowed=FULL, **more):
    kit.store.submit_many([make_job(lane=lane, **more) for _ in range(many)], allowed)


def test_places_come_free_at_the_measured_pace(kit):
    with_pace(kit, run_ms=4000, gap_ms=1000)
    fill(kit)

    assert [told(kit, count) for count in (1, 5, 10)] == [1, 5, 10]


def test_a_tenant_at_its_cap_of_running_jobs_waits_for_its_own_runs(kit):
    capped = limits(queued_jobs=10, running_jobs=1)
    with_pace(kit, run_ms=1000, gap_ms=10)
    begin_now(kit, kit.running(allowed=capped))
    fill(kit, allowed=capped)

    assert [told(kit, count, capped) for count in (1, 5, 10)] == [1, 5, 10]


def seen_in_company(kit, company=5, run_ms=10_000):
    """All pictures so far were drawn in so much company."""
    with_pace(kit, run_ms=run_ms, gap_ms=run_ms / company)
    kit.redis.hset(f"{PREFIX}pace", mapping={f"ms:{company}": run_ms, f"work:{company}": 1, f"ends:{company}": 9})


def test_where_no_run_alone_was_measured_it_is_taken_for_as_long_as_one_in_company(kit):
    capped = limits(queued_jobs=10, running_jobs=1)
    seen_in_company(kit)
    begin_now(kit, kit.running(allowed=capped))
    fill(kit, allowed=capped)
    kit.store.release(1)  # none, and from here on nobody but the one that runs will ride

    assert [told(kit, count, capped) for count in (1, 2)] == [10, 20]
    kit.redis.hset(f"{PREFIX}pace", mapping={"ms:1": 3000, "work:1": 1, "ends:1": 1})
    assert told(kit, 1, capped) == 3


def test_company_between_two_measured_ones_is_told_between_them(kit):
    capped = limits(queued_jobs=10, running_jobs=2)
    seen_in_company(kit)
    kit.redis.hset(f"{PREFIX}pace", mapping={"ms:1": 3000, "work:1": 1, "ends:1": 1})
    begin_now(kit, kit.running(allowed=capped), kit.running(allowed=capped))
    fill(kit, allowed=capped)
    kit.store.release(1)

    assert told(kit, 1, capped) == 5


@pytest.mark.parametrize(("seats", "seconds"), [(1, 10), (2, 5), (5, 2), (6, 2)])
def test_fewer_seats_than_were_ever_measured_are_not_taken_to_share_the_card_evenly(kit, seats, seconds):
    seen_in_company(kit)
    fill(kit)
    kit.add_worker("w1", slots=seats)

    assert told(kit) == seconds


def test_fewer_seats_on_each_of_several_workers_give_as_many_pictures_more(kit):
    seen_in_company(kit)
    fill(kit)
    for name in ("w1", "w2"):
        kit.add_worker(name, slots=1)

    assert told(kit) == 5


def test_a_full_service_is_told_the_same_where_it_was_seen_in_more_company_alone(room_for_ten):
    seen_in_company(room_for_ten)
    fill(room_for_ten, tenant="b")
    room_for_ten.add_worker("w1", slots=1)

    assert told(room_for_ten, 3, GENEROUS) == 30


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "a"), ("worker", "w1")])
def test_while_what_waits_is_paused_nobody_knows(kit, kind, name):
    with_pace(kit)
    fill(kit)
    kit.store.pause(kind, name)

    assert told(kit) == UNKNOWN_SECONDS > 1
    kit.store.resume(kind, name)
    assert told(kit) == 1


def test_where_no_worker_lives_the_start_of_one_is_waited_for(kit):
    with_pace(kit, gap_ms=1000)
    fill(kit)
    kit.store.forget_worker("w1")

    assert told(kit, 2) == 62


def test_before_anything_was_measured_nobody_knows(kit):
    fill(kit)

    assert told(kit) == UNKNOWN_SECONDS


def test_places_come_free_in_the_lane_that_goes_on_alone(kit):
    with_pace(kit, gap_ms=1000)
    fill(kit, many=5)
    fill(kit, many=5, lane=Lane.BATCH)
    kit.store.pause("lane", "interactive")
    kit.redis.zrem(f"{PREFIX}act", "a|interactive")  # as the next release puts it aside

    assert told(kit, 5) == 5
    assert told(kit, 6) == UNKNOWN_SECONDS, "only five of those may start"


def test_of_two_lanes_the_first_that_has_the_places_counts(kit):
    with_pace(kit, gap_ms=1000)
    fill(kit, many=1)
    fill(kit, many=9, lane=Lane.BATCH)

    assert told(kit, 1) == 1
    assert told(kit, 10) == 10, "all of both"


def test_no_wait_is_told_as_longer_than_the_longest(kit):
    with_pace(kit, gap_ms=100_000)
    fill(kit)

    assert told(kit, 10) == RETRY_AFTER_MOST


@pytest.fixture
def room_for_ten(queue_redis):
    """A service in which ten jobs may wait."""
    kit = Kit(queue_redis, Settings(queued_jobs=10))
    with_pace(kit, gap_ms=1000)
    return kit


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "b"), ("worker", "w1")])
def test_of_a_full_service_in_which_nothing_may_start_nobody_knows(room_for_ten, kind, name):
    fill(room_for_ten, tenant="b")
    assert told(room_for_ten, 3, GENEROUS) == 3
    room_for_ten.store.pause(kind, name)

    assert told(room_for_ten, 3, GENEROUS) == UNKNOWN_SECONDS


def test_in_a_full_service_others_than_the_paused_make_room(room_for_ten):
    fill(room_for_ten, tenant="b", many=5)
    fill(room_for_ten, tenant="c", many=5)
    room_for_ten.store.pause("tenant", "b")

    assert told(room_for_ten, 3, GENEROUS) == 3


def test_of_a_full_service_whose_waiting_jobs_all_stand_aside_nobody_knows(room_for_ten):
    fill(room_for_ten, tenant="b", allowed=limits(running_jobs=0))
    room_for_ten.store.release(9)

    assert told(room_for_ten, 1, GENEROUS) == UNKNOWN_SECONDS


def test_a_full_service_without_a_worker_waits_for_the_start_of_one(room_for_ten):
    fill(room_for_ten, tenant="b")
    room_for_ten.store.forget_worker("w1")

    assert told(room_for_ten, 3, GENEROUS) == 63


def test_each_model_makes_room_at_its_own_pace(room_for_ten):
    room_for_ten.add_worker("w2", slots=4, queue="other")
    room_for_ten.redis.hset(f"{PREFIX}pace@other", mapping={"run_ms": 9000, "gap_ms": 7000, "ends": 1})
    fill(room_for_ten, tenant="b", queue="other")

    assert told(room_for_ten, 2, GENEROUS, queue="other") == 14
