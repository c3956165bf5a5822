"""Invites: each use makes one account, atomically."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import Forbidden, InvalidRequest
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.invites import Invites
from scheduler.tenants import Tenants, hash_key


@pytest.fixture
def tenants(fake_redis):
    return Tenants(fake_redis, Settings(tenant_daily_units=7))


@pytest.fixture
def invites(fake_redis):
    return Invites(fake_redis)


def test_a_code_makes_a_tenant_with_a_key_and_the_invites_own_limit(invites, tenants):
    code, made = invites.create(daily_units=40)

    key, _ = invites.take(code, "ada")

    tenant = tenants.find(hash_key(key))
    assert (tenant.name, tenant.limits.daily_units) == ("ada", 40)
    assert invites.list_invites()[0].left == made.uses - 1


def test_a_code_is_nowhere_in_redis(invites, fake_redis):
    code, _ = invites.create()

    assert code not in str([fake_redis.hgetall(one) for one in fake_redis.scan_iter(f"{PREFIX}invite:*")])


def test_a_code_for_three_makes_three_accounts_however_many_ask_at_once(invites, tenants):
    code, _ = invites.create(uses=3)

    def take(number):
        try:
            return invites.take(code, f"friend-{number}")[0]
        except Forbidden:
            return None

    with ThreadPoolExecutor(8) as pool:
        keys = [key for key in pool.map(take, range(12)) if key]

    assert len(keys) == 3
    assert len(tenants.list_keys()) == 3
    assert invites.list_invites()[0].left == 0


@pytest.mark.parametrize(("more", "words"), [({"expires_ms": 1}, "expired"), ({"uses": 0}, "used up")])
def test_a_code_that_is_over_makes_nothing_and_says_why(invites, tenants, more, words):
    code, _ = invites.create(**more)

    with pytest.raises(Forbidden, match=words):
        invites.take(code, "ada")
    assert tenants.list_keys() == []


def test_a_withdrawn_code_is_unknown(invites):
    code, made = invites.create()

    assert invites.withdraw(made.id)
    assert not invites.withdraw(made.id)
    with pytest.raises(Forbidden, match="not known"):
        invites.take(code, "ada")


@pytest.mark.parametrize("name", ["shop", "admin", "local"])
def test_nobody_signs_up_as_somebody_who_is_there(invites, tenants, name):
    tenants.create_key("shop")
    code, _ = invites.create()

    with pytest.raises(InvalidRequest, match="taken"):
        invites.take(code, name)
    assert invites.list_invites()[0].left == 1


def test_the_same_call_again_uses_nothing_up(invites, tenants):
    code, _ = invites.create(uses=2)
    calls = []
    run = invites._scripts.run
    invites._scripts.run = lambda *call: (calls.append(call), run(*call), run(*call))[2]

    key, _ = invites.take(code, "ada")

    assert len(calls) == 1
    assert tenants.find(hash_key(key)).name == "ada"
    assert invites.list_invites()[0].left == 1


def test_who_lost_the_answer_gets_another_key_in_place_of_the_one_that_nobody_saw(invites, tenants):
    code, _ = invites.create(uses=1)
    lost, _ = invites.take(code, "ada")

    key, _ = invites.take(code, "ada")

    assert tenants.find(hash_key(lost)) is None
    assert tenants.find(hash_key(key)).name == "ada"
    assert invites.list_invites()[0].left == 0


def use(tenants, fake_redis, key):
    tenants.find(hash_key(key))


def revoke(tenants, fake_redis, key):
    tenants.revoke_key(hash_key(key))


def wait_an_hour(tenants, fake_redis, key):
    made = fake_redis.hget(f"{PREFIX}key:{hash_key(key)}", "created_ms")
    fake_redis.hset(f"{PREFIX}key:{hash_key(key)}", "created_ms", int(made) - 3_600_000)


@pytest.mark.parametrize("meanwhile", [use, revoke, wait_an_hour])
def test_a_key_that_somebody_may_have_is_not_replaced_by_a_second_sign_up(invites, tenants, fake_redis, meanwhile):
    code, _ = invites.create(uses=2)
    key, _ = invites.take(code, "ada")
    meanwhile(tenants, fake_redis, key)

    with pytest.raises(InvalidRequest, match="taken"):
        invites.take(code, "ada")
    assert invites.list_invites()[0].left == 1


def test_another_invite_does_not_replace_a_key(invites):
    first, second = invites.create()[0], invites.create()[0]
    invites.take(first, "ada")

    with pytest.raises(InvalidRequest, match="taken"):
        invites.take(second, "ada")


def ask(invites, code, tenant, key="k1"):
    """The script's answer, past every check in Python."""
    return invites._scripts.run("take_invite", hash_key(code), tenant, key, 1, 0, "tenant", tenant)


def test_a_late_repetition_of_the_same_call_is_answered_alike(invites):
    code, _ = invites.create()

    assert [ask(invites, code, "ada"), ask(invites, code, "ada")] == ["ok", "ok"]


def test_one_invite_does_not_answer_for_a_key_of_another(invites):
    first, second = invites.create()[0], invites.create()[0]
    assert ask(invites, first, "ada") == "ok"

    assert ask(invites, second, "ada") == "taken"


@pytest.mark.parametrize("sign", ["tenant:", "lim:"])
def test_a_name_with_a_record_or_with_jobs_is_taken(invites, fake_redis, sign):
    fake_redis.hset(f"{PREFIX}{sign}old", mapping={"weight": 1})
    code, _ = invites.create()

    assert ask(invites, code, "old") == "taken"


def test_a_code_whose_record_is_gone_makes_nothing(invites, tenants):
    assert ask(invites, "never-made", "ada") == "unknown"
    assert tenants.list_keys() == []
