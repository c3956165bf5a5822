"""A key in place of another: its end, and what becomes of a new key whose showing was lost."""

import pytest

from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.tenants import Tenants, hash_key


@pytest.fixture
def tenants(fake_redis):
    return Tenants(fake_redis, Settings(tenant_daily_units=7))


def is_open(tenants, key):
    return tenants.find(hash_key(key)) is not None


def test_after_a_lost_answer_the_new_key_lives_as_long_as_the_old_one_did_and_the_unseen_one_is_closed(tenants):
    _, old = tenants.create_key("shop")
    _, lost = tenants.rotate_key(old.id, overlap_seconds=3600)

    key, fresh = tenants.rotate_key(old.id, overlap_seconds=86_400)

    assert fresh.expires_ms == 0
    assert is_open(tenants, key)
    assert tenants.key(lost.id).revoked_ms > 0


def test_however_often_a_key_is_replaced_its_own_end_is_kept(tenants):
    ends_ms = tenants.now_ms() + 7_200_000
    _, old = tenants.create_key("shop", expires_ms=ends_ms)

    made = [tenants.rotate_key(old.id, overlap_seconds=60)[1] for _ in range(3)]

    assert [one.expires_ms for one in made] == [ends_ms] * 3
    assert [tenants.key(one.id).revoked_ms > 0 for one in made] == [True, True, False]
    assert tenants.key(old.id).expires_ms < ends_ms


def test_an_overlap_that_was_promised_is_not_lengthened_by_another(tenants):
    _, old = tenants.create_key("shop")
    tenants.rotate_key(old.id, overlap_seconds=60)
    ends_ms = tenants.key(old.id).expires_ms

    tenants.rotate_key(old.id, overlap_seconds=86_400)

    assert tenants.key(old.id).expires_ms == ends_ms


def use(tenants, fake_redis, key):
    assert is_open(tenants, key)


def wait_an_hour(tenants, fake_redis, key):
    made = fake_redis.hget(f"{PREFIX}key:{hash_key(key)}", "created_ms")
    fake_redis.hset(f"{PREFIX}key:{hash_key(key)}", "created_ms", int(made) - 3_600_000)


@pytest.mark.parametrize("meanwhile", [use, wait_an_hour])
def test_a_key_that_somebody_may_have_stays_open_beside_the_next(tenants, fake_redis, meanwhile):
    _, old = tenants.create_key("shop")
    first, _ = tenants.rotate_key(old.id, overlap_seconds=7200)
    meanwhile(tenants, fake_redis, first)

    second, shown = tenants.rotate_key(old.id, overlap_seconds=7200)

    assert is_open(tenants, first)
    assert is_open(tenants, second)
    assert shown.expires_ms == 0


def test_an_operator_whose_answer_was_lost_gets_another_key_though_the_old_one_is_closed(tenants):
    old_key, old = tenants.create_key("shop", label="till")
    lost, _ = tenants.rotate_key(old.id)

    key, fresh = tenants.rotate_key(old.id, by_operator=True)

    assert (fresh.label, fresh.expires_ms) == ("till", 0)
    assert [is_open(tenants, one) for one in (old_key, lost, key)] == [False, False, True]


def revoke(tenants, fake_redis, key):
    tenants.revoke_key(hash_key(key))


@pytest.mark.parametrize("meanwhile", [use, wait_an_hour, revoke])
def test_a_closed_key_is_replaced_again_by_nobody_once_its_successor_was_seen(tenants, fake_redis, meanwhile):
    _, old = tenants.create_key("shop")
    first, _ = tenants.rotate_key(old.id)
    meanwhile(tenants, fake_redis, first)

    assert tenants.rotate_key(old.id, by_operator=True) is None


def test_a_closed_key_does_not_replace_itself_again(tenants):
    """Else who stole it would take over the new key of an owner who replaced it for that."""
    _, old = tenants.create_key("shop")
    first, _ = tenants.rotate_key(old.id)

    assert tenants.rotate_key(old.id) is None
    assert is_open(tenants, first)


def test_a_revoked_key_is_replaced_by_nobody_though_a_new_one_was_never_seen(tenants):
    _, old = tenants.create_key("shop")
    tenants.rotate_key(old.id, overlap_seconds=3600)
    tenants.revoke_key(old.id)

    assert tenants.rotate_key(old.id, by_operator=True) is None


def test_a_key_whose_own_end_is_over_is_replaced_by_nobody(tenants, fake_redis):
    _, old = tenants.create_key("shop", expires_ms=tenants.now_ms() + 60_000)
    _, fresh = tenants.rotate_key(old.id)
    for one in (old.id, fresh.id):
        fake_redis.hset(f"{PREFIX}key:{one}", "expires_ms", "1")

    assert tenants.rotate_key(old.id, by_operator=True) is None
