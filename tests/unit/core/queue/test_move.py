"""move.lua: an operator puts a waiting job before or behind the others of its tenant's lane."""

import pytest

from core.job import JobState, Lane, Priority
from core.redis_client import PREFIX
from tests.queue_kit import violations


def order(kit, count=100):
    return [one.job_id for one in kit.store.release(count)]


def test_a_job_goes_before_all_that_wait_even_those_of_high_priority(kit):
    first, second = kit.queued(), kit.queued()
    high, last = kit.queued(priority=Priority.HIGH), kit.queued()

    assert kit.store.move(last, to_front=True) is JobState.QUEUED
    assert kit.store.move(second, to_front=True) is JobState.QUEUED

    assert order(kit) == [second, last, high, first]


def test_a_job_goes_behind_all_that_wait(kit):
    first, second, low = kit.queued(), kit.queued(), kit.queued(priority=Priority.LOW)

    kit.store.move(first, to_front=False)

    assert order(kit) == [second, low, first]


def test_the_same_move_again_changes_nothing(kit):
    kit.queued()
    last = kit.queued()
    kit.store.move(last, to_front=True)
    before = kit.snapshot()

    assert kit.store.move(last, to_front=True) is JobState.QUEUED
    assert kit.snapshot() == before


def test_a_moved_job_keeps_its_place_over_a_release_that_nobody_claims(kit):
    first, last = kit.queued(), kit.queued()
    kit.store.move(last, to_front=True)
    kit.store.release(1)
    kit.let_run_out("rel", last)
    kit.store.reap()

    assert order(kit) == [last, first]


def test_a_move_gives_a_tenant_no_more_than_its_share(kit):
    mine, others = [kit.queued() for _ in range(4)], [kit.queued(tenant="b") for _ in range(4)]
    for job_id in mine:
        kit.store.move(job_id, to_front=True)

    released = order(kit, 4)

    assert len(set(released) & set(mine)) == len(set(released) & set(others)) == 2


def test_the_other_lane_and_the_other_model_stay_as_they_are(kit):
    kit.queued()
    batch, other = kit.queued(lane=Lane.BATCH), kit.queued(queue="other")
    before = kit.snapshot()

    for job_id in (batch, other):
        assert kit.store.move(job_id, to_front=True) is JobState.QUEUED

    assert kit.snapshot() == before


@pytest.mark.parametrize("state", ["released", "running", "retry", "following", "ended"])
def test_what_does_not_wait_in_a_queue_is_not_moved(kit, state):
    job_id = {
        "released": lambda: kit.released().job_id,
        "running": lambda: kit.running().id,
        "retry": lambda: kit.waiting_to_retry().id,
        "following": lambda: [kit.queued(fingerprint="f") for _ in range(2)][1],
        "ended": kit.succeeded,
    }[state]()
    kit.queued()
    before = kit.snapshot()

    assert kit.store.move(job_id, to_front=True) is kit.state(job_id) is not JobState.QUEUED
    assert kit.snapshot() == before


def test_an_unknown_job_is_not_moved(kit):
    assert kit.store.move("0" * 32, to_front=True) is None


def test_counters_are_right_after_moves(kit):
    ids = [kit.queued() for _ in range(3)]
    for job_id in ids:
        kit.store.move(job_id, to_front=False)
    for job_id in order(kit):
        kit.store.cancel(job_id)

    assert violations(kit.redis, ids) == []
    assert kit.redis.zcard(f"{PREFIX}tq:a|interactive") == 0
