"""Dead letters: listed with their reason, tried again once."""

from dataclasses import replace

import pytest

from core.job import JobState
from core.model_profile import ModelProfile
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.dead_letters import DeadLetters
from scheduler.submission import Submission, Wish
from scheduler.tenants import Tenants
from tests.queue_kit import REFUSED, Kit


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def letters(kit):
    return DeadLetters(kit.store, Settings())


@pytest.fixture
def tenant(fake_redis):
    return Tenants(fake_redis, Settings()).get("a")


def test_dead_jobs_are_listed_newest_first_with_their_reason(kit, letters):
    first, second = kit.dead(), kit.dead()
    kit.redis.zadd("{zimg}:dlq", {first: 1, second: 2})
    kit.succeeded()

    assert [(job.id, job.failure.code) for job in letters.list_page().jobs] == [
        (second, "invalid_prompt"),
        (first, "invalid_prompt"),
    ]


def test_dead_jobs_are_listed_by_tenant_and_reason(kit, letters):
    dead = kit.dead()
    other = kit.dead(tenant="b")
    late = kit.queued()
    kit.let_run_out("deadline", late)
    kit.store.reap()

    assert [job.id for job in letters.list_page(code="deadline_exceeded").jobs] == [late]
    assert [job.id for job in letters.list_page(tenant="b").jobs] == [other]
    assert {job.id for job in letters.list_page(tenant="a").jobs} == {dead, late}


def test_letters_come_page_by_page(kit, letters):
    newest, middle, oldest = three_letters(kit)

    first = letters.list_page(limit=1)
    second = letters.list_page(limit=1, after=first.cursor)
    third = letters.list_page(limit=1, after=second.cursor)

    assert [[job.id for job in page.jobs] for page in (first, second, third)] == [[newest], [middle], [oldest]]
    assert third.cursor == ""


def three_letters(kit, **of_the_oldest):
    """Newest first."""
    ids = [kit.dead(), kit.dead(), kit.dead(**of_the_oldest)]
    kit.redis.zadd(f"{PREFIX}dlq", {job_id: 3 - place for place, job_id in enumerate(ids)})
    return ids


@pytest.mark.parametrize("wanted", [{"tenant": "b"}, {"code": "deadline_exceeded"}])
def test_a_page_with_a_filter_looks_at_so_many_letters_and_the_next_goes_on(kit, letters, monkeypatch, wanted):
    for name, most in (("SCANNED_MOST", 2), ("READ_AT_ONCE", 1)):
        monkeypatch.setattr(f"core.job_pages.{name}", most)
    *_, oldest = three_letters(kit, tenant="b")
    failure = replace(REFUSED, code="deadline_exceeded").to_json()
    kit.redis.hset(f"{PREFIX}job:{oldest}", "failure", failure)

    first = letters.list_page(**wanted)
    second = letters.list_page(**wanted, after=first.cursor)

    assert (first.jobs, [job.id for job in second.jobs], second.cursor) == ([], [oldest], "")


def test_trying_many_again_looks_at_so_many_letters_and_the_next_call_goes_on(kit, letters, monkeypatch):
    for name, most in (("SCANNED_MOST", 2), ("READ_AT_ONCE", 1)):
        monkeypatch.setattr(f"core.job_pages.{name}", most)
    *_, oldest = three_letters(kit, tenant="b")

    first = letters.requeue_many(tenant="b", limit=10)
    second = letters.requeue_many(tenant="b", limit=10, after=first.next_cursor)

    assert (first.tried, [one.letter for one in second.tried], second.next_cursor) == ([], [oldest], "")


def test_a_letter_that_does_not_fit_is_not_read_whole(kit, monkeypatch):
    read = []
    three_letters(kit)
    monkeypatch.setattr(kit.store, "get_many", lambda ids: read.extend(ids) or [])

    assert DeadLetters(kit.store, Settings()).list_page(code="nope").jobs == []
    assert read == []


def test_a_page_goes_on_though_the_letter_it_ended_with_is_tried_again(kit, letters, tenant):
    newest, middle, _ = three_letters(kit)
    first = letters.list_page(limit=1)

    letters.requeue(newest, tenant)

    assert [job.id for job in letters.list_page(limit=1, after=first.cursor).jobs] == [middle]


@pytest.mark.parametrize("left", ["{", None])
def test_a_letter_whose_reason_is_lost_stops_no_page(kit, letters, left):
    newest, middle, oldest = three_letters(kit)
    if left is None:
        kit.redis.hdel(f"{PREFIX}job:{middle}", "failure")
    else:
        kit.redis.hset(f"{PREFIX}job:{middle}", "failure", left)

    assert [job.id for job in letters.list_page(code="invalid_prompt").jobs] == [newest, oldest]


def test_a_dead_job_is_tried_again_as_a_new_one_with_its_own_charge(kit, letters, tenant):
    dead = kit.dead(metadata={"sku": "1"})

    again = letters.requeue(dead, tenant)

    kit.complete(kit.claim_again(again.job_id))
    assert (kit.state(dead), kit.state(again.job_id)) == (JobState.DEAD, JobState.SUCCEEDED)
    assert (kit.ledger(dead), kit.ledger(again.job_id)) == (["refund"], ["charge"])
    assert kit.job(again.job_id).metadata == {"sku": "1"}
    assert letters.list_page().jobs == []


def test_a_job_tried_again_is_as_much_work_and_keeps_its_picture_as_long_as_before(kit, letters, tenant):
    dead = kit.dead(work=2.5, retention_seconds=3600)

    again = letters.requeue(dead, tenant).job_id

    assert kit.redis.hget("{zimg}:queued_work", "a|interactive") == "2.5"
    assert (kit.job(again).work, kit.job(again).retention_seconds) == (2.5, 3600)


def test_requeueing_twice_makes_one_job(kit, letters, tenant):
    dead = kit.dead()

    first, second = letters.requeue(dead, tenant), letters.requeue(dead, tenant)

    assert (second.job_id, second.replayed) == (first.job_id, True)


def test_what_is_not_dead_or_not_ones_own_is_not_requeued(kit, letters, tenant):
    assert letters.requeue(kit.queued(), tenant) is None
    assert letters.requeue(kit.dead(tenant="b"), tenant) is None
    assert letters.requeue("no-such-job", tenant) is None


def test_in_its_batch_a_job_tried_again_is_the_same_picture(kit, letters, tenant):
    dead = kit.dead(batch_id="b1")
    kit.succeeded(batch_id="b1")

    again = letters.requeue(dead, tenant).job_id
    letters.requeue(dead, tenant)
    during = kit.store.get_batch("b1")
    kit.complete(kit.claim_again(again))
    after = kit.store.get_batch("b1")

    assert (during.total, during.dead, during.open, during.again) == (2, 0, 1, 1)
    assert (after.total, after.succeeded, after.dead, after.open, after.is_complete) == (2, 2, 0, 0, True)
    assert kit.redis.hget(f"{PREFIX}job:{again}", "again") == dead


@pytest.mark.parametrize(("settings", "is_same"), [(Settings(), True), (Settings(aigc_label="on"), False)])
def test_a_letter_is_tried_again_by_the_label_and_model_of_today(kit, tenant, settings, is_same):
    profile = ModelProfile("m", "r", (512, 512), (512, 512), (512, 512))
    seeded = Wish(prompt="a mug", width=512, height=512, model="m", seed=5)
    first = Submission(kit.store, Settings(), profile).submit(tenant, seeded).job_id
    before = kit.store.get(first)
    kit.redis.hset(f"{PREFIX}job:{first}", mapping={"state": "DEAD"})
    today = Submission(kit.store, settings, profile)

    again = DeadLetters(kit.store, settings, None, today.fingerprint_now).requeue(first, tenant)

    assert before.fingerprint
    assert (kit.store.get(again.job_id).fingerprint == before.fingerprint) is is_same


def test_a_letter_whose_seed_was_ours_shares_its_picture_with_nobody(kit, tenant):
    profile = ModelProfile("m", "r", (512, 512), (512, 512), (512, 512))
    submission = Submission(kit.store, Settings(), profile)
    job = kit.store.get(submission.submit(tenant, Wish(prompt="a", width=512, height=512, model="m")).job_id)

    assert submission.fingerprint_now(job) == ""


def test_a_letter_that_is_deleted_meanwhile_keeps_none_of_its_kind_from_another_try(kit):
    first, second, third = three_letters(kit)

    def delete_the_next(job):
        kit.store.remove(second)
        return job.fingerprint

    tried = DeadLetters(kit.store, Settings(), fingerprint_now=delete_the_next).requeue_many(limit=10).tried

    assert [(one.letter, one.refused) for one in tried] == [(first, None), (second, "not_found"), (third, None)]
