"""A key with limits of its own: both it and its tenant must have room, and both get back what was not drawn."""

from dataclasses import replace

import pytest

import core.long_list
from core.errors import ExceedsLimits, QuotaExceeded, RateLimited
from core.job import JobState
from core.look import KeyLimits
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.queue_kit import GENEROUS, REFUSED, limits, make_job, violations
from tests.unit.core.queue.test_clock import HOUR_MS, jump, now_ms
from tests.unit.core.queue.test_long_lists import break_off, end_all, rows

KEY = "a/k1"  # the counters of key k1 of tenant a
THREE = replace(GENEROUS, key=KeyLimits(id="k1", daily_units=3))
OTHER = replace(GENEROUS, key=KeyLimits(id="k2", daily_units=3))


@pytest.fixture
def portions_of_three(monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)


def test_a_key_draws_no_more_a_day_than_its_own_limit(kit):
    for _ in range(3):
        kit.queued(allowed=THREE)

    with pytest.raises(QuotaExceeded, match=r"This key's pictures of the day \(3\)"):
        kit.queued(allowed=THREE)

    assert (kit.use("a"), kit.use(KEY)) == ({"reserved": 3}, {"reserved": 3})


def test_a_key_that_used_up_its_own_limit_stops_no_other_key(kit):
    for _ in range(3):
        kit.queued(allowed=THREE)

    kit.queued(allowed=OTHER)
    kit.queued()

    assert (kit.use("a"), kit.use(KEY), kit.use("a/k2")) == ({"reserved": 5}, {"reserved": 3}, {"reserved": 1})


def test_a_key_with_room_is_refused_where_its_tenant_has_none(kit):
    allowed = limits(daily_units=1, key=KeyLimits(id="k1", daily_units=1))
    kit.queued(allowed=limits(daily_units=1))

    with pytest.raises(QuotaExceeded, match=r"The day's pictures \(1\)"):
        kit.queued(allowed=allowed)

    assert kit.use(KEY) == {}


def test_a_key_of_another_tenant_with_the_same_name_counts_apart(kit):
    for _ in range(3):
        kit.queued(allowed=THREE)

    assert kit.queued(tenant="b", allowed=THREE)


@pytest.mark.parametrize(
    ("end", "used"),
    [
        (lambda kit, run: kit.complete(run), {"reserved": 0, "used": 1}),
        (lambda kit, run: kit.store.fail(run.id, run.token, REFUSED), {"reserved": 0}),
    ],
)
def test_a_charge_and_a_refund_go_to_both(kit, end, used):
    run = kit.running(allowed=THREE)

    end(kit, run)

    assert (kit.use("a"), kit.use(KEY)) == (used, used)
    assert violations(kit.redis, [run.id]) == []


def test_what_is_given_back_can_be_drawn_again(kit):
    ids = [kit.queued(allowed=THREE) for _ in range(3)]
    kit.store.cancel(ids[0])

    assert kit.queued(allowed=THREE)
    with pytest.raises(QuotaExceeded):
        kit.queued(allowed=THREE)


def test_a_key_shares_its_tenants_finished_picture_for_nothing(kit):
    kit.succeeded(fingerprint="f")

    shared = kit.submit(fingerprint="f", allowed=THREE)

    assert shared.state is JobState.SUCCEEDED
    assert (kit.use(KEY), kit.use("a")) == (
        {"reserved": 0, "used": 0, "hits": 1},
        {"reserved": 0, "used": 1, "hits": 1},
    )


def test_a_call_of_more_than_the_keys_day_is_refused_for_good(kit):
    with pytest.raises(ExceedsLimits, match="this key may draw 3 a day") as refusal:
        kit.store.submit_many([make_job() for _ in range(4)], THREE)

    assert refusal.value.most == 3


def test_a_replay_costs_a_key_nothing(kit):
    allowed = replace(GENEROUS, key=KeyLimits(id="k1", daily_units=1))
    job = make_job()
    kit.store.submit(job, allowed)

    assert kit.store.submit(job, allowed).replayed
    assert kit.use(KEY) == {"reserved": 1}


def test_a_key_has_a_burst_of_its_own(kit):
    slow = limits(burst_per_second=0.01, burst=10)
    with_key = replace(slow, key=KeyLimits(id="k1", burst=2))
    for _ in range(2):
        kit.queued(allowed=with_key)

    with pytest.raises(RateLimited) as refusal:
        kit.queued(allowed=with_key)

    assert 90 < refusal.value.retry_after_seconds <= 100
    assert kit.queued(allowed=slow)
    assert kit.queued(allowed=replace(slow, key=KeyLimits(id="k2", burst=2)))


def test_a_keys_burst_holds_where_its_tenant_has_none_and_comes_back_within_a_second(kit):
    allowed = limits(burst_per_second=0.0, key=KeyLimits(id="k1", burst=2))
    before = now_ms(kit)
    kit.store.submit_many([make_job(), make_job()], allowed)
    free_again = float(kit.redis.get(f"{PREFIX}gcra:{KEY}"))
    kit.redis.set(f"{PREFIX}gcra:{KEY}", free_again + 60_000)  # as if that were just now, however slow the test

    with pytest.raises(RateLimited, match="More than 2 pictures a second"):
        kit.queued(allowed=allowed)

    assert int(before) + 1000 <= free_again <= now_ms(kit) + 1000  # the scripts count whole milliseconds
    assert kit.store.usage("a", allowed).burst_remaining == 0
    assert kit.queued(allowed=replace(allowed, key=None)), "its tenant still has no such limit"
    jump(kit, 62_000)
    assert kit.queued(allowed=allowed)


def test_a_key_whose_tenant_has_no_burst_and_that_has_none_itself_is_not_held_back(kit):
    allowed = limits(burst_per_second=0.0, key=KeyLimits(id="k1", daily_units=100))

    assert [kit.queued(allowed=allowed) for _ in range(5)]


def test_a_key_without_a_burst_of_its_own_has_its_tenants(kit):
    allowed = limits(burst_per_second=0.01, burst=3, key=KeyLimits(id="k1", daily_units=100))
    for _ in range(3):
        kit.queued(allowed=allowed)

    with pytest.raises(RateLimited):
        kit.queued(allowed=allowed)


def test_a_refused_call_takes_nothing_from_either_burst(kit):
    allowed = limits(burst_per_second=0.01, burst=1, key=KeyLimits(id="k1", burst=1))
    kit.queued(allowed=limits(burst_per_second=0.01, burst=1))

    with pytest.raises(RateLimited):
        kit.queued(allowed=allowed)

    assert not kit.redis.exists(f"{PREFIX}gcra:{KEY}")


def test_the_counters_of_a_key_go_as_those_of_its_tenant(kit):
    kit.queued(allowed=limits(burst_per_second=0.01, burst=9, key=KeyLimits(id="k1", daily_units=3, burst=9)))

    [use] = kit.redis.scan_iter(f"{PREFIX}use:{KEY}:*")
    assert 39 * 86_400 < kit.redis.ttl(use) <= 40 * 86_400
    assert 0 < kit.redis.pttl(f"{PREFIX}gcra:{KEY}") <= 200_000


@pytest.mark.parametrize(("key_daily", "tenant_daily", "told"), [(3, 10, (3, 2)), (30, 10, (10, 9))])
def test_what_is_told_is_the_tighter_of_the_two(kit, key_daily, tenant_daily, told):
    allowed = limits(daily_units=tenant_daily, key=KeyLimits(id="k1", daily_units=key_daily))
    job_id = kit.queued(allowed=allowed)

    for use in (kit.store.usage("a", allowed), kit.store.look([job_id], "a", allowed).use):
        assert (use.daily_limit, use.daily_remaining) == told


def test_the_tighter_burst_is_told_too(kit):
    slow = limits(burst_per_second=0.01, burst=10)
    allowed = replace(slow, key=KeyLimits(id="k1", burst=2))
    _, look = kit.store.submit_and_look([make_job()], allowed)

    assert (look.use.burst, look.use.burst_remaining) == (2, 1)
    for _ in range(9):
        kit.queued(allowed=slow)
    use = kit.store.usage("a", allowed)
    assert (use.burst, use.burst_remaining) == (10, 0)


def test_a_keys_burst_is_told_though_a_burst_without_a_rate_is_smaller(kit):
    allowed = limits(burst_per_second=0.0, burst=1, key=KeyLimits(id="k1", burst=2))

    use = kit.store.usage("a", allowed)

    assert (use.burst, use.burst_remaining) == (2, 2)


@pytest.mark.usefixtures("portions_of_three")
def test_a_long_list_is_reserved_whole_for_its_key(kit):
    jobs = rows(10)
    with pytest.raises(ExceedsLimits):
        kit.store.submit_many(jobs, THREE)
    allowed = replace(GENEROUS, key=KeyLimits(id="k1", daily_units=10))
    break_off(kit, jobs, allowed)
    assert kit.use(KEY) == {"reserved": 10}

    with pytest.raises(QuotaExceeded):
        kit.queued(allowed=allowed)
    kit.store.submit_many(jobs, allowed)

    assert (kit.use("a"), kit.use(KEY)) == ({"reserved": 10}, {"reserved": 10})
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
def test_what_a_list_kept_for_its_key_is_given_back_to_it(kit):
    jobs = rows(10)
    break_off(kit, jobs, replace(GENEROUS, key=KeyLimits(id="k1", daily_units=10)))
    kit.redis.zadd(f"{PREFIX}holds", {"b1": 1})

    kit.store.reap_holds()

    assert (kit.use("a"), kit.use(KEY)) == ({"reserved": 3}, {"reserved": 3})
    assert end_all(kit, jobs[:3]) == []


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_that_another_key_goes_on_with_draws_from_what_the_first_one_kept(kit):
    jobs = rows(10)
    break_off(kit, jobs, replace(GENEROUS, key=KeyLimits(id="k1", daily_units=10)))

    kit.store.submit_many(jobs, replace(GENEROUS, key=KeyLimits(id="k2", daily_units=10)))

    assert (kit.use("a"), kit.use(KEY)) == ({"reserved": 10}, {"reserved": 10})
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
def test_a_row_more_than_was_kept_counts_for_the_key_too(kit):
    """One of the list's rows was removed since."""
    jobs = rows(10)
    allowed = replace(GENEROUS, key=KeyLimits(id="k1", daily_units=10))
    break_off(kit, jobs, allowed)
    kit.redis.hset(f"{PREFIX}hold:b1", "units", 5)
    for owner in ("a", KEY):
        kit.redis.hincrby(next(kit.redis.scan_iter(f"{PREFIX}use:{owner}:*")), "reserved", -2)

    kit.store.submit_many(jobs, allowed)

    assert (kit.use("a"), kit.use(KEY)) == ({"reserved": 10}, {"reserved": 10})
    assert end_all(kit, jobs) == []


def test_the_audit_covers_what_keys_used(kit):
    auditor = Auditor(kit.store, pause_seconds=0.0)
    kit.succeeded(allowed=THREE)
    kit.queued(allowed=THREE)
    assert auditor.audit().is_clean
    [use] = kit.redis.scan_iter(f"{PREFIX}use:{KEY}:*")
    kit.redis.hincrby(use, "used", 1)
    kit.redis.hincrby(use, "reserved", -1)

    report = auditor.audit(repair=True)

    assert {(owner, kind): units for (owner, _, kind), units in report.usage.items()} == {
        (KEY, "used"): 1,
        (KEY, "reserved"): -1,
    }
    assert auditor.audit().is_clean
    assert kit.use(KEY) == {"reserved": 1, "used": 1}


@pytest.mark.usefixtures("portions_of_three")
def test_the_audit_knows_what_lists_keep_for_a_key(kit):
    break_off(kit, rows(10), replace(GENEROUS, key=KeyLimits(id="k1", daily_units=10)))

    assert Auditor(kit.store, pause_seconds=0.0).audit().is_clean


def test_a_keys_burst_comes_back_in_the_present_time_where_the_clock_was_set_back(kit):
    slow = limits(burst_per_second=1.0, burst=50)
    allowed = replace(slow, key=KeyLimits(id="k1", burst=5))
    for _ in range(5):
        kit.queued(allowed=allowed)
    jump(kit, -HOUR_MS)
    kit.queued(allowed=slow)  # puts what its tenant used right, not what the key did

    assert 3 < kit.store.usage("a", allowed).burst_reset_seconds <= 5
    with pytest.raises(RateLimited) as refusal:
        kit.queued(allowed=allowed)

    assert refusal.value.retry_after_seconds <= 2
    assert 39 * 86_400 < kit.redis.ttl(f"{PREFIX}lim:{KEY}") <= 40 * 86_400
