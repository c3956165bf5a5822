"""The server's clock jumps, as after a failover to another host: nothing waits for the old time to come back."""

import pytest

from core.errors import RateLimited
from core.job import JobState, Priority
from core.long_list import HOLD_SECONDS
from core.redis_client import PREFIX
from core.retry_policy import RetryPolicy
from core.settings import Settings
from tests.queue_kit import Kit, limits, make_job

HOUR_MS = 3_600_000
SCORED = ("rel", "rel@other", "lease", "retry", "deadline", "workers", "holds")
IN_JOBS = ("created", "started", "deadline")
IN_OTHERS = {"pace": ["last"], "ride:*": ["at"], "lim:*": ["at"]}
ALONE = ("tick", "grace", "gcra:*")


def jump(kit, ahead_ms):
    """The clock jumped `ahead_ms`: to it, all that is stored is as much further behind."""
    redis = kit.redis
    for name in SCORED:
        for member, score in redis.zrange(PREFIX + name, 0, -1, withscores=True):
            redis.zadd(PREFIX + name, {member: score - ahead_ms})
    hashes = {"job:*": IN_JOBS, **IN_OTHERS}
    for pattern, fields in hashes.items():
        for key in redis.scan_iter(PREFIX + pattern):
            for field in fields:
                if (value := redis.hget(key, field)) is not None:
                    redis.hset(key, field, str(int(float(value)) - ahead_ms))
    for pattern in ALONE:
        for key in redis.scan_iter(PREFIX + pattern):
            redis.set(key, repr(float(redis.get(key)) - ahead_ms))
    for key in redis.scan_iter(f"{PREFIX}repeat:*"):
        at, _, job_id = redis.get(key).partition("|")
        redis.set(key, f"{int(at) - ahead_ms}|{job_id}")


def now_ms(kit):
    seconds, microseconds = kit.redis.time()
    return seconds * 1000 + microseconds / 1000


def ahead(kit, name, member):
    """How long an entry still waits."""
    return kit.redis.zscore(PREFIX + name, member) - now_ms(kit)


def pace(kit):
    return {name: float(value) for name, value in kit.redis.hgetall(f"{PREFIX}pace").items()}


def test_what_nobody_claimed_is_released_again_after_the_usual_wait(kit):
    kit.add_worker("o", slots=9, queue="other")
    release, other = kit.released(), kit.released(queue="other")
    kit.store.reap()
    jump(kit, -HOUR_MS)

    kit.store.reap()

    claim_ms = kit.settings.claim_seconds * 1000
    assert ahead(kit, "rel", release.job_id) <= claim_ms + 2_000
    assert ahead(kit, "rel@other", other.job_id) <= claim_ms + 2_000
    assert ahead(kit, "rel", release.job_id) > claim_ms - 5_000


def test_the_wait_for_a_claim_follows_the_pace_here_too(kit):
    kit.redis.hset(f"{PREFIX}pace", "run_ms", "100000")
    release = kit.released()
    jump(kit, -HOUR_MS)

    kit.store.reap()

    assert ahead(kit, "rel", release.job_id) == pytest.approx(300_000, abs=5_000)


def test_what_waits_for_its_next_try_waits_as_long_as_any_may(kit):
    run = kit.waiting_to_retry()
    jump(kit, -HOUR_MS)

    kit.store.reap()

    policy = RetryPolicy(max_attempts=kit.settings.max_attempts)
    assert 0 < ahead(kit, "retry", run.id) <= policy.most_delay_ms


def test_no_delay_is_longer_than_the_policy_says():
    for most in (1, 2, 5, 30):
        policy = RetryPolicy(max_attempts=most)
        drawn = max(max(policy.delays_ms()) for _ in range(300))
        assert 0.6 * policy.most_delay_ms < drawn <= policy.most_delay_ms


def test_a_lease_lasts_no_longer_than_a_lease_however_many_there_are(kit):
    ids = [f"gone{number}" for number in range(1_200)]
    kit.redis.zadd(f"{PREFIX}lease", {one: now_ms(kit) + HOUR_MS for one in ids})

    for _ in range(2):
        kit.store.reap()

    assert max(ahead(kit, "lease", one) for one in ids) <= kit.settings.lease_seconds * 1000


def test_a_worker_that_is_silent_since_lives_no_longer_than_usual(kit):
    jump(kit, -HOUR_MS)

    kit.store.reap()

    assert ahead(kit, "workers", "w1") <= 0
    assert [worker.name for worker in kit.store.live_workers()] == ["w1"]


def test_the_room_of_a_list_whose_caller_went_away_comes_free(kit):
    kit.redis.zadd(f"{PREFIX}holds", {"list": now_ms(kit) + HOUR_MS})

    kit.store.reap()

    assert ahead(kit, "holds", "list") <= HOLD_SECONDS * 1000


def test_what_waits_within_its_time_is_left_where_it_is(kit):
    kit.running()
    kit.waiting_to_retry()
    release = kit.released()
    last_ms = now_ms(kit) + kit.settings.claim_seconds * 1000 + 700  # of hundreds that were sent a millisecond apart
    kit.redis.zadd(f"{PREFIX}rel", {release.job_id: last_ms})
    before = {name: kit.redis.zrange(PREFIX + name, 0, -1, withscores=True) for name in SCORED}

    kit.store.reap()

    assert {name: kit.redis.zrange(PREFIX + name, 0, -1, withscores=True) for name in SCORED} == before


def test_a_tenant_has_no_more_debt_than_it_had(kit):
    allowed = limits(burst_per_second=1.0, burst=5)
    for _ in range(5):
        kit.submit(allowed=allowed)
    jump(kit, -HOUR_MS)

    assert 3 < kit.store.usage("a", allowed).burst_reset_seconds <= 5
    with pytest.raises(RateLimited) as refused:
        kit.submit(allowed=allowed)

    assert refused.value.retry_after_seconds <= 2
    jump(kit, 3_000)
    kit.submit(allowed=allowed)


def test_a_debt_is_worked_off_as_time_goes_on(kit):
    allowed = limits(burst_per_second=1.0, burst=5)
    for _ in range(5):
        kit.submit(allowed=allowed)
    jump(kit, 3_000)

    assert kit.store.usage("a", allowed).burst_remaining == 3
    kit.submit(allowed=allowed)


def test_the_debt_of_more_than_a_burst_is_remembered_too(kit):
    allowed = limits(burst_per_second=1.0, burst=5)
    kit.store.submit_many([make_job() for _ in range(20)], allowed)
    jump(kit, -HOUR_MS)

    with pytest.raises(RateLimited) as refused:
        kit.submit(allowed=allowed)

    assert 14 <= refused.value.retry_after_seconds <= 17


def test_a_call_long_after_a_double_click_is_another_one(kit):
    first = kit.submit(repeat_key="k", repeat_seconds=2.0)
    jump(kit, -HOUR_MS)

    assert kit.submit(repeat_key="k", repeat_seconds=2.0).job_id != first.job_id


def test_a_double_click_while_the_clock_is_set_right_by_a_moment_is_one(kit):
    first = kit.submit(repeat_key="k", repeat_seconds=2.0)
    jump(kit, -500)

    assert kit.submit(repeat_key="k", repeat_seconds=2.0).job_id == first.job_id


def measured(kit, count=5):
    """So many pictures of two seconds each."""
    for _ in range(count):
        run = kit.running()
        kit.redis.hset(f"{PREFIX}job:{run.id}", "started", int(now_ms(kit) - 2_000))
        kit.complete(run)


def test_a_run_that_ended_before_it_began_measures_nothing(kit):
    measured(kit)
    run = kit.running()
    jump(kit, -HOUR_MS)
    before = {name: value for name, value in pace(kit).items() if name != "last"}

    kit.complete(run)

    after = pace(kit)
    assert {name: value for name, value in after.items() if name != "last"} == before
    assert kit.state(run.id) is JobState.SUCCEEDED


def test_a_gap_since_an_end_that_is_still_to_come_is_none(kit):
    measured(kit)
    jump(kit, -HOUR_MS)

    measured(kit, 1)

    assert 0 < pace(kit)["end_gap_ms"] <= 2_500
    assert pace(kit)["last"] <= now_ms(kit)


def test_the_company_of_a_worker_is_never_less_than_nobody(kit):
    kit.running()
    measured(kit, 1)
    jump(kit, -HOUR_MS)

    measured(kit, 3)

    assert float(kit.redis.hget(f"{PREFIX}ride:w1", "sum")) >= 0
    assert all(int(name.partition(":")[2]) <= 3 for name in pace(kit) if name.startswith("ms:"))


def test_a_run_over_which_the_clock_jumped_ahead_counts_ten_usual_ones_at_most(kit):
    measured(kit, 30)
    run = kit.running()
    jump(kit, HOUR_MS)

    kit.complete(run)

    assert 2_000 < pace(kit)["run_ms"] <= 1.5 * 2_100
    assert pace(kit)["ms:1"] <= 1.5 * 2_100
    assert pace(kit)["end_gap_ms"] <= 1.5 * 2_100
    assert {name for name in pace(kit) if name.startswith("ms:")} == {"ms:1"}


def test_a_large_picture_among_small_ones_counts_for_what_it_took(kit):
    measured(kit, 30)
    run = kit.running(work=20.0)
    kit.redis.hset(f"{PREFIX}job:{run.id}", "started", int(now_ms(kit) - 40_000))

    kit.complete(run)

    assert pace(kit)["run_ms"] == pytest.approx(0.95 * 2_000 + 0.05 * 40_000, abs=100)


def test_a_service_that_became_slow_is_learnt_all_the_same(kit):
    measured(kit, 30)
    for _ in range(40):
        kit.add_worker("w1", slots=1000)  # a heartbeat: on a busy machine so many runs take longer than a silence
        run = kit.running()
        kit.redis.hset(f"{PREFIX}job:{run.id}", "started", int(now_ms(kit) - 200_000))
        kit.complete(run)

    assert pace(kit)["run_ms"] > 100_000


def test_a_first_run_measures_whatever_it_took(kit):
    run = kit.running()
    kit.redis.hset(f"{PREFIX}job:{run.id}", "started", int(now_ms(kit) - 50_000))

    kit.complete(run)

    assert pace(kit)["run_ms"] == pytest.approx(50_000, abs=1_000)


def test_a_job_that_was_sent_in_later_than_it_is_now_waited_for_nothing(kit):
    release = kit.released()
    jump(kit, -HOUR_MS)

    kit.claim(release)

    assert float(kit.redis.hget(f"{PREFIX}stage_times", "queue|sum")) == 0


def test_the_next_reap_after_the_clock_went_back_brings_the_service_on(queue_redis):
    """All that is on its way is lost with the old host, and one worker lives on."""
    kit = Kit(queue_redis, Settings(claim_seconds=5, lease_seconds=3))
    kit.add_worker("w1", slots=4)
    ids = [kit.queued() for _ in range(20)]
    assert len(kit.store.release(64)) == 8
    jump(kit, -HOUR_MS)
    kit.store.reap()

    jump(kit, 10_000)  # later
    kit.add_worker("w1", slots=4)
    kit.redis.delete(f"{PREFIX}grace", f"{PREFIX}tick")
    assert kit.store.reap().unclaimed == 8

    assert len(kit.store.release(64)) == 8
    assert {kit.state(one) for one in ids} == {JobState.RELEASED, JobState.QUEUED}


def pass_time(kit, ms):
    """So much of it since the last job came."""
    kit.redis.incrby(f"{PREFIX}arrived", -ms)


def test_a_clock_that_was_set_back_an_hour_gives_priorities_no_hour(kit):
    """Arrivals go on, though slower than the clock: a low one has its turn before what came much later."""
    kit.add_worker("w1", slots=10)
    kit.redis.mset({f"{PREFIX}arrival": now_ms(kit) + HOUR_MS, f"{PREFIX}arrived": int(now_ms(kit))})
    low = kit.queued(priority=Priority.LOW)
    pass_time(kit, 40 * 60_000)
    normal = kit.queued()
    pass_time(kit, 40 * 60_000)
    high = kit.queued(priority=Priority.HIGH)

    assert [one.job_id for one in kit.store.release(3)] == [low, normal, high]


def test_arrivals_come_back_into_the_time_of_a_clock_that_was_set_back(kit):
    kit.redis.mset({f"{PREFIX}arrival": now_ms(kit) + HOUR_MS, f"{PREFIX}arrived": int(now_ms(kit))})
    kit.queued()
    assert ahead_of_clock(kit) == pytest.approx(HOUR_MS, abs=1000)
    for ahead_ms in (HOUR_MS * 3 / 4, HOUR_MS / 2, 0):
        let_half_an_hour_pass(kit)
        assert ahead_of_clock(kit) == pytest.approx(ahead_ms, abs=1000)


def test_a_release_that_notes_no_time_of_arrivals_puts_none_ahead_of_the_clock(kit):
    """In a rolling upgrade: the last arrival is its, the time of one is from long before."""
    kit.redis.mset({f"{PREFIX}arrival": now_ms(kit) - 5, f"{PREFIX}arrived": int(now_ms(kit)) - HOUR_MS})

    kit.queued()

    assert ahead_of_clock(kit) <= 1


def ahead_of_clock(kit):
    return float(kit.redis.get(f"{PREFIX}arrival")) - now_ms(kit)


def let_half_an_hour_pass(kit):
    """All that is stored is as much older, and another job comes."""
    kit.redis.set(f"{PREFIX}arrival", repr(float(kit.redis.get(f"{PREFIX}arrival")) - HOUR_MS // 2))
    pass_time(kit, HOUR_MS // 2)
    kit.queued()
