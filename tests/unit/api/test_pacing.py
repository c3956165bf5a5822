"""How fast one address is served, whom a proxy speaks for, and who may try keys."""

import pytest

from api.failed_keys import FAILURES_A_MINUTE, FailedKeys
from api.pacing import ADDRESSES_KEPT, Pacer, TrustedProxies, group_of
from core.errors import RateLimited


@pytest.fixture
def pacer():
    return Pacer(per_second=10, burst=3, connections=2)


def test_a_burst_passes_and_what_comes_after_it_waits_its_turn(pacer):
    waits = [pacer.wait_seconds("a", 100.0) for _ in range(6)]

    assert waits == pytest.approx([0, 0, 0, 0, 0.1, 0.2])


def test_a_flood_does_not_slow_others(pacer):
    for _ in range(1_000):
        pacer.wait_seconds("hostile", 100.0)

    assert pacer.wait_seconds("polite", 100.0) == 0


def test_a_wrong_key_costs_as_much_as_ten_requests(pacer):
    pacer.wait_seconds("a", 100.0)
    pacer.strike("a", 100.0)

    assert pacer.wait_seconds("a", 100.0) == pytest.approx(0.1 * (1 + 9 - 3))
    assert pacer.wait_seconds("b", 100.0) == 0


def test_a_rest_earns_the_burst_again_and_no_more(pacer):
    for _ in range(10):
        pacer.wait_seconds("a", 100.0)

    assert [pacer.wait_seconds("a", 1_000.0) for _ in range(5)][3:] == pytest.approx([0, 0.1])


def test_connections_are_counted_and_given_back(pacer):
    opened = [pacer.opens("a") for _ in range(3)]
    pacer.closed("a")

    assert opened == [True, True, False]
    assert pacer.opens("a")
    assert pacer.opens("b")


def test_memory_is_bounded_however_many_addresses_come(pacer):
    for number in range(ADDRESSES_KEPT + 500):
        pacer.wait_seconds(str(number), 100.0)

    assert len(pacer._due) == ADDRESSES_KEPT


def test_a_rate_of_zero_limits_nothing():
    free = Pacer(per_second=0, burst=1, connections=1)

    assert [free.wait_seconds("a", 1.0) for _ in range(9)] == [0] * 9
    assert all(free.opens("a") for _ in range(9))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_an_ipv6_customer_is_counted_as_one(one, other, is_same):
    assert (group_of(one) == group_of(other)) is is_same


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # not a proxy of ours: what it says is not believed
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),  # what the client itself wrote comes first
        ("127.0.0.1", "203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "203.0.113.9", "203.0.113.9"),
    ],
)
def test_who_asks_is_the_nearest_address_that_is_no_proxy(peer, forwarded, client):
    assert TrustedProxies(("127.0.0.1", "10.0.0.0/8")).client(peer, forwarded) == client


def passes(doors, address, key):
    try:
        doors.check(address, key)
    except RateLimited:
        return False
    return True


def test_after_too_many_wrong_keys_an_address_is_not_asked_any_more_and_others_are():
    doors = FailedKeys()
    for _ in range(FAILURES_A_MINUTE):
        doors.check("hostile", "guess")
        doors.failed("hostile")

    with pytest.raises(RateLimited) as refused:
        doors.check("hostile", "guess")
    assert 0 < refused.value.retry_after_seconds <= 61
    assert passes(doors, "polite", "guess")


def test_a_key_that_was_good_here_passes_beside_a_hostile_neighbour():
    doors = FailedKeys()
    doors.succeeded("good")
    for _ in range(FAILURES_A_MINUTE):
        doors.failed("shared")

    assert passes(doors, "shared", "good")
    assert not passes(doors, "shared", "guess")


def test_a_key_that_was_good_and_is_so_no_more_passes_no_longer():
    """Revoked: whoever goes on sending it is counted like one who guesses."""
    doors = FailedKeys()
    doors.succeeded("revoked")
    for _ in range(FAILURES_A_MINUTE):
        doors.check("hostile", "revoked")
        doors.failed("hostile", "revoked")

    assert not passes(doors, "hostile", "revoked")
