"""Tenants and keys."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from core.errors import Forbidden, InvalidRequest
from core.job import Lane
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.quota import check_limits, default_limits
from scheduler.tenants import Tenants, hash_key
from tests.queue_kit import Kit


@pytest.fixture
def tenants(fake_redis):
    return Tenants(fake_redis, Settings(tenant_daily_units=7))


def test_a_key_opens_its_tenant(tenants):
    key, shown = tenants.create_key("shop")

    assert re.fullmatch(r"zimg_[A-Za-z0-9_-]{43}", key)
    assert tenants.find(hash_key(key)).name == "shop"
    assert (shown.id, shown.hint) == (hash_key(key), key[-4:])


def test_a_key_is_nowhere_in_redis(tenants, fake_redis):
    key, _ = tenants.create_key("shop", label="till")

    stored = [fake_redis.hgetall(one) for one in fake_redis.scan_iter(f"{PREFIX}key:*")]

    assert key not in str(stored)
    assert key[5:] not in str(stored)


def test_a_key_that_was_used_before_still_stops_at_once_and_follows_its_tenant(tenants):
    key, shown = tenants.create_key("shop")
    assert tenants.find(hash_key(key)).limits.daily_units == 7

    tenants.change("shop", {"daily_units": 3})
    changed = tenants.find(hash_key(key)).limits.daily_units
    tenants.ban("shop", "spam")
    with pytest.raises(Forbidden):
        tenants.find(hash_key(key))
    tenants.unban("shop")
    tenants.revoke_key(shown.id)

    assert (changed, tenants.find(hash_key(key))) == (3, None)


def test_requests_without_a_key_are_local_until_somebody_makes_a_key(tenants):
    tenants.change("local", {"daily_units": 3})
    before = tenants.local_without_keys()

    tenants.create_key("shop")

    assert (before, tenants.local_without_keys()) == (tenants.local(), None)


def test_an_unknown_key_opens_nothing(tenants):
    assert tenants.find(hash_key("zimg_no")) is None


def test_a_revoked_key_stops_with_the_next_request(tenants):
    key, shown = tenants.create_key("shop")

    assert tenants.revoke_key(shown.id[:12])

    assert tenants.find(hash_key(key)) is None
    assert tenants.list_keys()[0].revoked_ms > 0


def test_revoking_what_is_not_there_says_so(tenants):
    tenants.create_key("shop")

    assert not tenants.revoke_key("ffffffffffff")
    assert not tenants.revoke_key("")


def test_an_expired_key_opens_nothing(tenants):
    key, _ = tenants.create_key("shop", expires_ms=1)

    assert tenants.find(hash_key(key)) is None


def test_a_key_expires_by_the_clock_of_redis(tenants, fake_redis):
    seconds, _ = fake_redis.time()
    soon, _ = tenants.create_key("shop", expires_ms=(seconds + 60) * 1000)
    past, _ = tenants.create_key("shop", expires_ms=(seconds - 1) * 1000)

    assert tenants.find(hash_key(soon)).name == "shop"
    assert tenants.find(hash_key(past)) is None


def test_a_rotated_key_works_until_its_overlap_ends(tenants, fake_redis):
    old, shown = tenants.create_key("shop", label="till")

    new, made = tenants.rotate_key(shown.id, overlap_seconds=60)

    assert (tenants.find(hash_key(new)).name, made.label) == ("shop", "till")
    assert tenants.find(hash_key(old)) is not None
    fake_redis.hset(f"{PREFIX}key:{shown.id}", "expires_ms", "1")
    assert tenants.find(hash_key(old)) is None


def test_a_key_rotated_without_overlap_stops_at_once(tenants):
    old, shown = tenants.create_key("shop")

    tenants.rotate_key(shown.id)

    assert tenants.find(hash_key(old)) is None


def test_a_banned_tenant_is_told_why(tenants):
    key, _ = tenants.create_key("shop")
    tenants.save(replace(tenants.get("shop"), ban_reason="unpaid bill"))

    with pytest.raises(Forbidden, match="unpaid bill"):
        tenants.find(hash_key(key))


def test_a_tenants_own_limits_come_before_the_defaults(tenants):
    assert tenants.get("shop").limits.daily_units == 7
    own = replace(tenants.get("shop").limits, daily_units=9, weight=2.5)

    tenants.save(replace(tenants.get("shop"), limits=own, lanes=(Lane.BATCH,), preset="turbo-8"))

    stored = tenants.get("shop")
    assert (stored.limits, stored.lanes, stored.preset) == (own, (Lane.BATCH,), "turbo-8")
    assert tenants.get("other").limits.daily_units == 7


def test_a_new_weight_holds_for_jobs_that_wait_already(tenants, fake_redis):
    tenants.save(replace(tenants.get("shop"), limits=replace(tenants.get("shop").limits, weight=3.0)))

    assert fake_redis.hget(f"{PREFIX}lim:shop", "weight") == "3.0"


@pytest.mark.parametrize("name", ["", "A", "a|b", "a:b", "a b", "../x", "-a", "x" * 64])
def test_a_name_that_could_break_a_key_is_refused(tenants, name):
    with pytest.raises(InvalidRequest):
        tenants.create_key(name)


@pytest.mark.parametrize("more", [{"daily_units": -1}, {"weight": 0.0}, {"weight": 1e9}, {"burst": 0}])
def test_limits_that_can_not_work_are_refused(more):
    with pytest.raises(InvalidRequest) as refusal:
        check_limits(replace(default_limits(Settings()), **more))

    assert refusal.value.field == next(iter(more))


def test_keys_are_listed_oldest_first_and_by_tenant(tenants):
    _, first = tenants.create_key("shop")
    while tenants.now_ms() <= first.created_ms:
        """Two keys of one millisecond have no order."""
    tenants.create_key("other")

    assert [key.tenant for key in tenants.list_keys()] == [first.tenant, "other"]
    assert [key.id for key in tenants.list_keys("shop")] == [first.id]


def test_when_a_key_was_last_used_is_known_to_the_minute(tenants):
    key, _ = tenants.create_key("shop")

    tenants.find(hash_key(key))
    first = tenants.list_keys()[0].last_used_ms
    tenants.find(hash_key(key))

    assert first > 0
    assert tenants.list_keys()[0].last_used_ms == first


def test_the_first_admin_key_is_made_once_whoever_asks(tenants):
    with ThreadPoolExecutor(8) as pool:
        made = [key for key in pool.map(lambda _: tenants.first_admin_key(), range(8)) if key]

    assert len(made) == 1
    assert tenants.find(hash_key(made[0])).is_admin
    assert tenants.first_admin_key() is None


def test_a_key_exists_once_one_was_made(tenants):
    assert not tenants.any_key()
    tenants.create_key("shop")

    assert tenants.any_key()


def test_a_change_of_one_limit_leaves_the_others_on_their_defaults(tenants, fake_redis):
    tenants.change("shop", {"queued_jobs": 3}, lanes=[Lane.BATCH], preset="turbo-8")
    later = Tenants(fake_redis, Settings(tenant_daily_units=9)).get("shop")

    assert (later.limits.queued_jobs, later.limits.daily_units) == (3, 9)
    assert (later.lanes, later.preset) == ((Lane.BATCH,), "turbo-8")


def test_a_change_that_can_not_work_changes_nothing(tenants):
    with pytest.raises(InvalidRequest) as refused:
        tenants.change("shop", {"queued_jobs": 3, "weight": 0.0})

    assert refused.value.field == "weight"
    assert tenants.get("shop").limits.queued_jobs != 3


def test_a_banned_tenant_is_known_from_then_on(tenants):
    tenants.ban("shop", "spam")

    assert "shop" in tenants.names()


def test_a_ban_keeps_limits_and_ends(tenants):
    key, _ = tenants.create_key("shop")
    tenants.change("shop", {"queued_jobs": 3})
    tenants.ban("shop", "unpaid")
    with pytest.raises(Forbidden, match="unpaid"):
        tenants.find(hash_key(key))

    tenants.unban("shop")

    assert tenants.find(hash_key(key)).limits.queued_jobs == 3


@pytest.mark.parametrize("name", ["local", "admin"])
def test_the_operators_themselves_can_not_be_banned(tenants, name):
    with pytest.raises(InvalidRequest):
        tenants.ban(name, "by mistake")


def test_a_revoked_key_is_not_rotated_into_an_open_one(tenants):
    _, shown = tenants.create_key("shop")
    tenants.revoke_key(shown.id)

    assert tenants.rotate_key(shown.id) is None
    assert len(tenants.list_keys()) == 1


def test_rotation_never_makes_a_key_live_longer(tenants):
    ends_ms = 4_102_444_800_000
    _, shown = tenants.create_key("shop", expires_ms=ends_ms)

    _, fresh = tenants.rotate_key(shown.id, overlap_seconds=10**10)

    assert fresh.expires_ms == ends_ms
    assert tenants.key(shown.id).expires_ms == ends_ms


@pytest.mark.parametrize("way", ["change", "save"])
def test_jobs_that_a_cap_of_none_kept_back_are_released_once_the_cap_is_raised(tenants, fake_redis, way):
    """None of the tenant's jobs runs, so no end would bring its queues back into the race."""
    kit = Kit(fake_redis)
    stopped = tenants.change("a", {"running_jobs": 0})
    waiting = kit.queued(allowed=stopped.limits)
    assert kit.store.release(10) == []

    if way == "change":
        tenants.change("a", {"running_jobs": 3})
    else:
        tenants.save(replace(stopped, limits=replace(stopped.limits, running_jobs=3)))

    assert fake_redis.llen(f"{PREFIX}wake") == 1
    assert [one.job_id for one in kit.store.release(10)] == [waiting]
