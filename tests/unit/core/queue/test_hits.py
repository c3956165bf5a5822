"""What was drawn already costs nothing: each drawing is paid once, by somebody who is shown it."""

from dataclasses import replace

import pytest

import core.long_list
from core.errors import QuotaExceeded
from core.job import JobState, Lane
from core.job_store import JobStore
from core.look import KeyLimits
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.queue_kit import CRASHED, GENEROUS, REFUSED, limits, make_job, violations


def bill(kit, *ids):
    """Of each job's entries: the kinds, and what they cost in all."""
    entries = [entry for _, entry in kit.redis.xrange(f"{PREFIX}ledger")]
    own = [[one for one in entries if one["job"] == job_id] for job_id in ids]
    return [(*(one["kind"] for one in found), sum(int(one["cost"]) for one in found)) for found in own]


def test_a_follower_and_a_later_hit_are_entered_as_charges_of_nothing(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.complete(run)

    later = kit.submit(fingerprint="f").job_id

    assert bill(kit, run.id, follower, later) == [("charge", 1), ("charge", 0), ("charge", 0)]
    assert kit.use() == {"used": 1, "reserved": 0, "hits": 2}
    assert [kit.job(one).cost_units for one in (run.id, follower, later)] == [1, 0, 0]
    assert violations(kit.redis, [run.id, follower, later]) == []


def test_hits_count_neither_in_the_tenants_units_nor_in_those_of_its_key(kit):
    allowed = replace(GENEROUS, key=KeyLimits(id="k", daily_units=3))
    first = kit.succeeded(fingerprint="f", allowed=allowed)
    hits = [kit.queued(fingerprint="f", allowed=allowed) for _ in range(2)]

    assert kit.use() == kit.use("a/k") == {"used": 1, "reserved": 0, "hits": 2}
    kit.queued(allowed=allowed)
    kit.queued(allowed=allowed)
    with pytest.raises(QuotaExceeded):
        kit.queued(allowed=allowed)
    assert {kit.state(one) for one in (first, *hits)} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("in_one_call", [True, False])
def test_a_day_has_as_many_free_hits_as_it_has_units_since_each_is_a_record(kit, in_one_call):
    allowed = limits(daily_units=5)
    first = kit.succeeded(fingerprint="f", allowed=allowed)
    kit.redis.hset(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "hits", 3)
    hits = [make_job(fingerprint="f") for _ in range(4)]
    if in_one_call:
        kit.store.submit_many(hits, allowed)
    else:
        for one in hits:
            kit.store.submit(one, allowed)

    assert bill(kit, first, *(one.id for one in hits)) == [("charge", cost) for cost in (1, 0, 0, 1, 1)]
    assert kit.use() == {"used": 3, "reserved": 0, "hits": 5}
    kit.queued(allowed=allowed)
    kit.queued(allowed=allowed)
    with pytest.raises(QuotaExceeded):
        kit.queued(allowed=allowed)


@pytest.mark.parametrize(("hits", "costs"), [(2, [0, 0, 0]), (3, [0, 0, 1]), (4, [0, 1, 1])])
def test_free_hits_are_counted_once_each_whether_they_are_shown_or_wait(kit, hits, costs):
    allowed = limits(daily_units=5)
    kit.succeeded(fingerprint="f", allowed=allowed)
    run = kit.running(fingerprint="g", allowed=allowed)
    kit.redis.hset(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "hits", hits)
    rows = [make_job(fingerprint=fingerprint) for fingerprint in "fgg"]
    kit.store.submit_many(rows, allowed)

    kit.complete(run)

    assert bill(kit, *(row.id for row in rows)) == [("charge", cost) for cost in costs]
    assert kit.use()["used"] == 2 + sum(costs)


def test_what_is_there_already_is_shown_on_a_day_that_is_used_up(kit):
    allowed = replace(limits(daily_units=1), key=KeyLimits(id="k", daily_units=1))
    first = kit.succeeded(fingerprint="f", allowed=allowed)

    hit = kit.submit(fingerprint="f", allowed=allowed)

    assert (hit.state, hit.leader) == (JobState.SUCCEEDED, first)
    with pytest.raises(QuotaExceeded):
        kit.submit(fingerprint="g", allowed=allowed)
    assert violations(kit.redis, [first, hit.job_id]) == []


def test_where_each_picture_is_billed_nothing_is_shown_on_a_day_that_is_used_up(kit):
    kit.store = JobStore(kit.redis, replace(kit.settings, charge_hits="on"))
    kit.succeeded(fingerprint="f", allowed=limits(daily_units=1))

    with pytest.raises(QuotaExceeded):
        kit.submit(fingerprint="f", allowed=limits(daily_units=1))


def test_a_list_gives_back_what_it_kept_for_rows_that_were_hits(kit, monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)
    first = kit.succeeded(fingerprint="f")
    rows = [make_job(lane=Lane.BATCH, batch_id="b", fingerprint="f" if at % 2 else "") for at in range(8)]

    kit.store.submit_many(rows, GENEROUS)

    assert kit.use() == {"used": 1, "reserved": 4, "hits": 4}
    kit.add_worker("w1", slots=10)
    for one in kit.store.release(10):
        kit.complete(kit.claim(one))
    assert violations(kit.redis, [first, *(row.id for row in rows)]) == []


def test_who_draws_in_the_place_of_a_leader_pays(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    heir, follower = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    kit.store.fail(run.id, run.token, CRASHED)

    kit.complete(kit.claim(kit.store.release(1)[0]))

    assert bill(kit, run.id, heir, follower) == [("refund", 1), ("charge", 1), ("charge", 0)]
    assert violations(kit.redis, [run.id, heir, follower]) == []


@pytest.mark.parametrize("count", [1, 3, 150])
def test_of_a_run_whose_own_job_was_canceled_the_oldest_follower_pays(kit, count):
    """Else a picture could be had for nothing: asked for twice, and canceled once."""
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(count)]
    kit.store.cancel(run.id)

    kit.complete(run)
    kit.store.reap()

    assert bill(kit, run.id, *followers) == [("refund", 1), ("charge", 1), *[("charge", 0)] * (count - 1)]
    assert [kit.job(one).leader for one in followers] == [run.id] * count
    assert violations(kit.redis, [run.id, *followers]) == []


def test_a_follower_that_fails_with_its_leader_gets_back_what_it_reserved(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")

    kit.store.fail(run.id, run.token, REFUSED)

    assert bill(kit, run.id, follower) == [("refund", 1), ("refund", 1)]
    assert kit.use() == {"reserved": 0}


def test_where_the_operator_bills_each_picture_hits_pay_as_well(kit):
    kit.store = JobStore(kit.redis, replace(kit.settings, charge_hits="on"))
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.complete(run)
    later = kit.queued(fingerprint="f")

    assert bill(kit, run.id, follower, later) == [("charge", 1)] * 3
    assert kit.use() == {"used": 3, "reserved": 0}
    assert not kit.redis.hexists(f"{PREFIX}job:{kit.queued()}", "pays"), "nobody could ever share its picture"


def test_an_audit_finds_hits_in_order_and_puts_back_the_entry_of_one_that_was_lost(kit):
    first, hit = kit.succeeded(fingerprint="f"), kit.queued(fingerprint="f")
    auditor = Auditor(kit.store)
    assert auditor.audit().is_clean
    kit.redis.xdel(f"{PREFIX}ledger", kit.redis.hget(f"{PREFIX}job:{hit}", "entry"))

    auditor.audit(repair=True)

    assert bill(kit, first, hit) == [("charge", 1), ("charge", 0)]
    assert kit.use() == {"used": 1, "reserved": 0, "hits": 1}
    assert auditor.audit().is_clean


@pytest.mark.parametrize(("charges", "cost"), [("off", 0), ("on", 1)])
def test_a_hit_whose_settlement_was_lost_is_settled_as_a_hit(kit, charges, cost):
    kit.store = JobStore(kit.redis, replace(kit.settings, charge_hits=charges))
    first, hit = kit.succeeded(fingerprint="f"), kit.queued(fingerprint="f")
    record = f"{PREFIX}job:{hit}"
    kit.redis.xdel(f"{PREFIX}ledger", kit.redis.hget(record, "entry"))
    kit.redis.hdel(record, "settled", "entry")
    kit.redis.hset(record, "cost", 1)
    kit.redis.hincrby(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "reserved", 1)

    Auditor(kit.store).audit(repair=True)

    assert bill(kit, first, hit) == [("charge", 1), ("charge", cost)]
    assert (kit.use()["used"], kit.use()["reserved"]) == (1 + cost, 0)


def break_after_the_charge(kit, follower):
    """Its end fails once it is settled: the record that the fingerprint names can not be compared with it."""
    stray = kit.queued()
    kit.redis.hset(f"{PREFIX}job:{stray}", mapping={"state": "SUCCEEDED", "expires": "x"})
    kit.redis.set(f"{PREFIX}fp:a:f", stray)


def break_before_the_charge(kit, follower):
    kit.redis.hset(f"{PREFIX}job:{follower}", "retention", "x")


@pytest.mark.parametrize("spoil", [break_after_the_charge, break_before_the_charge])
def test_of_a_canceled_run_one_pays_though_the_oldest_followers_record_can_not_be_read(kit, spoil):
    run = kit.running(fingerprint="f")
    oldest, other = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    kit.store.cancel(run.id)
    spoil(kit, oldest)

    kit.complete(run)
    kit.store.reap()

    assert sum(cost for *_, cost in bill(kit, oldest, other)) == 1
