"""The audit beside a service that works: whatever happens between any two of its readings is no difference."""

import random
from dataclasses import replace

import fakeredis
import pytest

import core.long_list
from core.job import JobState, Lane
from core.job_store import JobStore
from core.look import KeyLimits
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.queue_kit import GENEROUS, Kit, make_job, violations


class Busy(fakeredis.FakeRedis):
    """A client before each of whose calls something else happens on the same server."""

    between = staticmethod(lambda: None)

    def execute_command(self, *arguments, **options):
        self.between()
        return super().execute_command(*arguments, **options)

    def pipeline(self, transaction=True, shard_hint=None):
        made = super().pipeline(transaction, shard_hint)
        execute = made.execute

        def after_something_else(*arguments, **options):
            self.between()
            return execute(*arguments, **options)

        made.execute = after_something_else
        return made


@pytest.fixture
def server():
    return fakeredis.FakeServer()


@pytest.fixture
def kit(server):
    return Kit(fakeredis.FakeRedis(server=server, decode_responses=True))


class Work:
    """One of many things that a service does, chosen by a seeded die; what runs or waits comes to its end later."""

    def __init__(self, kit, seed):
        self.kit, self.rng, self.runs, self.ids, self.lists = kit, random.Random(seed), [], [], 0
        self.calls, self.steps = 0, 0

    def step(self):
        """At the first call and every third one, so that the audit comes to its end."""
        self.calls += 1
        if self.calls > 40 and self.calls % 3:
            return
        self.steps += 1
        choices = (self.submit, self.run, self.complete, self.complete, self.cancel, self.remove, self.begin_list)
        self.rng.choice(choices)()

    def submit(self):
        key = KeyLimits(id="k", daily_units=10**6) if self.rng.random() < 0.3 else None
        lane, tenant = self.rng.choice(list(Lane)), self.rng.choice("abc")
        cost = self.rng.randrange(1, 4)
        allowed = replace(GENEROUS, key=key)
        self.ids.append(self.kit.queued(tenant=tenant, lane=lane, cost_units=cost, allowed=allowed))

    def run(self):
        self.runs += [self.kit.claim(one) for one in self.kit.store.release(2)]

    def complete(self):
        if self.runs:
            self.kit.complete(self.runs.pop(self.rng.randrange(len(self.runs))))

    def cancel(self):
        if self.ids:
            self.kit.store.cancel(self.rng.choice(self.ids))

    def remove(self):
        if self.ids:
            self.kit.store.remove(self.rng.choice(self.ids))

    def begin_list(self):
        """A list whose caller goes away in the middle; what it keeps is given back at another time."""
        if self.lists > 3:
            self.lists = 0
            for name in self.kit.redis.zrange(f"{PREFIX}holds", 0, -1):
                self.kit.redis.zadd(f"{PREFIX}holds", {name: 1})
            self.kit.store.reap_holds()
            return
        self.lists += 1
        rows = [make_job(tenant="b", lane=Lane.BATCH, batch_id=f"l{self.steps}") for _ in range(5)]
        for first in range(0, self.rng.choice([2, 4, 6]), 2):
            break_off(self.kit, rows, first)
        self.ids += [row.id for row in rows if self.kit.store.get(row.id)]

    def end_all(self):
        self.kit.add_worker("w1", slots=1000)
        for name in self.kit.redis.zrange(f"{PREFIX}holds", 0, -1):
            self.kit.redis.zadd(f"{PREFIX}holds", {name: 1})
        self.kit.store.reap_holds()
        for run in self.runs:
            self.kit.complete(run)
        while released := self.kit.store.release(1000):
            for one in released:
                self.kit.complete(self.kit.claim(one))


def break_off(kit, rows, first):
    """The list's calls up to the one that begins with row `first`."""
    stored = 0
    for part, step in core.long_list.portions(kit.redis, rows):
        if stored > first:
            return
        kit.store._ask_to_store(kit.store._arguments(part, step, GENEROUS, 1))
        stored += len(part)


def auditor_beside(server, kit, happens):
    busy = Busy(server=server, decode_responses=True)
    auditor = Auditor(JobStore(busy, kit.settings), pause_seconds=0)
    busy.between = happens
    return auditor, busy


@pytest.mark.parametrize("seed", range(6))
def test_an_audit_beside_work_finds_nothing_and_repairs_nothing(server, kit, seed, monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr("scheduler.audit_usage.PURSES_AT_ONCE", 1)
    monkeypatch.setattr("scheduler.audit_usage.PAGE", 3)
    monkeypatch.setattr("scheduler.ledger.PAGE", 5)
    work = Work(kit, seed)
    for _ in range(40):
        work.step()
    auditor, busy = auditor_beside(server, kit, work.step)

    for _ in range(2):
        report = auditor.audit(repair=True)
        assert report.is_clean, report

    busy.between = lambda: None
    work.end_all()
    assert work.steps > 100
    assert auditor.audit().is_clean
    assert violations(kit.redis, [one for one in work.ids if kit.store.get(one)]) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_difference_is_found_and_corrected_exactly_beside_work(server, kit, seed, monkeypatch):
    monkeypatch.setattr("scheduler.audit_usage.PURSES_AT_ONCE", 1)
    monkeypatch.setattr("scheduler.ledger.PAGE", 5)
    work = Work(kit, seed)
    for _ in range(40):
        work.step()
    use = next(kit.redis.scan_iter(f"{PREFIX}use:?:*"))
    kit.redis.hincrby(use, "used", 7)
    auditor, busy = auditor_beside(server, kit, work.step)

    report = auditor.audit(repair=True)

    assert {key[2]: units for key, units in report.usage.items()} == {"used": 7}
    busy.between = lambda: None
    assert auditor.audit().is_clean


def test_one_picture_at_each_reading_is_no_difference(server, kit):
    """A steady pace shows the same drift in any two readings."""
    auditor, _ = auditor_beside(server, kit, kit.succeeded)

    assert [auditor.audit(repair=True).usage for _ in range(3)] == [{}, {}, {}]


def test_usage_that_was_lost_is_made_anew_beside_work(server, kit):
    kit.succeeded()
    kit.queued()
    kit.redis.delete(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")))
    auditor, busy = auditor_beside(server, kit, kit.succeeded)

    report = auditor.audit(repair=True)

    assert {key[2] for key in report.usage} == {"used", "reserved"}
    busy.between = lambda: None
    assert auditor.audit().is_clean


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


def test_the_longest_queue_is_counted_in_parts_while_it_stands_still(server, kit, monkeypatch):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    for _ in range(7):
        kit.queued()
    kit.redis.hset(f"{PREFIX}queued_work", "a|interactive", 9)
    auditor = Auditor(kit.store, pause_seconds=0)
    assert auditor.audit().counters == {"queued_work of a|interactive": 2}

    auditor.audit(repair=True)

    assert kit.redis.hgetall(f"{PREFIX}queued_work") == {"a|interactive": "7"}


@pytest.mark.parametrize("off", [0, 2])
def test_a_long_queue_that_moves_all_the_time_is_never_told_wrongly(server, kit, monkeypatch, off):
    monkeypatch.setattr("scheduler.audit_queues.ROWS_AT_ONCE", 2)
    for _ in range(9):
        kit.queued()
    kit.redis.hincrbyfloat(f"{PREFIX}queued_work", "a|interactive", off)

    def swap():
        kit.queued()
        kit.store.release(1)

    auditor, busy = auditor_beside(server, kit, swap)

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

    assert set(auditor.audit().misplaced) == set(strays)
    auditor.audit(repair=True)

    after = kit.snapshot()
    assert after == truth
    assert {kit.state(one) for one in ids} == {JobState.QUEUED}
