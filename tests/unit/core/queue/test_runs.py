"""claim, renew, progress, complete, fail, give_back: the fence and the replays."""

import json

import pytest

from core.job import JobState, LeaseStatus, Progress
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import CRASHED, REFUSED, Kit, make_picture


def test_a_claim_gives_all_that_a_run_needs(kit):
    release = kit.released(prompt="a blue cup")

    lease = kit.store.claim(release.job_id, release.epoch, "t", "w1")

    job = kit.job(release.job_id)
    assert lease.request.prompt == "a blue cup"
    assert (lease.attempt, lease.alone, lease.tenant, lease.created_ms) == (1, False, "a", job.created_ms)
    assert (job.state, job.worker, job.attempt) == (JobState.RUNNING, "w1", 1)


def test_the_same_claim_again_gives_the_same_lease_and_changes_nothing(kit):
    release = kit.released()
    first = kit.store.claim(release.job_id, release.epoch, "t", "w1")
    before = kit.snapshot()

    assert kit.store.claim(release.job_id, release.epoch, "t", "w1") == first
    assert kit.snapshot() == before


def test_a_doubled_message_finds_the_job_claimed(kit):
    release = kit.released()
    kit.claim(release)

    assert kit.store.claim(release.job_id, release.epoch, "other", "w2") is None


def test_a_message_of_an_older_release_is_void(kit):
    old = kit.released()
    kit.let_run_out("rel", old.job_id)
    kit.store.reap()
    kit.store.release(1)

    assert kit.store.claim(old.job_id, old.epoch, "t", "w1") is None
    assert kit.state(old.job_id) is JobState.RELEASED


def test_a_message_without_an_epoch_claims_a_released_job_once(kit):
    """A release that sent none is still at work somewhere during a rolling upgrade."""
    release = kit.released()

    assert kit.store.claim(release.job_id, None, "t1", "w1") is not None
    assert kit.store.claim(release.job_id, None, "t2", "w2") is None
    assert kit.store.claim(kit.queued(), None, "t3", "w1") is None


def test_a_message_of_a_queued_job_is_void(kit):
    old = kit.released()
    kit.let_run_out("rel", old.job_id)
    kit.store.reap()

    assert kit.store.claim(old.job_id, old.epoch, "t", "w1") is None


def test_a_message_of_an_unknown_job_is_void(kit):
    assert kit.store.claim("no-such-job", 1, "t", "w1") is None


def test_renewing_says_held_lost_or_cancel_for_each(kit):
    held, stolen, canceled = kit.running(), kit.running(), kit.running()
    kit.store.cancel(canceled.id)

    answers = kit.store.renew([(held.id, held.token), (stolen.id, "other"), (canceled.id, canceled.token), ("x", "y")])

    assert answers == [LeaseStatus.HELD, LeaseStatus.LOST, LeaseStatus.CANCEL, LeaseStatus.LOST]


def test_renewing_lengthens_only_leases_that_are_held(kit):
    run = kit.running()
    kit.let_run_out("lease", run.id)

    kit.store.renew([(run.id, "other")])
    assert kit.redis.zscore(f"{PREFIX}lease", run.id) == 1

    kit.store.renew([(run.id, run.token)])
    assert kit.redis.zscore(f"{PREFIX}lease", run.id) > 1


def test_a_lease_that_is_over_is_not_renewed(kit):
    run = kit.running()
    kit.complete(run)

    assert kit.store.renew([(run.id, run.token)]) == [LeaseStatus.LOST]
    assert kit.redis.zscore(f"{PREFIX}lease", run.id) is None


def test_progress_is_kept_and_told(kit):
    run = kit.running()

    assert kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=2, steps=4))

    assert kit.job(run.id).progress == Progress(stage="denoise", step=2, steps=4)
    kind, data = kit.events(run.id)[-1]
    assert (kind, json.loads(data)) == ("progress", {"stage": "denoise", "step": 2, "steps": 4, "value": 0.4})


def test_progress_of_a_lost_run_is_refused(kit):
    run = kit.running()

    assert not kit.store.report_progress(run.id, "other", Progress(stage="denoise", step=2, steps=4))
    kit.complete(run)
    assert not kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=2, steps=4))

    assert kit.job(run.id).progress is None


def test_a_completed_job_is_charged_once_and_shows_its_picture(kit):
    run = kit.running()

    assert kit.complete(run)

    job = kit.job(run.id)
    assert (job.state, job.picture) == (JobState.SUCCEEDED, make_picture(run.id))
    assert job.expires_ms == pytest.approx(job.finished_ms + 30 * 86_400_000, abs=100)
    assert kit.ledger(run.id) == ["charge"]
    assert kit.use() == {"reserved": 0, "used": 1}
    assert [kind for kind, _ in kit.events(run.id)] == ["status", "status", "output", "status"]


def test_the_same_complete_again_changes_nothing(kit):
    run = kit.running()
    kit.complete(run)
    before = kit.snapshot()

    assert kit.complete(run)
    assert kit.snapshot() == before


def test_a_late_result_counts_while_nobody_claimed_the_job_since(kit):
    run = kit.running()
    kit.let_run_out("lease", run.id)
    kit.store.reap()
    assert kit.state(run.id) is JobState.QUEUED

    assert kit.complete(run)

    assert kit.state(run.id) is JobState.SUCCEEDED
    assert kit.store.release(100) == []
    assert kit.store.depth().waiting == {"interactive": 0, "batch": 0}


def test_a_late_result_counts_while_the_job_is_released_again(kit):
    run = kit.running()
    kit.let_run_out("lease", run.id)
    kit.store.reap()
    again = kit.store.release(1)[0]

    assert kit.complete(run)

    assert kit.store.claim(again.job_id, again.epoch, "t2", "w1") is None
    assert kit.redis.zcard(f"{PREFIX}rel") == 0
    assert kit.redis.zcard(f"{PREFIX}run:a") == 0


def test_a_late_result_is_refused_once_somebody_else_claimed_the_job(kit):
    zombie = kit.running()
    kit.let_run_out("lease", zombie.id)
    kit.store.reap()
    heir = kit.claim_again(zombie.id)

    assert not kit.complete(zombie)
    assert kit.state(zombie.id) is JobState.RUNNING
    assert kit.complete(heir)
    assert kit.ledger(zombie.id) == ["charge"]


def test_a_result_for_a_job_that_ended_otherwise_is_refused(kit):
    run = kit.running()
    kit.store.fail(run.id, run.token, REFUSED)

    assert not kit.complete(run)
    assert kit.state(run.id) is JobState.DEAD
    assert kit.ledger(run.id) == ["refund"]


def test_a_result_for_an_unknown_job_is_refused(kit):
    assert not kit.store.complete("no-such-job", "t", make_picture("x"))


def test_a_retryable_failure_waits_and_is_tried_again(kit):
    run = kit.waiting_to_retry()

    assert kit.job(run.id).failure == CRASHED
    assert kit.ledger(run.id) == []
    kit.let_run_out("retry", run.id)
    kit.store.reap()
    assert kit.job(kit.claim_again(run.id).id).attempt == 2


def test_the_wait_before_a_retry_grows(kit):
    waits = []
    run = kit.running()
    for _ in range(4):
        before_ms = int(kit.redis.time()[0]) * 1000
        kit.store.fail(run.id, run.token, CRASHED)
        waits.append(kit.redis.zscore(f"{PREFIX}retry", run.id) - before_ms)
        kit.let_run_out("retry", run.id)
        kit.store.reap()
        run = kit.claim_again(run.id)

    assert 900 <= waits[0] <= 4_100
    assert waits[3] >= 7_900


def test_the_wait_before_a_retry_fits_into_the_deadline(kit):
    run = kit.running(deadline_seconds=1)

    kit.store.fail(run.id, run.token, CRASHED)

    assert kit.redis.zscore(f"{PREFIX}retry", run.id) < kit.job(run.id).deadline_ms


def test_a_failure_past_the_deadline_is_the_last(kit):
    run = kit.running()
    kit.redis.hset(f"{PREFIX}job:{run.id}", "deadline", 1)

    assert kit.store.fail(run.id, run.token, CRASHED) is JobState.DEAD


def test_the_last_attempt_ends_dead_and_refunded(kit):
    run = kit.running(max_attempts=2)
    kit.store.fail(run.id, run.token, CRASHED)
    kit.let_run_out("retry", run.id)
    kit.store.reap()
    last = kit.claim_again(run.id)

    assert kit.store.fail(last.id, last.token, CRASHED) is JobState.DEAD

    assert kit.job(run.id).failure == CRASHED
    assert kit.ledger(run.id) == ["refund"]
    assert kit.use() == {"reserved": 0}


def test_a_permanent_failure_is_not_tried_again(kit):
    job_id = kit.dead()

    assert kit.job(job_id).failure == REFUSED
    assert kit.redis.zrange(f"{PREFIX}dlq", 0, -1) == [job_id]
    assert [kind for kind, _ in kit.events(job_id)][-2:] == ["error", "status"]


@pytest.mark.parametrize("failure", [CRASHED, REFUSED])
def test_the_same_fail_again_changes_nothing(kit, failure):
    run = kit.running()
    state = kit.store.fail(run.id, run.token, failure)
    before = kit.snapshot()

    assert kit.store.fail(run.id, run.token, failure) is state
    assert kit.snapshot() == before


def test_a_failure_of_a_lost_run_is_refused(kit):
    zombie = kit.running()
    kit.let_run_out("lease", zombie.id)
    kit.store.reap()

    assert kit.store.fail(zombie.id, zombie.token, REFUSED) is None
    kit.claim_again(zombie.id)
    assert kit.store.fail(zombie.id, zombie.token, REFUSED) is None
    assert kit.state(zombie.id) is JobState.RUNNING


def test_a_job_given_back_is_queued_without_costing_an_attempt(kit):
    run = kit.running()

    assert kit.store.give_back(run.id, run.token)

    assert (kit.state(run.id), kit.job(run.id).attempt) == (JobState.QUEUED, 0)
    assert kit.redis.zcard(f"{PREFIX}lease") == 0
    assert kit.redis.scard(f"{PREFIX}held:w1") == 0


def test_a_job_given_back_twice_is_queued_once(kit):
    run = kit.running()
    kit.store.give_back(run.id, run.token)
    before = kit.snapshot()

    assert kit.store.give_back(run.id, run.token)
    assert kit.snapshot() == before


def test_a_job_of_somebody_else_is_not_given_back(kit):
    run = kit.running()

    assert not kit.store.give_back(run.id, "other")
    kit.complete(run)
    assert not kit.store.give_back(run.id, run.token)


def test_a_canceled_job_given_back_ends(kit):
    run = kit.running()
    kit.store.cancel(run.id)

    assert kit.store.give_back(run.id, run.token)

    assert kit.state(run.id) is JobState.CANCELED


def test_the_claim_deadline_grows_with_the_measured_time_of_a_run(queue_redis):
    kit = Kit(queue_redis, Settings(claim_seconds=1))
    kit.redis.hset(f"{PREFIX}pace", "run_ms", "50000")
    release = kit.released()

    seconds, _ = kit.redis.time()

    assert kit.redis.zscore(f"{PREFIX}rel", release.job_id) >= int(seconds) * 1000 + 148_000


def test_a_job_that_failed_before_it_succeeded_shows_no_failure(kit):
    run = kit.waiting_to_retry()
    assert kit.job(run.id).failure == CRASHED
    kit.let_run_out("retry", run.id)
    kit.store.reap()

    kit.complete(kit.claim_again(run.id))

    assert (kit.state(run.id), kit.job(run.id).failure) == (JobState.SUCCEEDED, None)
