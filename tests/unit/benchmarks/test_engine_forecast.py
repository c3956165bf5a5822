"""The computed curve: its limits, and what moves it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.engine_forecast import RTX_3090, RTX_4090, carried_blocks, fastest_seconds, forecast, on_half_a_bus
from worker.offload.plan import ImpossibleBudget


@pytest.mark.parametrize("card", [RTX_4090, RTX_3090])
def test_more_memory_is_never_slower_and_nothing_beats_the_peak(card) -> None:
    seconds = [forecast(card, budget, 0.8).seconds for budget in (3.0, 4.0, 5.8, 8.0, 12.0)]
    assert seconds == sorted(seconds, reverse=True)
    assert forecast(card, 12.0, 1.0).seconds > fastest_seconds(card)


def test_four_forwards_in_1_33_seconds_are_all_that_a_4090_can_do() -> None:
    assert fastest_seconds(RTX_4090) == pytest.approx(1.37, abs=0.05)
    assert forecast(RTX_4090, 5.8, 0.8).seconds > 1.6


def test_on_half_the_bus_the_copies_bind_where_little_stays() -> None:
    assert forecast(RTX_4090, 5.8, 0.8).bound == "computing"
    slow = forecast(replace(on_half_a_bus(RTX_4090), bus=8e9), 3.0, 0.8)
    assert slow.bound == "bus"
    assert slow.images_per_s * slow.seconds > 1, "company shares the copies"


def test_the_blocks_are_the_model_and_a_budget_below_the_least_is_refused() -> None:
    assert sum(block.raw for block in carried_blocks()) == pytest.approx(19.3e9, rel=0.01)
    with pytest.raises(ImpossibleBudget):
        forecast(RTX_3090, 1.5, 0.8)
