"""The regular audit reads of the ledger what is new, and finds what a whole one finds."""

import pytest

from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.auditor import Auditor
from tests.queue_kit import Kit

LEDGER = f"{PREFIX}ledger"


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def auditor(kit):
    return Auditor(kit.store, pause_seconds=0)


@pytest.fixture
def entries_read(auditor, monkeypatch):
    """How many entries were read, in a list of one number."""
    ledger, read = auditor._usage._ledger, [0]
    pages = ledger.pages

    def counted(**bounds):
        for page in pages(**bounds):
            read[0] += len(page)
            yield page

    monkeypatch.setattr(ledger, "pages", counted)
    return read


def use_of(kit):
    return next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))


def test_an_audit_that_goes_on_reads_only_what_is_new(kit, auditor, entries_read):
    for _ in range(5):
        kit.succeeded()
    assert auditor.audit(goes_on=True).is_clean
    for _ in range(2):
        kit.succeeded()

    assert auditor.audit(goes_on=True).is_clean
    assert entries_read == [5 + 2]
    assert auditor.audit(goes_on=True).is_clean
    assert entries_read == [5 + 2]


def test_it_finds_usage_that_is_off_by_what_was_read_before(kit, auditor):
    kit.succeeded()
    auditor.audit(goes_on=True)
    kit.succeeded()
    kit.redis.hincrby(use_of(kit), "used", 5)

    assert list(auditor.audit(goes_on=True).usage.values()) == [5]


def test_it_finds_usage_that_is_lost_whose_entries_were_read_before(kit, auditor):
    kit.succeeded()
    auditor.audit(goes_on=True)
    kit.redis.delete(use_of(kit))

    assert list(auditor.audit(goes_on=True).usage.values()) == [-1]


def test_an_entry_lost_from_what_was_read_before_is_found(kit, auditor):
    job_id = kit.succeeded()
    kit.succeeded()
    auditor.audit(goes_on=True)
    kit.redis.xdel(LEDGER, kit.redis.hget(f"{PREFIX}job:{job_id}", "entry"))

    assert auditor.audit(goes_on=True).misplaced == {job_id: "charge lost from the ledger"}


def test_a_job_that_was_settled_twice_is_told_again_and_again(kit, auditor):
    job_id = kit.succeeded()
    kit.redis.xadd(LEDGER, kit.redis.xrange(LEDGER)[0][1])

    assert [auditor.audit(goes_on=True).settled_twice for _ in range(3)] == [(job_id,)] * 3


def test_after_a_failover_that_lost_what_was_read_all_is_read_again(kit, auditor, entries_read):
    kit.succeeded()
    lost = kit.succeeded()
    auditor.audit(goes_on=True)
    kit.redis.xdel(LEDGER, kit.redis.hget(f"{PREFIX}job:{lost}", "entry"))
    for key in (f"job:{lost}", f"ev:{lost}"):
        kit.redis.delete(PREFIX + key)
    kit.redis.hincrby(use_of(kit), "used", -1)
    kit.succeeded()

    assert auditor.audit(goes_on=True).is_clean
    assert entries_read == [2 + 2]


def test_on_another_day_all_is_read_again(kit, auditor, entries_read, monkeypatch):
    kit.succeeded()
    auditor.audit(goes_on=True)
    monkeypatch.setattr(auditor._usage, "_first_day_kept", lambda: "20200101")

    assert auditor.audit(goes_on=True).is_clean
    assert entries_read == [2]


def test_jobs_of_a_release_before_are_looked_for_once(kit, auditor, entries_read):
    job_id = kit.succeeded()
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "entry")

    for _ in range(3):
        assert auditor.audit(goes_on=True).is_clean

    assert entries_read == [1]


def test_a_whole_audit_reads_all_whatever_was_read_before(kit, auditor, entries_read):
    kit.succeeded()
    auditor.audit(goes_on=True)

    auditor.audit()

    assert entries_read == [2]


def test_entries_older_than_any_usage_are_not_read(kit, auditor, entries_read):
    old = {"job": "j", "tenant": "a", "kind": "charge", "cost": 1, "day": "20200101"}
    kit.redis.xadd(LEDGER, old, id="1577900000000-0")
    kit.succeeded()

    assert auditor.audit().is_clean
    assert entries_read == [1]


def test_a_record_older_than_the_ledger_is_not_missed(fake_redis):
    kit = Kit(fake_redis, Settings(ledger_days=45))
    job_id = kit.succeeded()
    kit.redis.delete(LEDGER, use_of(kit))
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "entry")
    kit.redis.hset(f"{PREFIX}job:{job_id}", "finished", "1577900000000")

    assert Auditor(kit.store, pause_seconds=0).audit().is_clean
