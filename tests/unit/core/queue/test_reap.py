"""reap.lua: what ran out is taken back, and a stall of our own punishes nobody."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import Kit, violations


def crash(kit, job_id):
    kit.let_run_out("lease", job_id)
    return kit.store.reap()


def test_a_job_whose_lease_ran_out_is_queued_again_and_rides_alone(kit):
    run = kit.running()

    report = crash(kit, run.id)

    job = kit.job(run.id)
    assert (report.leases, job.state, job.alone, job.crashes) == (1, JobState.QUEUED, True, 0)
    assert kit.redis.scard(f"{PREFIX}held:w1") == 0
    assert kit.redis.zcard(f"{PREFIX}run:a") == 0
    release = kit.store.release(1)[0]
    assert kit.store.claim(release.job_id, release.epoch, "t", "w2").alone


def test_a_lease_that_still_runs_is_left(kit):
    run = kit.running()

    assert kit.store.reap().leases == 0
    assert kit.state(run.id) is JobState.RUNNING


def test_crashes_cost_no_attempts(kit):
    run = kit.running(max_attempts=2)
    crash(kit, run.id)
    crash(kit, kit.claim_again(run.id).id)
    again = kit.claim_again(run.id)
    from tests.queue_kit import CRASHED

    assert kit.store.fail(again.id, again.token, CRASHED) is JobState.RETRY


def test_a_release_that_nobody_claimed_is_queued_again_in_its_old_place(kit):
    release = kit.released()
    later = kit.queued()
    kit.let_run_out("rel", release.job_id)

    assert kit.store.reap().unclaimed == 1

    assert [one.job_id for one in kit.store.release(10)] == [release.job_id, later]


def test_a_due_retry_is_queued_again(kit):
    run = kit.waiting_to_retry()
    assert kit.store.reap().retries == 0
    kit.let_run_out("retry", run.id)

    assert kit.store.reap().retries == 1
    assert kit.state(run.id) is JobState.QUEUED


@pytest.mark.parametrize("where", ["queued", "released", "waiting_to_retry"])
def test_a_waiting_job_past_its_deadline_ends_and_is_refunded(kit, where):
    made = getattr(kit, where)()
    job_id = getattr(made, "job_id", None) or getattr(made, "id", made)
    kit.let_run_out("deadline", job_id)

    assert kit.store.reap().deadlines == 1

    assert (kit.state(job_id), kit.job(job_id).failure.code) == (JobState.DEAD, "deadline_exceeded")
    assert violations(kit.redis, [job_id]) == []


def test_a_running_job_may_finish_past_its_deadline(kit):
    run = kit.running()
    kit.let_run_out("deadline", run.id)

    assert kit.store.reap().deadlines == 0
    assert kit.complete(run)


def test_a_run_that_crashed_past_its_deadline_ends(kit):
    run = kit.running()
    kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", 1)
    kit.let_run_out("deadline", run.id)
    kit.store.reap()

    crash(kit, run.id)
    kit.store.reap()

    assert kit.job(run.id).failure.code == "deadline_exceeded"


def test_after_a_stall_every_lease_gets_one_more_period(kit):
    run, release = kit.running(), kit.released()
    kit.store.reap()
    kit.redis.set(f"{PREFIX}tick", 1)
    kit.let_run_out("lease", run.id)
    kit.let_run_out("rel", release.job_id)

    report = kit.store.reap()

    assert (report.stalled, report.leases, report.unclaimed) == (True, 0, 0)
    assert (kit.state(run.id), kit.state(release.job_id)) == (JobState.RUNNING, JobState.RELEASED)


def test_a_server_whose_clock_was_set_back_counts_as_one_that_stood_still(kit):
    """As after a failover to a host with another clock: else no stall would be seen until the old time comes again."""
    run, doomed = kit.running(), kit.running()
    seconds, _ = kit.redis.time()
    hour_ahead = (int(seconds) + 3_600) * 1000
    kit.redis.mset({f"{PREFIX}tick": hour_ahead, f"{PREFIX}grace": hour_ahead})
    kit.redis.zadd(f"{PREFIX}lease", {run.id: hour_ahead, doomed.id: hour_ahead})

    report = kit.store.reap()

    lease_ms = kit.settings.lease_seconds * 1000
    assert report.stalled
    assert int(kit.redis.get(f"{PREFIX}tick")) < hour_ahead
    assert int(kit.redis.get(f"{PREFIX}grace")) <= int(seconds) * 1000 + lease_ms + 10_000
    assert kit.redis.zscore(f"{PREFIX}lease", doomed.id) <= int(seconds) * 1000 + lease_ms + 10_000
    assert not kit.store.reap().stalled


def test_the_grace_after_a_stall_ends(kit):
    run = kit.running()
    kit.redis.set(f"{PREFIX}tick", 1)
    kit.store.reap()
    kit.redis.set(f"{PREFIX}grace", 1)

    assert crash(kit, run.id).leases == 1


def test_the_grace_is_one_lease_long(queue_redis):
    kit = Kit(queue_redis, Settings(lease_seconds=50))
    kit.redis.set(f"{PREFIX}tick", 1)

    kit.store.reap()

    seconds, _ = kit.redis.time()
    assert float(kit.redis.get(f"{PREFIX}grace")) == pytest.approx((int(seconds) + 50) * 1000, abs=2000)


def test_a_usual_gap_between_two_reaps_is_no_stall(kit):
    kit.store.reap()
    seconds, _ = kit.redis.time()
    kit.redis.set(f"{PREFIX}tick", (int(seconds) - 1) * 1000)

    assert not kit.store.reap().stalled


def test_one_call_takes_back_no_more_than_a_hundred(kit):
    for _ in range(120):
        run = kit.running()
        kit.let_run_out("lease", run.id)

    first, second = kit.store.reap(), kit.store.reap()

    assert (first.leases, first.is_full, second.leases, second.is_full) == (100, True, 20, False)


def test_one_call_takes_back_no_more_than_a_hundred_of_all_kinds_together(kit):
    due = {"lease": 60, "rel": 30, "retry": 30, "deadline": 30}
    made = {"lease": kit.running, "rel": kit.released, "retry": kit.waiting_to_retry}
    entries = [(kind, one()) for kind, one in made.items() for _ in range(due[kind])]
    entries += [("deadline", kit.queued()) for _ in range(due["deadline"])]
    for kind, one in entries:
        kit.let_run_out(kind, getattr(one, "job_id", None) or getattr(one, "id", one))

    reports = [kit.store.reap() for _ in range(2)]

    assert [one.total for one in reports] == [100, 50]
    assert [one.is_full for one in reports] == [True, False]
    assert [
        sum(count) for count in zip(*[(r.leases, r.unclaimed, r.retries, r.deadlines) for r in reports], strict=True)
    ] == [60, 30, 30, 30]


def test_reaping_again_changes_nothing(kit):
    run = kit.running()
    crash(kit, run.id)
    kit.redis.delete(f"{PREFIX}tick")
    before = kit.snapshot()

    kit.store.reap()

    after = kit.snapshot()
    assert after.pop(f"{PREFIX}tick")
    assert after == before


def test_entries_of_jobs_that_are_gone_are_dropped(kit):
    for name in ("lease", "rel", "retry", "deadline"):
        kit.redis.zadd(PREFIX + name, {"no-such-job": 1})

    assert kit.store.reap().total == 0
    assert [kit.redis.zcard(PREFIX + name) for name in ("lease", "rel", "retry", "deadline")] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["lease", "rel", "retry"])
@pytest.mark.parametrize("made", ["queued", "succeeded"])
def test_an_entry_that_outlived_its_jobs_state_moves_nothing(kit, name, made):
    """As a failover that lost the last writes leaves it."""
    job_id = getattr(kit, made)()
    before = kit.snapshot()
    kit.redis.zadd(PREFIX + name, {job_id: 1})

    assert kit.store.reap().total == 0

    after = kit.snapshot()
    assert after.pop(f"{PREFIX}tick")
    assert after == before
