"""The auditor: what a failover lost is found and put right."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.queue_kit import Kit, violations


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def auditor(kit):
    return Auditor(kit.store, pause_seconds=0)


@pytest.fixture
def everything(kit):
    """A job in each state."""
    run = kit.running(fingerprint="f")
    kit.queued(fingerprint="f")
    kit.succeeded()
    kit.dead()
    kit.waiting_to_retry()
    kit.released()
    kit.queued(tenant="b")
    return run


def test_a_sound_service_is_left_alone(kit, auditor, everything):
    before = kit.snapshot()

    report = auditor.audit(repair=True)

    assert (report.is_clean, report.jobs) == (True, 7)
    assert kit.snapshot() == before


@pytest.mark.parametrize(
    ("made", "lost", "wrong"),
    [
        ("queued", "tq:a|interactive", "queued but in no queue"),
        ("queued", "act", "queued but its queue is not active"),
        ("released", "rel", "released but not in rel"),
        ("running", "lease", "running but not in lease"),
        ("waiting_to_retry", "retry", "retry but not in retry"),
    ],
)
def test_a_job_that_lost_its_place_is_put_back_and_ends(kit, auditor, made, lost, wrong):
    one = getattr(kit, made)()
    job_id = getattr(one, "job_id", None) or getattr(one, "id", one)
    kit.redis.delete(PREFIX + lost)
    assert auditor.audit().misplaced == {job_id: wrong}

    auditor.audit(repair=True)

    kit.store.reap()
    if kit.state(job_id) is not JobState.RELEASED:
        kit.complete(kit.claim_again(job_id))
        assert kit.state(job_id) is JobState.SUCCEEDED
    assert auditor.audit().misplaced == {}


def test_a_follower_without_a_leader_runs_itself(kit, auditor):
    leader = kit.queued(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.redis.delete(f"{PREFIX}job:{leader}", f"{PREFIX}fp:a:f")
    kit.redis.zrem(f"{PREFIX}tq:a|interactive", leader)

    assert auditor.audit(repair=True).misplaced == {follower: "follows nobody"}

    assert kit.state(follower) is JobState.QUEUED


def test_an_end_without_a_settlement_is_settled(kit, auditor):
    job_id = kit.succeeded()
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "settled")
    kit.redis.delete(f"{PREFIX}ledger")
    kit.redis.hset(next(iter(kit.redis.scan_iter(f"{PREFIX}use:a:*"))), mapping={"used": 0, "reserved": 1})

    auditor.audit(repair=True)

    assert kit.ledger(job_id) == ["charge"]
    assert violations(kit.redis, [job_id]) == []


@pytest.mark.parametrize(("kind", "change"), [("used", 5), ("used", -1), ("reserved", 3), ("reserved", -1)])
def test_usage_is_put_right_from_the_ledger_and_the_open_jobs(kit, auditor, kind, change):
    kit.succeeded()
    kit.queued()
    before = kit.use()
    kit.redis.hincrby(next(iter(kit.redis.scan_iter(f"{PREFIX}use:a:*"))), kind, change)

    report = auditor.audit(repair=True)

    assert list(report.usage.values()) == [change]
    assert kit.use() == before


def test_a_difference_that_does_not_last_is_not_corrected(kit, auditor):
    readings = [{("a", "d", "used"): 1}, {}]
    auditor._differences = lambda: readings.pop(0)

    assert auditor.audit().usage == {}


def test_a_job_that_was_settled_twice_is_told(kit, auditor):
    job_id = kit.succeeded()
    entry = kit.redis.xrange(f"{PREFIX}ledger")[0][1]
    kit.redis.xadd(f"{PREFIX}ledger", entry)

    assert auditor.audit().settled_twice == (job_id,)
