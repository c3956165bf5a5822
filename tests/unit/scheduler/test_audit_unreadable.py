"""A record that can not be read is told and stops nothing: the audit, its repair, and the bill of all others."""

import pytest

from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.queue_kit import Kit, violations

STATES = ("queued", "released", "running", "succeeded", "dead")
FIELDS = ("work", "cost", "created", "deadline", "retention", "record_retention", "epoch")


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def auditor(kit):
    return Auditor(kit.store, pause_seconds=0)


def made(kit, how, **more):
    one = getattr(kit, how)(**more)
    return one if isinstance(one, str) else getattr(one, "id", None) or one.job_id


def spoil(kit, job_id, field, value="x"):
    kit.redis.hset(f"{PREFIX}job:{job_id}", field, value)


def with_others_out_of_place(kit):
    """One that is in no queue, and one whose charge was lost."""
    lost, waiting = kit.succeeded(tenant="b"), kit.queued(tenant="c")
    kit.redis.delete(f"{PREFIX}tq:c|interactive")
    kit.redis.xdel(f"{PREFIX}ledger", kit.redis.hget(f"{PREFIX}job:{lost}", "entry"))
    return {waiting: "queued but in no queue", lost: "charge lost from the ledger"}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("field", FIELDS)
def test_a_record_that_can_not_be_read_is_told_and_the_others_are_put_right(kit, auditor, state, field):
    others = with_others_out_of_place(kit)
    broken = made(kit, state)
    spoil(kit, broken, field)

    report = auditor.audit(repair=True)

    assert report.unclear == {broken: "can not be read"}
    assert others.items() <= report.misplaced.items()
    again = auditor.audit()
    assert (again.misplaced, again.usage, again.unclear) == ({}, {}, {broken: "can not be read"})


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("field", ["arrival", "head_start"])
def test_so_is_one_that_waits_and_whose_place_is_not_known(kit, auditor, state, field):
    others = with_others_out_of_place(kit)
    broken = made(kit, state)
    spoil(kit, broken, field)

    report = auditor.audit(repair=True)

    assert report.unclear == {broken: "can not be read"}
    assert others.items() <= report.misplaced.items()


@pytest.mark.parametrize("field", ["finished", "expires"])
def test_so_is_an_ended_one_whose_time_is_not_known(kit, auditor, field):
    others = with_others_out_of_place(kit)
    broken = kit.succeeded()
    spoil(kit, broken, field)

    report = auditor.audit(repair=True)

    assert (report.unclear, report.misplaced) == ({broken: "can not be read"}, others)


def test_an_ended_one_is_listed_by_its_age_where_its_arrival_is_not_known(kit, auditor):
    job_id = kit.succeeded()
    spoil(kit, job_id, "arrival")
    kit.redis.delete(f"{PREFIX}jobs:a")

    auditor.audit(repair=True)

    assert kit.redis.zscore(f"{PREFIX}jobs:a", job_id) == kit.job(job_id).created_ms
    assert auditor.audit().is_clean


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_entry_that_is_named_in_an_unreadable_way_is_looked_for(kit, auditor, is_lost):
    job_id = kit.succeeded()
    spoil(kit, job_id, "entry")
    if is_lost:
        kit.redis.delete(f"{PREFIX}ledger")

    auditor.audit(repair=True)

    assert (kit.ledger(job_id), kit.use()) == (["charge"], {"used": 1, "reserved": 0})
    assert auditor.audit().is_clean


@pytest.mark.parametrize("gone", ["tenant", "day", "flight", "fingerprint"])
def test_so_is_one_that_lacks_what_it_stands_by(kit, auditor, gone):
    others = with_others_out_of_place(kit)
    kit.queued(fingerprint="f")
    broken = kit.queued(fingerprint="f")
    kit.redis.hdel(f"{PREFIX}job:{broken}", gone)

    report = auditor.audit(repair=True)

    assert report.unclear == {broken: "can not be read"}
    assert others.items() <= report.misplaced.items()


def test_a_picture_that_can_not_be_read_is_told(kit, auditor):
    broken = kit.succeeded()
    spoil(kit, broken, "picture", '{"key":')

    assert auditor.audit().unclear == {broken: "can not be read"}


def test_what_a_tenant_reserves_is_left_alone_where_the_cost_of_a_job_is_not_known(kit, auditor):
    broken = kit.queued()
    kit.queued()
    spoil(kit, broken, "cost")

    report = auditor.audit(repair=True)

    assert report.usage == {}
    assert kit.use() == {"reserved": 2}


def test_a_charge_that_was_lost_and_whose_units_are_not_known_is_not_put_back(kit, auditor):
    broken = kit.succeeded()
    kit.redis.delete(f"{PREFIX}ledger")
    spoil(kit, broken, "cost")

    report = auditor.audit(repair=True)

    assert report.unclear[broken] == "can not be read"
    assert kit.redis.xlen(f"{PREFIX}ledger") == 0
    assert kit.use()["used"] == 1, "nobody knows how many it was"


def test_the_work_of_a_long_queue_is_counted_without_one_that_can_not_be_read(kit, auditor, monkeypatch):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    broken = [kit.queued() for _ in range(5)][2]
    spoil(kit, broken, "work")

    report = auditor.audit(repair=True)

    assert report.counters == {"queued_work of a|interactive": 1.0}
    assert auditor.audit().counters == {}


@pytest.mark.parametrize(("field", "right"), [("cost", 1), ("work", 1.0)])
def test_a_record_that_somebody_mends_goes_on_after_a_repair(kit, auditor, field, right):
    job_id = kit.queued()
    spoil(kit, job_id, field)
    for release in kit.store.release(10):
        assert kit.store.claim(job_id, release.epoch, "t", "w1") is None
    kit.let_run_out("deadline", job_id)
    kit.store.reap()

    spoil(kit, job_id, field, right)
    assert not auditor.audit(repair=True).unclear
    kit.store.reap()

    assert kit.complete(kit.claim_again(job_id))
    assert violations(kit.redis, [job_id]) == []
