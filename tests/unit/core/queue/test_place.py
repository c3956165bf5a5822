"""Queue place and ETA: the order that the releases will really have, and the measured pace."""

import random

import pytest

from core.job import Lane
from core.redis_client import PREFIX
from tests.queue_kit import Kit, limits


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
