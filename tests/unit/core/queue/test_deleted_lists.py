"""Lists whose rows are deleted before all of them have come: what was counted is known for as long as it matters."""

import pytest

import core.long_list
from core.job import JobState, Lane
from core.job_store import TOMBSTONE_SECONDS
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from scheduler.dead_letters import DeadLetters
from scheduler.tenants import Tenants
from tests.queue_kit import GENEROUS, REFUSED, make_job

COUNTS, ROWS = f"{PREFIX}batch:b1", f"{PREFIX}batch_jobs:b1"


class BrokeOffError(Exception):
    """The api went away between two calls."""


@pytest.fixture
def portions_of_three(monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)


def rows(count=10):
    return [make_job(lane=Lane.BATCH, batch_id="b1", idempotency_key=f"k#{n}", body_hash="h") for n in range(count)]


def send(kit, jobs, *, calls=9, before_next=lambda: None):
    """The list, broken off after so many calls; `before_next` is done before each but the first."""
    made = iter(range(1, calls))

    def go_on():
        before_next()
        if next(made, None) is None:
            raise BrokeOffError

    try:
        kit.store.submit_many(jobs, GENEROUS, before_next=go_on)
    except BrokeOffError:
        return


def draw_and_delete(kit):
    for release in kit.store.release(1000):
        assert kit.complete(kit.claim(release))
        assert kit.store.remove(release.job_id)


def draw(kit):
    for release in kit.store.release(1000):
        assert kit.complete(kit.claim(release))


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("runs_out", [True, False])
def test_a_list_sent_again_after_its_stored_rows_were_deleted_is_complete_in_the_end(kit, runs_out):
    jobs = rows()
    send(kit, jobs, calls=2)
    draw_and_delete(kit)
    if runs_out:
        kit.let_run_out("holds", "b1")
        kit.store.reap_holds()
    broken_off = kit.store.get_batch("b1")
    assert (broken_off.total, broken_off.missing, broken_off.is_coming_in) == (6, 4, not runs_out)

    send(kit, jobs)
    draw(kit)

    counts = kit.store.get_batch("b1")
    assert (counts.total, counts.succeeded, counts.is_complete) == (10, 10, True)
    assert kit.store.batch_job_ids("b1") == [job.id for job in jobs[6:]]
    assert Auditor(kit.store, pause_seconds=0).audit().is_clean


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_whose_first_rows_are_deleted_while_it_comes_in_is_not_complete_before_the_last(kit):
    seen = []

    def delete_all():
        draw_and_delete(kit)
        counts = kit.store.get_batch("b1")
        seen.append((counts.total, counts.missing, counts.is_complete))

    send(kit, rows(), before_next=delete_all)
    assert seen == [(3, 7, False), (6, 4, False), (9, 1, False)]
    draw(kit)

    assert kit.store.get_batch("b1").is_complete


@pytest.mark.usefixtures("portions_of_three")
def test_the_counts_of_a_list_that_nobody_sends_again_go_with_the_tombstones_of_its_rows(kit):
    send(kit, rows(), calls=2)
    draw_and_delete(kit)

    assert not kit.redis.exists(ROWS)
    assert 0 < kit.redis.ttl(COUNTS) <= TOMBSTONE_SECONDS


@pytest.mark.usefixtures("portions_of_three")
def test_the_counts_of_a_list_that_is_sent_again_stay_as_long_as_its_rows(kit):
    jobs = rows()
    send(kit, jobs, calls=2)
    draw_and_delete(kit)

    send(kit, jobs)
    assert kit.redis.ttl(COUNTS) == -1
    draw_and_delete(kit)

    assert not kit.redis.exists(COUNTS, ROWS)


@pytest.mark.usefixtures("portions_of_three")
def test_a_letter_tried_again_is_no_row_that_was_missing(kit):
    jobs = rows()
    send(kit, jobs, calls=2)
    for release in kit.store.release(4):
        run = kit.claim(release)
        assert kit.store.fail(run.id, run.token, REFUSED) is JobState.DEAD
    letters, tenant = DeadLetters(kit.store, kit.settings), Tenants(kit.redis, kit.settings).get("a")
    again = [letters.requeue(job.id, tenant).job_id for job in jobs[:4]]
    draw(kit)

    kit.store.remove_many([*again, *(job.id for job in jobs)])

    counts = kit.store.get_batch("b1")
    assert (counts.total, counts.missing) == (6, 4)


@pytest.mark.usefixtures("portions_of_three")
def test_the_rows_of_a_batch_stay_in_order_though_some_were_deleted(kit):
    jobs = rows()
    send(kit, jobs, calls=2)
    for release in kit.store.release(2):
        kit.complete(kit.claim(release))
        kit.store.remove(release.job_id)

    send(kit, jobs)

    assert kit.store.batch_job_ids("b1") == [job.id for job in jobs[2:]]
    scores = [score for _, score in kit.redis.zrange(ROWS, 0, -1, withscores=True)]
    assert len(set(scores)) == len(scores)
