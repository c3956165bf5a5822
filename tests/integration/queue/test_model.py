"""The model test on a real Valkey with its append-only file: what only a true server's Lua and numbers can show."""

import pytest

from core.job import JobState
from tests.queue_model import Model

SEEDS, SOAK_SEEDS = range(30), range(2000, 2200)


@pytest.fixture
def quick_valkey(valkey):
    """Without waiting for the disk: nothing is killed here, and thousands of steps would wait for nothing."""
    valkey.config_set("appendfsync", "no")
    yield valkey
    valkey.config_set("appendfsync", "always")


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_settled_twice_on_a_real_server(quick_valkey, seed):
    assert Model(quick_valkey, seed, jobs=60).run() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_nothing_is_lost_or_settled_twice_in_many_lives_on_a_real_server(quick_valkey, seed):
    assert Model(quick_valkey, seed, jobs=150).run() == []


def test_the_model_meets_every_kind_of_fault(quick_valkey):
    model = Model(quick_valkey, 8, jobs=150)
    model.run()

    faults = {"lost", "doubled", "void", "died", "fenced", "replayed", "lease ran out", "rel ran out", "retry ran out"}
    assert faults <= set(model.counts)
    assert {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELED} <= set(model.ended.values())
