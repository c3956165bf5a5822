"""Dead letters: listed with their reason, tried again once."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.dead_letters import DeadLetters
from scheduler.tenants import Tenants
from tests.queue_kit import Kit


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

    assert [(job.id, job.failure.code) for job in letters.list_letters()] == [
        (second, "invalid_prompt"),
        (first, "invalid_prompt"),
    ]


def test_dead_jobs_are_listed_by_tenant_and_reason(kit, letters):
    dead = kit.dead()
    other = kit.dead(tenant="b")
    late = kit.queued()
    kit.let_run_out("deadline", late)
    kit.store.reap()

    assert [job.id for job in letters.list_letters(code="deadline_exceeded")] == [late]
    assert [job.id for job in letters.list_letters(tenant="b")] == [other]
    assert {job.id for job in letters.list_letters(tenant="a")} == {dead, late}
    assert len(letters.list_letters(limit=1, offset=2)) == 1


def test_a_dead_job_is_tried_again_as_a_new_one_with_its_own_charge(kit, letters, tenant):
    dead = kit.dead(metadata={"sku": "1"})

    again = letters.requeue(dead, tenant)

    kit.complete(kit.claim_again(again.job_id))
    assert (kit.state(dead), kit.state(again.job_id)) == (JobState.DEAD, JobState.SUCCEEDED)
    assert (kit.ledger(dead), kit.ledger(again.job_id)) == (["refund"], ["charge"])
    assert kit.job(again.job_id).metadata == {"sku": "1"}
    assert letters.list_letters() == []


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
