"""Single flight: a follower takes the leader's place when that one ends through us, or its time is over."""

from core.job import JobState, Lane, LeaseStatus
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, REFUSED, violations


def test_the_oldest_follower_takes_over_when_the_leader_died_through_us(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    first, second = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")

    kit.store.fail(run.id, run.token, CRASHED)

    assert (kit.state(first), kit.state(second)) == (JobState.QUEUED, JobState.FOLLOWING)
    assert kit.submit(fingerprint="f").leader == first
    kit.complete(kit.claim_again(first))
    assert kit.state(second) is JobState.SUCCEEDED


def test_nobody_takes_over_twice(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    first, second = kit.queued(fingerprint="f", max_attempts=1), kit.queued(fingerprint="f")
    kit.store.fail(run.id, run.token, CRASHED)
    heir = kit.claim_again(first)

    kit.store.fail(heir.id, heir.token, CRASHED)

    assert kit.state(second) is JobState.DEAD
    assert violations(kit.redis, [run.id, first, second]) == []


def test_a_follower_takes_over_from_a_leader_canceled_before_it_ran(kit):
    leader, follower = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")

    kit.store.cancel(leader)

    assert (kit.state(leader), kit.state(follower)) == (JobState.CANCELED, JobState.QUEUED)


def test_cancels_hand_over_as_often_as_they_happen(kit):
    ids = [kit.queued(fingerprint="f") for _ in range(4)]

    for job_id in ids[:3]:
        kit.store.cancel(job_id)

    assert kit.state(ids[3]) is JobState.QUEUED


def test_a_canceled_running_leader_goes_on_for_its_followers(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.store.cancel(run.id)

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.HELD]
    assert kit.complete(run)

    assert (kit.state(run.id), kit.state(follower)) == (JobState.CANCELED, JobState.SUCCEEDED)
    assert (kit.ledger(run.id), kit.ledger(follower)) == (["refund"], ["charge"])
    assert violations(kit.redis, [run.id, follower]) == []


def test_a_canceled_leader_whose_followers_left_is_stopped(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.store.cancel(run.id)
    kit.store.cancel(follower)

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.CANCEL]


def test_a_canceled_leader_that_fails_hands_over(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.store.cancel(run.id)

    assert kit.store.fail(run.id, run.token, CRASHED) is JobState.CANCELED
    assert kit.state(follower) is JobState.QUEUED


def test_a_follower_outlives_its_leaders_deadline(kit):
    leader, follower = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    kit.let_run_out("deadline", leader)

    kit.store.reap()

    assert (kit.state(leader), kit.state(follower)) == (JobState.DEAD, JobState.QUEUED)


def test_a_follower_with_time_left_does_not_end_with_those_whose_time_is_over(kit):
    """The heir's deadline is its own too; the next one takes over, as often as it happens."""
    hasty = [kit.queued(fingerprint="f", deadline_seconds=60) for _ in range(3)]
    patient = kit.queued(fingerprint="f", lane=Lane.BATCH, deadline_seconds=86_400)
    for one in hasty:
        kit.let_run_out("deadline", one)
        kit.store.reap()

    assert [kit.state(one) for one in hasty] == [JobState.DEAD] * 3
    assert kit.state(patient) is JobState.QUEUED
    kit.complete(kit.claim_again(patient))
    assert violations(kit.redis, [*hasty, patient]) == []


def test_a_run_that_fails_after_its_deadline_does_not_use_up_the_takeover(kit):
    """A storage that stays away until one job's time is over says nothing of a job that has a day."""
    run = kit.running(fingerprint="f", max_attempts=5)
    heir, patient = kit.queued(fingerprint="f", max_attempts=5), kit.queued(fingerprint="f")
    for _ in range(2):
        kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", "1")
        assert kit.store.fail(run.id, run.token, CRASHED) is JobState.DEAD
        if run.id != heir:
            run = kit.claim_again(heir)

    assert kit.state(patient) is JobState.QUEUED


def test_a_fault_of_the_request_is_everybodys_however_late_it_shows(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", "1")

    kit.store.fail(run.id, run.token, REFUSED)

    assert kit.state(follower) is JobState.DEAD


def test_whoever_is_gone_or_follows_no_more_takes_nothing_over(kit):
    """As a failover that lost the last writes leaves it."""
    run = kit.running(fingerprint="f", max_attempts=1)
    ended, follower = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    kit.store.cancel(ended)
    kit.redis.zadd(f"{PREFIX}fol:{run.id}", {"unknown": 0, ended: 1})

    kit.store.fail(run.id, run.token, CRASHED)

    assert (kit.state(run.id), kit.state(ended)) == (JobState.DEAD, JobState.CANCELED)
    assert kit.state(follower) is JobState.QUEUED


def test_a_flight_of_stale_entries_alone_ends_with_its_leader(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    kit.store.cancel(kit.queued(fingerprint="f"))
    kit.redis.zadd(f"{PREFIX}fol:{run.id}", {"unknown": 0})

    kit.store.fail(run.id, run.token, CRASHED)

    assert kit.state(run.id) is JobState.DEAD
    assert violations(kit.redis, [run.id]) == []


def test_a_follower_of_a_poison_job_is_tried_once_more(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    for _ in range(4):
        kit.let_run_out("lease", run.id)
        kit.store.reap()
        if kit.state(run.id) is JobState.QUEUED:
            kit.ride_alone(run.id)

    assert (kit.state(run.id), kit.state(follower)) == (JobState.DEAD, JobState.QUEUED)


def test_canceling_a_follower_promotes_nobody(kit):
    run = kit.running(fingerprint="f")
    first, second = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")

    kit.store.cancel(first)

    assert (kit.state(run.id), kit.state(second)) == (JobState.RUNNING, JobState.FOLLOWING)
