"""Ends that come crosswise: canceled leaders on their way back, and finished pictures whose leader's time is over."""

from core.job import JobState, LeaseStatus
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, violations


def given_back(kit):
    """A leader that was canceled while it ran, and that its worker then gave back; and its followers."""
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(2)]
    kit.store.cancel(run.id)
    assert kit.store.give_back(run.id, run.token)
    return run, followers


def test_a_canceled_leader_given_back_ends_and_hands_over(kit):
    run, [heir, other] = given_back(kit)

    assert [kit.state(one) for one in (run.id, heir, other)] == [
        JobState.CANCELED,
        JobState.QUEUED,
        JobState.FOLLOWING,
    ]
    assert kit.ledger(run.id) == ["refund"]
    kit.complete(kit.claim_again(heir))
    assert kit.state(other) is JobState.SUCCEEDED
    assert violations(kit.redis, [run.id, heir, other]) == []


def test_nothing_is_drawn_or_charged_when_the_followers_of_such_a_leader_leave(kit):
    run, followers = given_back(kit)

    for one in followers:
        kit.store.cancel(one)

    assert kit.store.release(10) == []
    assert {kit.state(one) for one in (run.id, *followers)} == {JobState.CANCELED}
    assert violations(kit.redis, [run.id, *followers]) == []


def test_such_a_leader_is_no_dead_letter_when_its_time_is_over(kit):
    run, _ = given_back(kit)
    kit.redis.zadd(f"{PREFIX}deadline", {run.id: 1})

    kit.store.reap()

    assert kit.state(run.id) is JobState.CANCELED
    assert kit.redis.zscore(f"{PREFIX}dlq", run.id) is None


def test_giving_a_canceled_leader_back_twice_hands_over_once(kit):
    run, _ = given_back(kit)
    before = kit.snapshot()

    kit.store.give_back(run.id, run.token)

    assert kit.snapshot() == before


def late_on_the_shelf(kit, *, followers):
    """A picture that waits for the storage, past its job's deadline."""
    run = kit.running(fingerprint="f")
    kit.store.shelve(run.id, run.token)
    ids = [kit.queued(fingerprint="f", deadline_seconds=86_400) for _ in range(followers)]
    kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", 1)
    return run, ids


def test_a_picture_on_the_shelf_is_kept_for_followers_who_still_have_time(kit):
    run, [follower] = late_on_the_shelf(kit, followers=1)

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.HELD]

    assert kit.complete(run)
    assert (kit.state(run.id), kit.state(follower)) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    assert kit.job(follower).picture.key == kit.job(run.id).picture.key
    assert kit.job(follower).attempt == 0
    assert violations(kit.redis, [run.id, follower]) == []


def test_it_is_late_when_the_last_of_them_has_left(kit):
    run, [canceled, late] = late_on_the_shelf(kit, followers=2)
    kit.store.cancel(canceled)
    kit.let_run_out("deadline", late)
    kit.store.reap()

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.LATE]

    assert kit.store.fail(run.id, run.token, CRASHED) is JobState.DEAD
    assert violations(kit.redis, [run.id, canceled, late]) == []


def test_a_canceled_leader_on_the_shelf_is_kept_for_them_too_and_stays_canceled(kit):
    run, [follower] = late_on_the_shelf(kit, followers=1)
    kit.store.cancel(run.id)
    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.HELD]

    kit.complete(run)

    assert (kit.state(run.id), kit.state(follower)) == (JobState.CANCELED, JobState.SUCCEEDED)
    assert kit.ledger(run.id) == ["refund"]
