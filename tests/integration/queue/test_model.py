"""The model test on a real Valkey with its append-only file: what only a true server's Lua and numbers can show."""

import pytest

from tests.queue_model import Model

SEEDS, SOAK_SEEDS = range(20), range(2000, 2200)


@pytest.fixture
def quick_valkey(valkey):
    """Without waiting for the disk: nothing is killed here, and thousands of steps would wait for nothing."""
    valkey.config_set("appendfsync", "no")
    yield valkey
    valkey.config_set("appendfsync", "always")


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_settled_twice_on_a_real_server(quick_valkey, seed):
    assert Model(quick_valkey, seed, jobs=40).run() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_nothing_is_lost_or_settled_twice_in_many_lives_on_a_real_server(quick_valkey, seed):
    assert Model(quick_valkey, seed, jobs=150).run() == []
