"""cancel.lua and what follows from it."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, violations


def test_canceling_a_queued_job_refunds_it(kit):
    job_id = kit.queued()

    assert kit.store.cancel(job_id) is JobState.CANCELED

    assert kit.ledger(job_id) == ["refund"]
    assert kit.store.release(10) == []
    assert violations(kit.redis, [job_id]) == []


def test_canceling_a_released_job_voids_its_message(kit):
    release = kit.released()

    assert kit.store.cancel(release.job_id) is JobState.CANCELED

    assert kit.store.claim(release.job_id, release.epoch, "t", "w1") is None
    assert violations(kit.redis, [release.job_id]) == []


def test_canceling_a_job_that_waits_for_its_retry_ends_it(kit):
    run = kit.waiting_to_retry()

    assert kit.store.cancel(run.id) is JobState.CANCELED

    assert violations(kit.redis, [run.id]) == []


def test_a_running_job_is_asked_to_stop_and_its_owner_told(kit):
    run = kit.running()

    assert kit.store.cancel(run.id) is JobState.RUNNING

    assert kit.job(run.id).cancel_requested
    assert kit.events(run.id)[-1] == ("status", '{"status":"canceling"}')


def test_a_running_job_that_was_asked_to_stop_ends_canceled(kit):
    run = kit.running()
    kit.store.cancel(run.id)

    assert kit.store.fail(run.id, run.token, CRASHED) is JobState.CANCELED

    assert kit.ledger(run.id) == ["refund"]
    assert violations(kit.redis, [run.id]) == []


def test_a_picture_that_was_finished_before_the_worker_heard_is_delivered(kit):
    run = kit.running()
    kit.store.cancel(run.id)

    assert kit.complete(run)

    assert (kit.state(run.id), kit.ledger(run.id)) == (JobState.SUCCEEDED, ["charge"])


def test_a_lease_that_runs_out_after_a_cancel_ends_the_job(kit):
    run = kit.running()
    kit.store.cancel(run.id)
    kit.let_run_out("lease", run.id)

    kit.store.reap()

    assert kit.state(run.id) is JobState.CANCELED


@pytest.mark.parametrize("ending", ["succeeded", "dead"])
def test_canceling_an_ended_job_changes_nothing(kit, ending):
    job_id = getattr(kit, ending)()
    before = kit.snapshot()

    assert kit.store.cancel(job_id) is kit.state(job_id)
    assert kit.snapshot() == before


def test_canceling_twice_changes_nothing(kit):
    run = kit.running()
    kit.store.cancel(run.id)
    before = kit.snapshot()

    assert kit.store.cancel(run.id) is JobState.RUNNING
    assert kit.snapshot() == before


def test_an_unknown_job_can_not_be_canceled(kit):
    assert kit.store.cancel("no-such-job") is None


def test_what_a_canceled_run_may_have_stored_is_deleted_later(kit):
    run = kit.running()
    kit.store.cancel(run.id)
    kit.store.fail(run.id, run.token, CRASHED)

    [(entry, due)] = kit.redis.zrange(f"{PREFIX}trash", 0, -1, withscores=True)

    assert entry.split(":")[1] == run.id
    assert due > kit.job(run.id).finished_ms + 2 * kit.settings.lease_seconds * 1000
