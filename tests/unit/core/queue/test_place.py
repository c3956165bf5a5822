"""Queue place and ETA: the order that the releases will really have, and the measured pace."""

import random

import pytest

from core.job import Lane
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, Kit, limits


def places(kit, ids):
    return [kit.store.queue_place(kit.job(job_id)).position for job_id in ids]


def test_jobs_of_one_tenant_stand_in_line(kit):
    assert places(kit, [kit.queued() for _ in range(3)]) == [1, 2, 3]


def test_a_released_job_stands_at_nought_and_a_running_one_nowhere(kit):
    release = kit.released()
    assert kit.store.queue_place(kit.job(release.job_id)).position == 0
    kit.claim(release)

    assert kit.store.queue_place(kit.job(release.job_id)) is None


def test_a_follower_stands_where_its_leader_stands(kit):
    kit.queued()
    kit.queued(fingerprint="f")
    follower = kit.queued(fingerprint="f")

    assert kit.store.queue_place(kit.job(follower)).position == 2


def test_a_newcomer_stands_near_the_front_of_a_long_batch(kit):
    for _ in range(300):
        kit.queued(tenant="big", lane=Lane.BATCH)
    kit.store.release(10)
    person = kit.queued(tenant="person")

    assert places(kit, [person])[0] <= 2


@pytest.mark.parametrize("seed", range(5))
def test_the_place_is_the_order_of_release(kit, seed):
    rng = random.Random(seed)
    ids = []
    for _ in range(60):
        tenant = rng.choice("abcd")
        weight = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0}[tenant]
        ids.append(kit.queued(tenant=tenant, lane=rng.choice(list(Lane)), allowed=limits(weight=weight)))
    kit.store.release(rng.randrange(10))
    waiting = [job_id for job_id in ids if kit.job(job_id).state == "QUEUED"]
    said = dict(zip(waiting, places(kit, waiting), strict=True))

    order = []
    while released := kit.store.release(1):
        order += [one.job_id for one in released]

    errors = [abs(said[job_id] - (index + 1)) for index, job_id in enumerate(order)]
    assert max(errors) <= 8, "lanes and tenants with equal virtual times may go either way"
    assert sum(errors) / len(errors) <= 2


def test_without_any_measurement_there_is_no_eta(kit):
    assert kit.store.queue_place(kit.job(kit.queued())).eta_seconds is None


def test_the_eta_is_the_work_ahead_at_the_measured_pace(kit):
    kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": "4000", "gap_ms": "1000", "ends": 100, "last": 1})
    ids = [kit.queued() for _ in range(20)]

    etas = [kit.store.queue_place(kit.job(job_id)).eta_seconds for job_id in ids]

    assert etas[0] == 4.0
    assert etas[19] == 20.0


def test_the_eta_counts_what_rides_already(kit):
    kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": "4000", "gap_ms": "1000", "ends": 100, "last": 1})
    for _ in range(9):
        kit.running()

    assert kit.store.queue_place(kit.job(kit.queued())).eta_seconds == 10.0


def test_the_eta_of_what_is_on_its_way_counts_what_was_released_before_it_and_itself_once(kit):
    with_pace(kit)
    kit.running()
    ids = [kit.queued() for _ in range(10)]
    on_their_way = [one.job_id for one in kit.store.release(10)]
    assert on_their_way == ids

    etas = [place_of(kit, job_id).eta_seconds for job_id in ids]

    assert etas == [4.0, 4.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert place_of(kit, kit.queued()).eta_seconds == 12.0


def test_the_eta_counts_the_work_of_small_pictures_that_ride_not_their_number(kit):
    pace = {"run_ms": "1000", "gap_ms": "1000", "mean_work": "0.25", "ends": 100, "last": 1}
    kit.redis.hset(f"{PREFIX}pace", mapping=pace)
    for _ in range(9):
        kit.running(work=0.25)

    assert kit.store.queue_place(kit.job(kit.queued(work=0.25))).eta_seconds == 2.5


def test_a_picture_larger_than_the_mean_runs_as_much_longer(kit):
    pace = {"run_ms": "4000", "gap_ms": "100", "mean_work": "0.5", "ends": 100, "last": 1}
    kit.redis.hset(f"{PREFIX}pace", mapping=pace)

    assert kit.store.queue_place(kit.job(kit.queued(work=1.0))).eta_seconds == 8.0


def test_the_mean_work_of_a_run_is_measured_from_ends(kit):
    for _ in range(3):
        kit.complete(kit.running(work=0.25))

    assert float(kit.redis.hget(f"{PREFIX}pace", "mean_work")) == 0.25


def test_the_eta_includes_the_start_of_a_worker_where_none_lives(kit):
    kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": "4000", "gap_ms": "1000", "ends": 100, "last": 1})
    kit.store.forget_worker("w1")

    assert kit.store.queue_place(kit.job(kit.queued())).eta_seconds == 64.0


def test_the_pace_is_measured_from_ends(queue_redis):
    kit = Kit(queue_redis)
    run = kit.running()
    now = int(kit.redis.time()[0]) * 1000
    kit.redis.hset(f"{PREFIX}job:{run.id}", "started", now - 5000)

    kit.complete(run)

    assert kit.store.depth().run_seconds == pytest.approx(5.0, abs=1.1)
    assert kit.store.depth().gap_seconds == pytest.approx(5.0, abs=1.1)


def with_pace(kit, run_ms=4000, gap_ms=1000):
    kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": run_ms, "gap_ms": gap_ms, "ends": 100, "last": 1})


def place_of(kit, job_id):
    return kit.store.queue_place(kit.job(job_id))


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "a"), ("worker", "w1")])
def test_while_an_operator_stops_what_it_waits_for_a_job_has_a_place_and_no_eta(kit, kind, name):
    with_pace(kit)
    ids = [kit.queued() for _ in range(3)]
    kit.store.pause(kind, name)

    place = place_of(kit, ids[2])

    assert (place.position, place.eta_seconds, place.paused) == (3, None, True)
    kit.store.resume(kind, name)
    assert (place_of(kit, ids[2]).eta_seconds, place_of(kit, ids[2]).paused) == (4.0, False)


@pytest.mark.parametrize(("kind", "name"), [("lane", "batch"), ("tenant", "b"), ("worker", "w2")])
def test_a_pause_of_others_leaves_the_eta(kit, kind, name):
    with_pace(kit)
    kit.add_worker("w2", slots=4)
    kit.store.pause(kind, name)

    place = place_of(kit, kit.queued())

    assert (place.eta_seconds, place.paused) == (4.0, False)


def test_a_job_on_its_way_to_a_worker_is_not_held_up_by_a_paused_lane(kit):
    with_pace(kit)
    release = kit.released()
    kit.store.pause("lane", "interactive")

    assert not place_of(kit, release.job_id).paused


def begin_now(kit, *runs):
    """As if no time had passed since the runs began, nor will while a test asks."""
    for run in runs:
        kit.redis.hset(f"{PREFIX}job:{run.id}", "started", int(kit.redis.time()[0] + 60) * 1000)


def test_a_tenant_at_its_cap_waits_for_its_own_jobs_to_end(kit):
    with_pace(kit, run_ms=1000, gap_ms=10)
    ids = [kit.queued(allowed=limits(running_jobs=1)) for _ in range(10)]
    begin_now(kit, kit.claim(kit.store.release(10)[0]))

    etas = [place_of(kit, job_id).eta_seconds for job_id in ids[1:]]

    assert etas == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert place_of(kit, kit.queued(tenant="b")).eta_seconds == 1.0


def test_a_cap_of_several_jobs_lets_as_many_end_at_a_time(kit):
    with_pace(kit, run_ms=1000, gap_ms=10)
    ids = [kit.queued(allowed=limits(running_jobs=4)) for _ in range(12)]
    runs = [kit.claim(one) for one in kit.store.release(12)]
    now = int(kit.redis.time()[0]) * 1000
    kit.redis.hset(f"{PREFIX}job:{runs[0].id}", "started", now - 60_000)  # its end is overdue

    assert place_of(kit, ids[4]).eta_seconds == pytest.approx(1.0, abs=0.1)
    assert place_of(kit, ids[8]).eta_seconds == pytest.approx(2.0, abs=0.1)


def test_both_lanes_of_a_tenant_count_to_its_cap(kit):
    with_pace(kit, run_ms=1000, gap_ms=10)
    capped = limits(running_jobs=1)
    begin_now(kit, kit.claim(kit.released(allowed=capped)))
    row = kit.queued(lane=Lane.BATCH, allowed=capped)
    people = [kit.queued(allowed=capped) for _ in range(4)]

    # The batch lane has had no turn yet, and the other has.
    etas = [place_of(kit, job_id).eta_seconds for job_id in (row, *people)]

    assert etas == [2, 3, 4, 5, 6]


def test_below_its_cap_a_tenant_waits_for_nobody(kit):
    with_pace(kit, run_ms=1000, gap_ms=10)
    kit.running(allowed=limits(running_jobs=3))

    assert place_of(kit, kit.queued(allowed=limits(running_jobs=3))).eta_seconds == 1.0


def due_in(kit, job_id, seconds):
    now, _ = kit.redis.time()
    kit.redis.zadd(f"{PREFIX}retry", {job_id: (int(now) + seconds) * 1000})


def test_a_job_that_waits_for_its_next_try_is_told_where_it_stands_then_and_when_it_can_end(kit):
    with_pace(kit)
    run = kit.waiting_to_retry()
    due_in(kit, run.id, 100)

    place = place_of(kit, run.id)

    assert place.position == 1
    assert place.eta_seconds == pytest.approx(104, abs=1.1)


def test_who_follows_a_job_that_waits_for_its_next_try_is_told_the_same(kit):
    with_pace(kit)
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.store.fail(run.id, run.token, CRASHED)
    due_in(kit, run.id, 100)

    place = place_of(kit, follower)

    assert place.position == 1
    assert place.eta_seconds == pytest.approx(104, abs=1.1)


def test_a_next_try_comes_back_before_what_was_asked_later_and_behind_what_was_asked_before(kit):
    """Two that arrived before wait, and two behind; all of one tenant."""
    ids = [kit.queued() for _ in range(5)]
    runs = {one.job_id: kit.claim(one) for one in kit.store.release(5)}
    kit.store.fail(ids[2], runs[ids[2]].token, CRASHED)
    for job_id in (ids[0], ids[1], ids[3], ids[4]):
        kit.store.give_back(job_id, runs[job_id].token)

    assert places(kit, [ids[2]]) == [3]


def test_a_next_try_that_is_due_waits_for_the_work_ahead_alone(kit):
    with_pace(kit)
    run = kit.waiting_to_retry()
    kit.let_run_out("retry", run.id)
    for _ in range(9):
        kit.running(tenant="b")

    assert place_of(kit, run.id).eta_seconds == 10.0


def test_who_follows_a_job_on_its_way_stands_at_nought_like_it(kit):
    kit.released(fingerprint="f")

    assert place_of(kit, kit.queued(fingerprint="f")).position == 0
