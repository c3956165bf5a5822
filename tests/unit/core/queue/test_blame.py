"""Whose fault a worker's end is: of who had the engine for itself and of nobody else; in company of nobody yet."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from tests.queue_kit import Kit


def crash(kit, *ids):
    """The worker died: its leases run out in this order."""
    for job_id in ids:
        kit.let_run_out("lease", job_id)
        kit.store.reap()


def crashes(kit, ids):
    return [kit.job(job_id).crashes for job_id in ids]


def suspects(kit, count):
    """Jobs whose leases ran out once; all claimed again by one worker, in this order and within a millisecond."""
    ids = [kit.running().id for _ in range(count)]
    crash(kit, *ids)
    runs = [kit.claim(release) for release in kit.store.release(count)]
    for run in runs:
        kit.redis.hset(f"{PREFIX}job:{run.id}", "started", 1_000)
    return runs


def test_only_crashes_while_alone_make_a_poison_job(kit):
    run = kit.running()
    crash(kit, run.id)
    for count in (1, 2):
        kit.ride_alone(run.id)
        crash(kit, run.id)
        assert (kit.state(run.id), kit.job(run.id).crashes) == (JobState.QUEUED, count)

    kit.ride_alone(run.id)
    kit.let_run_out("lease", run.id)
    report = kit.store.reap()

    job = kit.job(run.id)
    assert (report.poisoned, job.state, job.failure.code) == (1, JobState.DEAD, "poison")
    assert kit.ledger(run.id) == ["refund"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("rider", [0, 1, 2])
def test_of_suspects_claimed_at_once_the_one_that_rode_is_blamed_in_whatever_order_leases_run_out(kit, order, rider):
    runs = suspects(kit, 3)
    assert kit.store.take_seat(runs[rider].id, runs[rider].token)

    crash(kit, *[runs[index].id for index in order])

    assert crashes(kit, [run.id for run in runs]) == [int(index == rider) for index in range(3)]


def test_a_suspect_that_never_rode_is_not_blamed(kit):
    [run] = suspects(kit, 1)

    crash(kit, run.id)

    assert (kit.state(run.id), kit.job(run.id).crashes) == (JobState.QUEUED, 0)


def test_a_suspect_whose_ride_is_over_is_not_blamed(kit):
    """It waits for its upload, say, while somebody else ends the worker."""
    [run] = suspects(kit, 1)
    kit.store.take_seat(run.id, run.token)
    kit.store.leave_seat("w1", run.token)

    crash(kit, run.id)

    assert kit.job(run.id).crashes == 0


def test_leaving_late_does_not_unseat_the_next(kit):
    first, second = suspects(kit, 2)
    kit.store.take_seat(first.id, first.token)
    kit.store.take_seat(second.id, second.token)
    kit.store.leave_seat("w1", first.token)

    crash(kit, first.id, second.id)

    assert crashes(kit, [first.id, second.id]) == [0, 1]


def test_whoever_waits_while_a_suspect_rides_becomes_none_himself(kit):
    [rider] = suspects(kit, 1)
    kit.store.take_seat(rider.id, rider.token)
    waiting = kit.running()

    crash(kit, waiting.id, rider.id)

    assert (kit.job(waiting.id).alone, kit.job(rider.id).alone) == (False, True)
    assert kit.redis.hget(f"{PREFIX}job:{waiting.id}", "lost_leases") is None


def test_a_seat_at_another_worker_says_nothing_of_this_one(kit):
    [rider] = suspects(kit, 1)
    kit.store.take_seat(rider.id, rider.token)
    elsewhere = kit.running(worker="w2")

    crash(kit, elsewhere.id)

    assert kit.job(elsewhere.id).alone


def test_a_seat_is_taken_under_the_lease_alone(kit):
    run = kit.running()

    assert not kit.store.take_seat(run.id, "other")
    assert not kit.store.take_seat("unknown", run.token)
    assert kit.store.take_seat(run.id, run.token)
    assert kit.store.take_seat(run.id, run.token)  # the answer was lost
    kit.complete(run)
    assert not kit.store.take_seat(run.id, run.token)


def test_a_seat_of_a_dead_worker_is_forgotten_in_the_end(kit):
    run = kit.running()
    kit.store.take_seat(run.id, run.token)

    assert 60_000 < kit.redis.pttl(f"{PREFIX}solo:w1") <= 86_400_000


def test_a_job_given_back_from_its_seat_is_not_blamed_later(kit):
    [run] = suspects(kit, 1)
    kit.store.take_seat(run.id, run.token)
    kit.store.give_back(run.id, run.token)
    kit.claim_again(run.id)

    crash(kit, run.id)

    assert kit.job(run.id).crashes == 0


def test_the_answer_of_a_claim_that_got_lost_says_again_that_the_job_must_be_alone(kit):
    run = kit.running()
    crash(kit, run.id)
    release = kit.store.release(1)[0]

    answers = [kit.store.claim(release.job_id, release.epoch, "t", "w1") for _ in range(2)]

    assert [lease.alone for lease in answers] == [True, True]
    assert answers[0] == answers[1]


def test_a_job_that_loses_lease_after_lease_ends_whoever_is_to_blame(kit):
    """Fifteen times, and nobody rode alone: whatever it does to its workers, it does it before it has a seat."""
    run = kit.running()
    for _ in range(14):
        crash(kit, run.id)
        kit.claim_again(run.id)
    assert (kit.state(run.id), kit.job(run.id).crashes) == (JobState.RUNNING, 0)

    crash(kit, run.id)

    assert kit.job(run.id).failure.code == "poison"


def test_a_suspect_may_wait_behind_any_number_of_others_that_die(kit: Kit):
    [innocent] = suspects(kit, 1)
    for _ in range(20):
        poison = kit.running()
        kit.store.take_seat(poison.id, poison.token)
        crash(kit, innocent.id, poison.id)
        kit.claim_again(innocent.id)

    assert (kit.state(innocent.id), kit.job(innocent.id).crashes) == (JobState.RUNNING, 0)
