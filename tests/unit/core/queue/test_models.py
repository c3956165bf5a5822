"""Several models: each has a window, a race and a pace of its own; tenants, limits and the bill are shared."""

from dataclasses import replace

import pytest

from core.errors import Overloaded, QueueFull
from core.job import JobState, Lane
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import CRASHED, Kit, limits, make_picture, violations


@pytest.fixture
def duo(queue_redis):
    """A kit with a worker of the default model and one of `other`, two seats each: windows of five."""
    made = Kit(queue_redis)
    made.add_worker("w1", slots=2)
    made.add_worker("w2", slots=2, queue="other")
    return made


def released(duo, limit=100):
    return duo.store.release(limit)


def claimed(duo, release, token="t"):
    worker = "w2" if release.queue else "w1"
    return duo.store.claim(release.job_id, release.epoch, token, worker, release.queue)


def test_a_release_says_which_model_it_is_for(duo):
    plain, other = duo.queued(), duo.queued(queue="other")

    assert {one.job_id: one.queue for one in released(duo)} == {plain: "", other: "other"}
    assert (duo.job(plain).queue, duo.job(other).queue) == ("", "other")


def test_each_model_has_a_window_of_its_own(duo):
    for _ in range(10):
        duo.queued()
        duo.queued(queue="other")

    found = released(duo)

    assert sorted(one.queue for one in found) == [""] * 5 + ["other"] * 5
    assert released(duo) == []


def test_jobs_that_a_worker_holds_count_to_its_own_models_window(duo):
    for _ in range(10):
        duo.queued()
        duo.queued(queue="other")
    other = next(one for one in released(duo) if one.queue)
    claimed(duo, other)
    assert released(duo) == []

    duo.store.give_back(other.job_id, "t")

    assert [one.queue for one in released(duo)] == ["other"]


def test_a_model_without_workers_waits_and_blocks_nobody(duo):
    duo.redis.zrem(f"{PREFIX}workers", "w2")
    waiting = [duo.queued(queue="other") for _ in range(20)]
    plain = duo.queued()

    assert [one.job_id for one in released(duo)] == [plain]
    assert duo.state(waiting[0]) is JobState.QUEUED
    duo.add_worker("w2", slots=2, queue="other")
    assert [one.job_id for one in released(duo)] == waiting[:5]


def test_the_default_model_without_workers_blocks_no_other(duo):
    duo.redis.zrem(f"{PREFIX}workers", "w1")
    duo.queued()
    other = duo.queued(queue="other")

    assert [one.job_id for one in released(duo)] == [other]


def test_the_limit_of_a_call_is_of_all_models_together(duo):
    for _ in range(5):
        duo.queued()
        duo.queued(queue="other")

    assert len(released(duo, 3)) == 3
    assert len(released(duo, 3)) == 3


def test_a_busy_model_takes_nothing_of_a_tenants_turn_at_another(duo):
    """Each race has a clock of its own."""
    for _ in range(5):
        duo.queued(tenant="busy", queue="other")
    released(duo)
    first = duo.queued(tenant="busy")
    duo.queued(tenant="new")

    assert released(duo, 1)[0].job_id == first


def test_an_idle_tenant_comes_back_at_its_models_own_time(duo):
    duo.add_worker("w1", slots=100)
    for _ in range(50):
        duo.queued(tenant="a")
    released(duo)  # the default model's clock is far ahead of the other's
    duo.queued(tenant="early", queue="other")
    duo.queued(tenant="late", queue="other")

    scores = duo.redis.zrange(f"{PREFIX}act@other", 0, -1, withscores=True)

    assert [score for _, score in scores] == [0.0, 0.0]


def test_a_worker_of_another_model_claims_nothing_and_the_job_is_queued_again(duo):
    job_id = duo.queued(queue="other")
    [release] = released(duo)

    assert duo.store.claim(release.job_id, release.epoch, "t", "w1") is None
    assert duo.state(job_id) is JobState.QUEUED
    assert claimed(duo, released(duo)[0]).job_id == job_id


def test_a_job_of_a_further_model_ends_as_any_other(duo):
    ids = [duo.queued(queue="other") for _ in range(6)]
    canceled, unclaimed, *rest = released(duo)
    duo.store.cancel(canceled.job_id)
    duo.let_run_out("rel@other", unclaimed.job_id)
    assert duo.store.reap().unclaimed == 1
    for turn in range(10):
        for one in [*rest, *released(duo)]:
            lease = claimed(duo, one, f"t{turn}")
            if lease is not None:
                duo.store.complete(one.job_id, lease.token, make_picture(one.job_id))
        rest = []

    assert duo.redis.zcard(f"{PREFIX}rel@other") == 0
    assert violations(duo.redis, ids) == []


def test_a_tenant_at_its_cap_is_unparked_in_every_model(duo):
    capped = limits(running_jobs=1)
    duo.queued(allowed=capped)
    [first] = released(duo)
    waiting = duo.queued(queue="other", allowed=capped)
    assert released(duo) == []
    claimed(duo, first)

    duo.store.give_back(first.job_id, "t")
    duo.store.cancel(first.job_id)

    assert [one.job_id for one in released(duo)] == [waiting]


def test_queued_jobs_of_all_models_count_to_a_tenants_limit(duo):
    capped = limits(queued_jobs=1)
    duo.queued(queue="other", allowed=capped)

    with pytest.raises(QueueFull):
        duo.queued(allowed=capped)


def test_place_and_eta_are_of_the_jobs_own_model(duo):
    duo.redis.hset(f"{PREFIX}pace", mapping={"run_ms": 1000, "gap_ms": 1000, "ends": 1})
    duo.redis.hset(f"{PREFIX}pace@other", mapping={"run_ms": 9000, "gap_ms": 9000, "ends": 1})
    for _ in range(3):
        duo.queued(tenant="b")
    other = duo.queued(queue="other")

    place = duo.store.queue_place(duo.job(other))

    assert (place.position, place.eta_seconds) == (1, 9.0)
    duo.redis.zrem(f"{PREFIX}workers", "w2")
    assert duo.store.queue_place(duo.job(other)).eta_seconds == 69.0


def test_the_pace_is_measured_for_each_model(duo):
    duo.queued(queue="other")
    [release] = released(duo)
    lease = claimed(duo, release)
    duo.store.complete(lease.job_id, lease.token, make_picture(lease.job_id))

    assert duo.redis.exists(f"{PREFIX}pace@other") == 1
    assert duo.redis.exists(f"{PREFIX}pace") == 0


def test_pausing_a_lane_or_a_tenant_holds_in_every_model(duo):
    duo.queued(queue="other", lane=Lane.BATCH)
    duo.store.pause("lane", "batch")
    assert released(duo) == []

    duo.store.resume("lane", "batch")

    assert len(released(duo)) == 1


def test_followers_and_heirs_stay_with_their_model(duo):
    leader = duo.queued(queue="other", fingerprint="f")
    follower = duo.queued(queue="other", fingerprint="f")
    duo.store.cancel(leader)

    assert [(one.job_id, one.queue) for one in released(duo)] == [(follower, "other")]


def test_depth_counts_all_models(duo):
    duo.queued(queue="other")
    duo.queued()
    released(duo)
    duo.queued(queue="other")

    depth = duo.store.depth()

    assert (depth.released, depth.waiting["interactive"]) == (2, 1)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda duo, job: duo.redis.zrem(f"{PREFIX}tq:a|interactive@other", job),
        lambda duo, job: duo.redis.zrem(f"{PREFIX}act@other", "a|interactive@other"),
    ],
)
def test_the_auditor_puts_a_job_back_into_its_models_queue(duo, break_it):
    job_id = duo.queued(queue="other")
    assert duo.store.audit_job(job_id, repair=False) == ""
    break_it(duo, job_id)

    assert duo.store.audit_job(job_id, repair=True) != ""

    assert duo.store.audit_job(job_id, repair=False) == ""
    assert [one.job_id for one in released(duo)] == [job_id]


def test_room_that_a_list_keeps_is_its_own_models(queue_redis):
    duo = Kit(queue_redis, replace(Settings(), queued_jobs=3))
    kept = {"tenant": "b", "day": "0", "units": 3, "jobs": 3, "model": "other"}
    duo.redis.hset(f"{PREFIX}hold:b1", mapping=kept)
    duo.redis.zadd(f"{PREFIX}holds", {"b1": 1e15})

    for _ in range(3):
        duo.queued()

    with pytest.raises(Overloaded):
        duo.queued(queue="other")


def test_a_model_without_workers_fills_its_own_room_and_no_other(queue_redis):
    duo = Kit(queue_redis, replace(Settings(), queued_jobs=3))
    for _ in range(3):
        duo.queued(queue="other")

    with pytest.raises(Overloaded):
        duo.queued(queue="other")
    for _ in range(3):
        duo.queued()
    with pytest.raises(Overloaded):
        duo.queued()
    duo.queued(queue="third")


def test_depth_and_pace_are_told_for_each_model(duo):
    duo.redis.hset(f"{PREFIX}pace@other", mapping={"run_ms": 9000, "gap_ms": 3000, "ends": 1})
    for _ in range(7):
        duo.queued(queue="other")
    plain = duo.queued()
    found = released(duo)
    claimed(duo, next(one for one in found if one.queue))
    claimed(duo, next(one for one in found if not one.queue))
    duo.store.fail(plain, "t", CRASHED)

    other, default = duo.store.depth().models["other"], duo.store.depth().models[""]

    assert (other.waiting, other.released, other.running, other.outstanding) == (2, 4, 1, 7)
    assert (default.waiting, default.released, default.running, default.outstanding) == (1, 0, 0, 1)
    assert (other.run_seconds, other.gap_seconds, other.worker_slots) == (9.0, 3.0, 2)


def test_waiting_jobs_of_a_model_are_none_again_when_all_have_left(duo):
    ids = [duo.queued(queue="other") for _ in range(3)]
    duo.store.cancel(ids[0])
    [first, _] = released(duo)
    duo.let_run_out("rel@other", first.job_id)
    duo.store.reap()
    for job_id in ids:
        duo.store.cancel(job_id)

    assert violations(duo.redis, ids) == []
    assert duo.store.depth().models["other"].outstanding == 0


def test_the_auditor_recounts_the_waiting_jobs_of_a_model(duo):
    for _ in range(4):
        duo.queued(queue="other")
    duo.queued()
    assert duo.store.audit_counts(repair=False) == {}
    duo.redis.hset(f"{PREFIX}nq", "@other", 9)

    assert duo.store.audit_counts(repair=True) == {"@other": 5}

    assert duo.store.audit_counts(repair=False) == {}
    assert duo.store.depth().models["other"].waiting == 4


@pytest.mark.parametrize(("waits", "seconds"), [({}, 1), ({"queue": "other", "work": 2.0}, 8)])
def test_a_full_queue_says_to_come_back_at_the_pace_of_the_model_whose_jobs_wait(duo, waits, seconds):
    duo.redis.hset(f"{PREFIX}pace", mapping={"run_ms": 1000, "gap_ms": 1000, "ends": 1})
    duo.redis.hset(f"{PREFIX}pace@other", mapping={"run_ms": 9000, "gap_ms": 4000, "ends": 1})
    full = limits(queued_jobs=1)
    duo.queued(allowed=full, **waits)

    with pytest.raises(QueueFull) as plain:
        duo.queued(allowed=full)
    with pytest.raises(QueueFull) as other:
        duo.queued(queue="other", work=9.0, allowed=full)

    assert (plain.value.retry_after_seconds, other.value.retry_after_seconds) == (seconds, seconds)
