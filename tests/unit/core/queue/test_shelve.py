"""shelve: a drawn picture that waits for the storage keeps its lease and its fence, and takes no seat and no cap."""

from core.job import JobState, LeaseStatus
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, Kit, limits, violations


def shelved(kit, **more):
    run = kit.running(**more)
    assert kit.store.shelve(run.id, run.token)
    return run


def test_a_drawn_picture_frees_its_seat_in_the_window(queue_redis):
    kit = Kit(queue_redis)
    kit.add_worker("w1", slots=1)  # a window of 3
    for _ in range(5):
        kit.queued()
    runs = [kit.claim(release) for release in kit.store.release(10)]
    assert len(runs) == 3
    assert kit.store.release(10) == []

    kit.store.shelve(runs[0].id, runs[0].token)

    assert len(kit.store.release(10)) == 1
    assert kit.state(runs[0].id) is JobState.RUNNING


def test_a_drawn_picture_does_not_count_to_its_tenants_cap(kit):
    run = kit.running(allowed=limits(running_jobs=1))
    kit.queued(allowed=limits(running_jobs=1))
    assert kit.store.release(10) == []

    kit.store.shelve(run.id, run.token)

    assert len(kit.store.release(10)) == 1


def test_a_shelved_job_ends_as_any_other(kit):
    run = shelved(kit)

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.HELD]
    assert kit.complete(run)

    assert kit.ledger(run.id) == ["charge"]
    assert violations(kit.redis, [run.id]) == []


def test_shelving_twice_is_shelving_once(kit):
    run = shelved(kit)
    before = kit.snapshot()

    assert kit.store.shelve(run.id, run.token)

    assert kit.snapshot() == before


def test_only_whoever_holds_the_job_shelves_it(kit):
    run = kit.running()
    assert not kit.store.shelve(run.id, "other")
    assert not kit.store.shelve("no-such-job", "other")
    assert kit.redis.scard(f"{PREFIX}held:w1") == 1

    kit.complete(run)
    assert not kit.store.shelve(run.id, run.token)


def test_a_shelved_job_of_a_lost_worker_is_no_suspect(kit):
    run = shelved(kit)
    kit.let_run_out("lease", run.id)

    assert kit.store.reap().leases == 1

    job = kit.job(run.id)
    assert (job.state, job.alone, job.crashes) == (JobState.QUEUED, False, 0)
    assert kit.redis.hget(f"{PREFIX}job:{run.id}", "lost_leases") is None
    assert kit.redis.scard(f"{PREFIX}shelf:w1") == 0


def test_a_shelved_job_does_not_shield_the_one_that_ended_the_worker(kit):
    """It was claimed first, and as one that must be alone; but it rode no more."""
    early = shelved(kit)
    killer = kit.running()
    kit.let_run_out("lease", killer.id)
    kit.store.reap()
    killer = kit.ride_alone(killer.id)
    kit.let_run_out("lease", early.id)
    kit.let_run_out("lease", killer.id)

    kit.store.reap()

    assert kit.job(killer.id).crashes == 1


def test_the_next_run_of_a_shelved_job_is_an_ordinary_one(kit):
    run = shelved(kit)
    kit.let_run_out("lease", run.id)
    kit.store.reap()
    again = kit.claim_again(run.id)

    assert not kit.store.shelve(run.id, run.token)
    kit.let_run_out("lease", again.id)
    kit.store.reap()

    assert kit.job(run.id).alone


def test_a_shelved_job_can_be_canceled_given_back_and_failed(kit):
    canceled, given_back, failed = shelved(kit), shelved(kit), shelved(kit)
    kit.store.cancel(canceled.id)
    assert kit.store.renew([(canceled.id, canceled.token)]) == [LeaseStatus.CANCEL]

    kit.store.fail(canceled.id, canceled.token, CRASHED)
    kit.store.give_back(given_back.id, given_back.token)
    kit.store.fail(failed.id, failed.token, CRASHED)

    assert kit.state(canceled.id) is JobState.CANCELED
    assert (kit.state(given_back.id), kit.job(given_back.id).attempt) == (JobState.QUEUED, 0)
    assert kit.state(failed.id) is JobState.RETRY
    assert kit.redis.exists(f"{PREFIX}shelf:w1") == 0


def test_a_shelved_job_past_its_deadline_is_told_so_and_one_that_still_rides_is_not(kit):
    late, riding = shelved(kit), kit.running()
    for run in (late, riding):
        kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", 1)

    answers = kit.store.renew([(late.id, late.token), (riding.id, riding.token)])

    assert answers == [LeaseStatus.LATE, LeaseStatus.HELD]
    assert kit.store.fail(late.id, late.token, CRASHED) is JobState.DEAD


def test_waiting_for_the_storage_is_no_part_of_the_measured_pace(kit):
    run = shelved(kit)
    before = kit.redis.hgetall(f"{PREFIX}pace")
    kit.redis.hset(f"{PREFIX}job:{run.id}", "started", 1)

    kit.complete(run)

    assert before["ends"] == "1"
    assert kit.redis.hgetall(f"{PREFIX}pace") == before


def test_what_waits_for_the_storage_is_not_ahead_in_the_queue(kit):
    run = kit.running()
    waiting = kit.queued()

    def eta():
        kit.redis.delete(f"{PREFIX}pace")  # what this run itself measured
        kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": 1, "gap_ms": 1000, "ends": 1})
        return kit.store.queue_place(kit.job(waiting)).eta_seconds

    assert eta() == 2.0
    kit.store.shelve(run.id, run.token)

    assert eta() == 1.0


def test_a_worker_that_starts_anew_or_says_goodbye_has_an_empty_shelf(kit):
    for end in (lambda: kit.add_worker("w1", slots=1, started_ms=7), lambda: kit.store.forget_worker("w1")):
        shelved(kit)
        end()
        assert kit.redis.exists(f"{PREFIX}shelf:w1") == 0
