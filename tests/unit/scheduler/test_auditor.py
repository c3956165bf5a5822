"""The auditor: what a failover lost is found and put right."""

import threading

import pytest

from core.job import JobState, Lane
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.auditor import Auditor, AuditReport
from scheduler.regular_audit import RegularAudit
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


def fingerprint_of_itself(kit, _leader, follower):
    kit.redis.set(f"{PREFIX}fp:a:f", follower)


def fingerprint_of_another_flight(kit, _leader, _follower):
    kit.redis.set(f"{PREFIX}fp:a:f", kit.queued(fingerprint="g"))


def leader_that_ended(kit, leader, _follower):
    job = kit.redis.hgetall(f"{PREFIX}job:{leader}")
    entry = {"job": leader, "tenant": "a", "kind": "refund", "cost": job["cost"], "day": job["day"]}
    end = {"state": "DEAD", "settled": "refund", "entry": kit.redis.xadd(f"{PREFIX}ledger", entry)}
    kit.redis.hset(f"{PREFIX}job:{leader}", mapping=end)
    kit.redis.zrem(f"{PREFIX}tq:a|interactive", leader)
    for kind in ("records", "dlq"):
        kit.redis.zadd(PREFIX + kind, {leader: 1e15})


@pytest.mark.parametrize("lost", [fingerprint_of_itself, fingerprint_of_another_flight, leader_that_ended])
def test_a_follower_whose_leader_is_none_is_found(kit, auditor, lost):
    leader, follower = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    lost(kit, leader, follower)
    before = kit.snapshot()

    assert auditor.audit().misplaced == {follower: "follows nobody"}
    assert kit.snapshot() == before

    auditor.audit(repair=True)
    assert kit.state(follower) is JobState.QUEUED


def test_followers_that_wait_for_their_portion_of_the_end_are_not_touched(kit, auditor):
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(150)]
    kit.complete(run)
    waiting = [job_id for job_id in followers if kit.state(job_id) is JobState.FOLLOWING]

    report = auditor.audit(repair=True)

    assert (len(waiting) > 0, report.is_clean) == (True, True)


def test_a_run_past_its_deadline_is_in_order(kit, auditor):
    run = kit.running()
    kit.let_run_out("deadline", run.id)
    kit.store.reap()

    assert auditor.audit().is_clean


def test_an_end_without_a_settlement_is_settled(kit, auditor):
    job_id = kit.succeeded()
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "settled")
    kit.redis.delete(f"{PREFIX}ledger")
    kit.redis.hset(next(iter(kit.redis.scan_iter(f"{PREFIX}use:a:*"))), mapping={"used": 0, "reserved": 1})
    before = kit.snapshot()
    assert auditor.audit().misplaced == {job_id: "ended but not settled"}
    assert kit.snapshot() == before

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


def test_a_job_that_was_settled_twice_is_told(kit, auditor):
    job_id = kit.succeeded()
    entry = kit.redis.xrange(f"{PREFIX}ledger")[0][1]
    kit.redis.xadd(f"{PREFIX}ledger", entry)

    assert auditor.audit().settled_twice == (job_id,)


def run_to_the_end(kit, ids):
    """As if every wait were over: what is due comes back, and every job is drawn."""
    for kind in ("lease", "rel", "retry"):
        for job_id in kit.redis.zrange(PREFIX + kind, 0, -1):
            kit.let_run_out(kind, job_id)
    kit.store.reap()
    for _ in range(3):
        for release in kit.store.release(1000):
            kit.complete(kit.claim(release))
    return {kit.state(job_id) for job_id in ids}


LOST_KEYS = ["tq:a|interactive", "act", "rel", "lease", "retry", "deadline", "nq", "queued_work", "use", "fp", "fol"]


@pytest.mark.parametrize("lost", [[name] for name in LOST_KEYS] + [LOST_KEYS], ids="+".join)
def test_whatever_key_is_lost_one_repair_is_enough_and_everything_ends(kit, auditor, lost):
    kit.succeeded()
    ids = [kit.waiting_to_retry().id, kit.released().job_id, kit.running().id]
    leader = kit.queued(fingerprint="f")
    ids += [leader, kit.queued(fingerprint="f"), *(kit.queued(work=1.5) for _ in range(5))]
    keys = {
        "fp": f"{PREFIX}fp:a:f",
        "fol": f"{PREFIX}fol:{leader}",
        "use": next(kit.redis.scan_iter(f"{PREFIX}use:a:*")),
    }
    kit.redis.delete(*(keys.get(name, PREFIX + name) for name in lost))
    before = kit.snapshot()
    assert not auditor.audit().is_clean
    assert kit.snapshot() == before, "without repair nothing is written"

    auditor.audit(repair=True)

    after = kit.snapshot()
    assert auditor.audit(repair=True).is_clean
    assert kit.snapshot() == after, "a second repair changes nothing"
    assert int(after[f"{PREFIX}nq"]["interactive"]) == len(after[f"{PREFIX}tq:a|interactive"])
    assert run_to_the_end(kit, ids) == {JobState.SUCCEEDED}
    assert violations(kit.redis, ids) == []


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
def test_waiting_jobs_are_recounted_for_each_lane_and_model(kit, auditor, lane):
    for queue in ("", "other"):
        kit.queued(lane=lane, queue=queue, work=2.0)
    truth = kit.snapshot()
    kit.redis.hincrby(f"{PREFIX}nq", lane.value, 5)
    kit.redis.hincrbyfloat(f"{PREFIX}queued_work", f"a|{lane.value}@other", -1.5)

    report = auditor.audit()

    assert report.counters == {f"nq of {lane.value}": 5, f"queued_work of a|{lane.value}@other": -1.5}
    auditor.audit(repair=True)
    assert kit.snapshot() == truth


def test_a_parked_queue_is_counted_too(kit, auditor):
    kit.queued()
    kit.store.pause("tenant", "a")
    kit.store.release(1)

    assert auditor.audit().is_clean

    kit.redis.delete(f"{PREFIX}queued_work")
    assert auditor.audit().counters == {"queued_work of a|interactive": -1}


def test_an_entry_of_a_queue_that_is_no_waiting_job_goes(kit, auditor):
    run, waiting = kit.running(tenant="b"), kit.queued()
    truth = kit.snapshot()
    kit.redis.zadd(f"{PREFIX}tq:a|interactive", {run.id: 1, "no-such-job": 2})
    kit.redis.hincrby(f"{PREFIX}nq", "interactive", 2)

    report = auditor.audit(repair=True)

    assert report.misplaced == dict.fromkeys((run.id, "no-such-job"), "in a queue but not queued")
    assert kit.snapshot() == truth
    assert kit.state(waiting) is JobState.QUEUED


def test_the_work_of_a_queue_that_is_gone_is_forgotten(kit, auditor):
    kit.redis.hset(f"{PREFIX}queued_work", "a|batch", 3)

    assert auditor.audit(repair=True).counters == {"queued_work of a|batch": 3}

    assert kit.redis.hgetall(f"{PREFIX}queued_work") == {}


def test_usage_that_is_lost_is_made_anew_and_expires_as_before(kit, auditor):
    kit.succeeded(cost_units=3)
    kit.queued(cost_units=2)
    key = next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))
    kit.redis.delete(key)

    report = auditor.audit(repair=True)

    assert sorted(report.usage.values()) == [-3, -2]
    assert kit.use() == {"used": 3, "reserved": 2}
    assert 0 < kit.redis.ttl(key) <= 40 * 86_400


def test_what_is_kept_for_the_rows_of_a_list_is_reserved(kit, auditor):
    kit.queued()
    key = next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))
    kit.redis.hset(f"{PREFIX}hold:list", mapping={"tenant": "a", "day": key[-8:], "units": 7, "jobs": 7})
    kit.redis.zadd(f"{PREFIX}holds", {"list": 1e15})
    kit.redis.hincrby(key, "reserved", 7)

    assert auditor.audit().is_clean


def test_usage_that_expired_is_not_missed(kit, auditor):
    entry = {"job": "old", "tenant": "a", "kind": "charge", "cost": 1, "day": "20200101"}
    kit.redis.xadd(f"{PREFIX}ledger", entry)

    assert auditor.audit().is_clean


def regular(kit, stop=None):
    return RegularAudit(kit.store, stop or threading.Event(), pause_seconds=0)


def test_of_several_schedulers_one_audits_in_each_period(kit):
    schedulers = [regular(kit) for _ in range(3)]

    for one in schedulers:
        one.turn()

    assert [one.audits for one in schedulers] == [1, 0, 0]
    assert 0 < kit.redis.pttl(f"{PREFIX}audit_turn") <= 600_000


def test_the_regular_audit_tells_and_leaves_repairing_to_an_operator(kit):
    job_id = kit.queued()
    kit.redis.delete(f"{PREFIX}tq:a|interactive")
    before = kit.snapshot()

    regular(kit).turn()

    after = kit.snapshot()
    assert int(after.pop(f"{PREFIX}audit")["at"]) > 0
    assert after.pop(f"{PREFIX}audit_turn")
    assert after == before
    told = kit.store.tallies().audit
    assert (told["place"], told["counter"], told["usage"], told["settled_twice"]) == (1, 2, 0, 0)
    assert kit.state(job_id) is JobState.QUEUED


def test_after_a_repair_only_what_it_can_not_mend_is_shown(kit, auditor):
    auditor.remember(AuditReport(misplaced={"a": "b"}, settled_twice=("c",), repaired=True))

    told = kit.store.tallies().audit
    assert (told["place"], told["settled_twice"]) == (0, 1)


def test_a_period_of_zero_turns_the_regular_audit_off(fake_redis):
    kit = Kit(fake_redis, Settings(audit_seconds=0))
    one = regular(kit)

    one.turn()

    assert (one.audits, one.pause_seconds > 0) == (0, True)


def test_what_an_audit_can_not_read_does_not_end_the_scheduler(kit):
    kit.redis.xadd(f"{PREFIX}ledger", {"of": "tomorrow"})
    one = regular(kit)

    one.turn()

    assert one.audits == 0


def test_an_audit_that_is_stopped_tells_nothing(kit):
    kit.queued()
    kit.redis.delete(f"{PREFIX}nq")
    stop = threading.Event()
    stop.set()

    regular(kit, stop).turn()

    assert kit.store.tallies().audit == {}
