"""What the release before wrote is in order for today's audit."""

import pytest

from scheduler.auditor import Auditor
from tests import old_release
from tests.queue_kit import Kit


@pytest.fixture
def old_kit(fake_redis, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("core.scripts.script_texts", old_release.old_texts)
        return Kit(fake_redis)


def test_jobs_in_every_state_that_the_release_before_left_are_in_order(old_kit):
    """Also while their entries are still to be looked for in the ledger."""
    old_kit.running(fingerprint="f")
    old_kit.queued(fingerprint="f")
    old_kit.succeeded(batch_id="b1")
    old_kit.dead(batch_id="b1")
    old_kit.waiting_to_retry()
    old_kit.released()
    old_kit.store.cancel(old_kit.queued(tenant="b"))
    old_kit.queued(tenant="b")
    today = Kit(old_kit.redis)
    before = today.snapshot()
    auditor = Auditor(today.store, pause_seconds=0)

    reports = [auditor.audit(repair=True), auditor.audit(goes_on=True), auditor.audit(goes_on=True)]

    assert [report.is_clean for report in reports] == [True] * 3, reports[0]
    assert today.snapshot() == before


def test_jobs_that_today_ends_and_the_release_before_began_are_in_order(old_kit):
    run, waiting = old_kit.running(), old_kit.queued()
    today = Kit(old_kit.redis)

    assert today.complete(run)
    today.complete(today.claim_again(waiting))

    assert Auditor(today.store, pause_seconds=0).audit().is_clean
    assert [today.ledger(job_id) for job_id in (run.id, waiting)] == [["charge"]] * 2
