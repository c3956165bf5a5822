"""How long the caller of a full queue is told to wait: what holds up the jobs that must go first counts."""

import pytest

import core.long_list
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


class Portions:
    """A list of the batch lane that comes in five rows at a time; `at` says what is told to others meanwhile."""

    def __init__(self, kit, monkeypatch, *, allowed, many=45, **more):
        monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 5)
        self.kit, self.allowed = kit, allowed
        self.rows = [make_job(lane=Lane.BATCH, batch_id="b1", **more) for _ in range(many)]

    def at(self, stored, ask):
        """What `ask` says when so many rows are stored; further ones are not."""
        said = []

        def look():
            if sum(self.kit.redis.exists(f"{PREFIX}job:{row.id}") for row in self.rows) >= stored:
                said.append(ask())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.kit.store.submit_many(self.rows, self.allowed, look)
        return said[0]


@pytest.mark.parametrize("stored", [5, 15, 40])
def test_room_that_a_list_which_is_coming_in_keeps_is_waited_for_too(kit, monkeypatch, stored):
    """45 of 50 places are taken, whether the rows are stored yet or not: 25 more come when 20 have gone."""
    allowed = limits(queued_jobs=50)
    with_pace(kit, gap_ms=1000)
    coming = Portions(kit, monkeypatch, allowed=allowed)

    assert coming.at(stored, lambda: told(kit, 25, allowed, lane=Lane.BATCH)) == 20


def test_rows_that_are_still_to_come_wait_for_their_tenants_cap_too(kit, monkeypatch):
    allowed = limits(queued_jobs=50, running_jobs=1)
    with_pace(kit, run_ms=4000, gap_ms=10)
    begin_now(kit, kit.running(allowed=allowed))
    coming = Portions(kit, monkeypatch, allowed=allowed)

    assert coming.at(5, lambda: told(kit, 25, allowed)) == 80


def test_rows_that_are_still_to_come_share_the_service_as_those_that_came(kit, monkeypatch):
    allowed = limits(queued_jobs=50)
    with_pace(kit, gap_ms=1000)
    for tenant in "bc":
        fill(kit, tenant=tenant, lane=Lane.BATCH, many=60, allowed=GENEROUS)
    coming = Portions(kit, monkeypatch, allowed=allowed)

    assert 55 <= coming.at(5, lambda: told(kit, 25, allowed)) <= 65, "every third turn is its own"


def test_a_list_of_another_model_comes_in_at_its_own_models_pace(kit, monkeypatch):
    allowed = limits(queued_jobs=50)
    with_pace(kit, gap_ms=1000)
    kit.add_worker("w2", slots=4, queue="other")
    kit.redis.hset(f"{PREFIX}pace@other", mapping={"run_ms": 9000, "gap_ms": 7000, "ends": 1})
    coming = Portions(kit, monkeypatch, allowed=allowed, queue="other")

    assert coming.at(5, lambda: told(kit, 25, allowed)) == 140


@pytest.fixture
def list_without_rows(kit):
    """Of a list that keeps room nothing is stored, or waits any more."""
    kit.redis.hset(f"{PREFIX}hold:b1", mapping={"tenant": "a", "day": "1", "units": 10, "jobs": 10, "model": ""})
    kit.redis.hset(f"{PREFIX}hold:b2", mapping={"tenant": "b", "day": "1", "units": 10, "jobs": 10, "model": ""})
    kit.redis.zadd(f"{PREFIX}holds", {"b1": 1, "b2": 1})
    return kit


@pytest.mark.parametrize(("kind", "name"), [("lane", "batch"), ("tenant", "a")])
def test_while_a_list_of_which_nothing_waits_yet_is_paused_nobody_knows(list_without_rows, kind, name):
    with_pace(list_without_rows, gap_ms=1000)
    assert told(list_without_rows, 3) == 3
    list_without_rows.store.pause(kind, name)

    assert told(list_without_rows, 3) == UNKNOWN_SECONDS


def test_before_anything_was_measured_nobody_knows_of_a_list_either(list_without_rows):
    assert told(list_without_rows, 3) == UNKNOWN_SECONDS


def test_rows_that_wait_in_another_lane_make_room_before_a_list_that_is_paused(list_without_rows):
    with_pace(list_without_rows, gap_ms=1000)
    allowed = limits(queued_jobs=20)
    fill(list_without_rows, allowed=allowed)
    list_without_rows.store.pause("lane", "batch")

    assert told(list_without_rows, 10, allowed) == 10
    assert told(list_without_rows, 11, allowed) == UNKNOWN_SECONDS
