"""Seeded lives with everything that is done beside drawing, on a real Valkey: expiry, removal, lists, letters, caps."""

import pytest

from core.job import JobState
from tests.integration.queue.test_model import quick_valkey  # noqa: F401 - a fixture
from tests.queue_upkeep import Upkeep

SEEDS, SOAK_SEEDS = range(3), range(3000, 3100)


@pytest.fixture
def short_lists(monkeypatch):
    """A list of more than five rows comes in several calls."""
    monkeypatch.setattr("core.long_list.ROWS_AT_ONCE", 5)


@pytest.mark.usefixtures("short_lists")
@pytest.mark.parametrize("seed", SEEDS)
def test_no_record_shows_an_object_that_is_gone_and_nothing_stays_for_ever(quick_valkey, seed):  # noqa: F811
    assert Upkeep(quick_valkey, seed, jobs=60).run() == []


@pytest.mark.slow
@pytest.mark.usefixtures("short_lists")
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_no_record_shows_an_object_that_is_gone_in_many_lives(quick_valkey, seed):  # noqa: F811
    assert Upkeep(quick_valkey, seed, jobs=120).run() == []


@pytest.mark.usefixtures("short_lists")
def test_such_a_life_meets_everything(quick_valkey):  # noqa: F811
    life = Upkeep(quick_valkey, 3, jobs=80)
    life.run()

    met = {"removed", "pictures expired", "records expired", "trash expired", "lease ran out", "replayed", "died"}
    assert met <= set(life.counts)
    assert life.removed
    assert {JobState.SUCCEEDED.value, JobState.DEAD.value} <= set(life.store.depth().outcomes)
