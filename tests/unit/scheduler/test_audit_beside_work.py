"""The audit beside a service that works: whatever happens between any two of its readings is no difference."""

import random
from dataclasses import replace

import pytest

import core.long_list
from core.job import Lane
from core.look import KeyLimits
from core.redis_client import PREFIX
from tests.busy_redis import auditor_beside
from tests.queue_kit import GENEROUS, Kit, make_job, violations


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


class Work:
    """One of many things that a service does, chosen by a seeded die; what runs or waits comes to its end later."""

    def __init__(self, kit, seed):
        self.kit, self.rng, self.runs, self.ids, self.lists = kit, random.Random(seed), [], [], 0
        self.calls, self.steps = 0, 0

    def step(self):
        """At the first call and every third one, so that the audit comes to its end."""
        self.calls += 1
        if self.calls > 40 and self.calls % 5:
            return
        self.steps += 1
        choices = (self.submit, self.run, self.complete, self.complete, self.cancel, self.remove, self.begin_list)
        self.rng.choice(choices)()

    def submit(self):
        key = KeyLimits(id="k", daily_units=10**6) if self.rng.random() < 0.3 else None
        lane, tenant = self.rng.choice(list(Lane)), self.rng.choice("abc")
        cost = self.rng.randrange(1, 4)
        allowed = replace(GENEROUS, key=key)
        fingerprint = self.rng.choice(["", "f", "g"])
        more = {"tenant": tenant, "lane": lane, "cost_units": cost, "fingerprint": fingerprint}
        self.ids.append(self.kit.queued(allowed=allowed, **more))

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


@pytest.mark.parametrize("seed", range(3))
def test_an_audit_beside_work_finds_nothing_and_repairs_nothing(kit, seed, monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr("scheduler.audit_usage.PURSES_AT_ONCE", 1)
    monkeypatch.setattr("scheduler.audit_usage.PAGE", 3)
    monkeypatch.setattr("scheduler.ledger.PAGE", 5)
    work = Work(kit, seed)
    for _ in range(30):
        work.step()
    auditor, busy = auditor_beside(kit, work.step)

    for _ in range(2):
        report = auditor.audit(repair=True)
        assert report.is_clean, report

    busy.between = lambda: None
    work.end_all()
    assert work.steps > 60
    assert auditor.audit().is_clean
    assert violations(kit.redis, [one for one in work.ids if kit.store.get(one)]) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_difference_is_found_and_corrected_exactly_beside_work(kit, seed, monkeypatch):
    monkeypatch.setattr("scheduler.audit_usage.PURSES_AT_ONCE", 1)
    monkeypatch.setattr("scheduler.ledger.PAGE", 5)
    work = Work(kit, seed)
    for _ in range(30):
        work.step()
    use = next(kit.redis.scan_iter(f"{PREFIX}use:?:*"))
    kit.redis.hincrby(use, "used", 7)
    auditor, busy = auditor_beside(kit, work.step)

    report = auditor.audit(repair=True)

    assert {key[2]: units for key, units in report.usage.items()} == {"used": 7}
    busy.between = lambda: None
    assert auditor.audit().is_clean


def test_one_picture_at_each_reading_is_no_difference(kit):
    """A steady pace shows the same drift in any two readings."""
    auditor, _ = auditor_beside(kit, kit.succeeded)

    assert [auditor.audit(repair=True).usage for _ in range(3)] == [{}, {}, {}]


def test_usage_that_was_lost_is_made_anew_beside_work(kit):
    kit.succeeded()
    kit.queued()
    kit.redis.delete(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")))
    auditor, busy = auditor_beside(kit, kit.succeeded)

    report = auditor.audit(repair=True)

    assert {key[2] for key in report.usage} == {"used", "reserved"}
    busy.between = lambda: None
    assert auditor.audit().is_clean
