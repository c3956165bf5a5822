"""What an audit corrects, it corrects once and exactly, whatever else happens; long queues are counted in parts."""

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.busy_redis import auditor_beside
from tests.queue_kit import Kit


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


def before_correcting(auditor, happens):
    """Calls `happens` once, after all was read and before usage is corrected."""
    run, waiting = auditor._usage._scripts.run, [happens]

    def run_later(name, *arguments):
        if name == "audit_correct" and waiting:
            waiting.pop()()
        return run(name, *arguments)

    auditor._usage._scripts.run = run_later


@pytest.fixture
def off_by_five(kit):
    kit.succeeded()
    use = next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))
    kit.redis.hincrby(use, "used", 5)
    return use


def test_of_two_repairs_at_once_one_corrects(kit, off_by_five):
    auditor, other = Auditor(kit.store, pause_seconds=0), Auditor(kit.store, pause_seconds=0)
    before_correcting(auditor, lambda: other.audit(repair=True))

    report = auditor.audit(repair=True)

    assert kit.use()["used"] == 1
    assert set(report.unclear.values()) == {"not corrected"}


def test_a_second_repair_after_the_first_corrects_again(kit, off_by_five):
    auditor = Auditor(kit.store, pause_seconds=0)
    auditor.audit(repair=True)
    kit.redis.hincrby(off_by_five, "used", -3)

    auditor.audit(repair=True)

    assert kit.use()["used"] == 1


def lose_the_ledgers_end(kit):
    kit.redis.xdel(f"{PREFIX}ledger", kit.redis.xrevrange(f"{PREFIX}ledger", count=1)[0][0])


def lose_the_last_submits(kit):
    kit.redis.set(f"{PREFIX}arrival", "1")


@pytest.mark.parametrize("lose", [lose_the_ledgers_end, lose_the_last_submits])
def test_nothing_is_corrected_where_the_server_lost_its_last_writes_meanwhile(kit, off_by_five, lose):
    auditor = Auditor(kit.store, pause_seconds=0)
    before_correcting(auditor, lambda: lose(kit))

    report = auditor.audit(repair=True)

    assert kit.use()["used"] == 6
    assert list(report.unclear.values()) == ["not corrected"]
    assert report.left["unclear"] == 1


def test_usage_whose_time_is_over_meanwhile_stays_gone(kit, off_by_five):
    auditor = Auditor(kit.store, pause_seconds=0)
    before_correcting(auditor, lambda: kit.redis.delete(off_by_five))

    auditor.audit(repair=True)

    assert not kit.redis.exists(off_by_five)


def test_a_correction_does_not_lengthen_the_time_of_usage(kit, off_by_five):
    kit.redis.expire(off_by_five, 100)

    Auditor(kit.store, pause_seconds=0).audit(repair=True)

    assert 0 < kit.redis.ttl(off_by_five) <= 100


def test_the_longest_queue_is_counted_in_parts_while_it_stands_still(kit, monkeypatch):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    for _ in range(7):
        kit.queued()
    kit.redis.hset(f"{PREFIX}queued_work", "a|interactive", 9)
    auditor = Auditor(kit.store, pause_seconds=0)
    assert auditor.audit().counters == {"queued_work of a|interactive": 2}

    auditor.audit(repair=True)

    assert kit.redis.hgetall(f"{PREFIX}queued_work") == {"a|interactive": "7"}


@pytest.mark.parametrize("off", [0, 2])
def test_a_long_queue_that_moves_all_the_time_is_never_told_wrongly(kit, monkeypatch, off):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    monkeypatch.setattr("scheduler.audit_queues.TRIES", 2)
    for _ in range(5):
        kit.queued()
    kit.redis.hincrbyfloat(f"{PREFIX}queued_work", "a|interactive", off)

    def swap():
        kit.queued()
        kit.store.release(1)

    auditor, busy = auditor_beside(kit, swap)

    assert auditor.audit(repair=True).counters == {}
    busy.between = lambda: None
    assert list(auditor.audit(repair=True).counters.values()) == ([off] if off else [])
    assert auditor.audit().is_clean


def test_strays_of_a_long_queue_are_found_in_every_part(kit, monkeypatch):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    ids = [kit.queued() for _ in range(5)]
    truth = kit.snapshot()
    strays = {f"stray{number}": number for number in range(4)}
    kit.redis.zadd(f"{PREFIX}tq:a|interactive", strays)
    auditor = Auditor(kit.store, pause_seconds=0)

    before = kit.snapshot()
    assert set(auditor.audit().misplaced) == set(strays)
    assert kit.snapshot() == before
    auditor.audit(repair=True)

    after = kit.snapshot()
    assert after == truth
    assert {kit.state(one) for one in ids} == {JobState.QUEUED}
