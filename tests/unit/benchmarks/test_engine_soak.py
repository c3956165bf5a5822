"""The soak's tally: parts add up, and each fault is named."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine_soak import LEAST_SAMPLES, Tally, overdrawn


def test_parts_add_up_over_a_state_file(tmp_path: Path) -> None:
    first = Tally.load(tmp_path / "state.json")
    first.drawn, first.seconds, first.reserved = 2, {"64x64": [1.0, 1.0]}, [[5, 5]]
    first.save(tmp_path / "state.json")
    assert Tally.load(tmp_path / "state.json") == first


def test_a_good_run_has_no_faults() -> None:
    assert Tally(drawn=40, seconds={"64x64": [1.0] * 40}, reserved=[[7, 7], [9, 9]]).faults() == []


def test_black_pictures_errors_growing_memory_and_late_pictures_are_faults() -> None:
    late = [1.0] * LEAST_SAMPLES + [2.0] * 3
    tally = Tally(black=1, out_of_memory=2, failed=3, seconds={"64x64": late}, reserved=[[7, 8]])
    words = " | ".join(tally.faults())
    for part in ("1 black", "2 out of memory", "3 failed", "grew by 1 bytes", "64x64: p95 is 2.0 times"):
        assert part in words


def test_a_few_pictures_of_a_size_say_nothing_about_its_spread() -> None:
    assert Tally(seconds={"64x64": [1.0, 1.0, 3.0]}).faults() == []


def test_a_card_that_held_more_than_the_budget_for_a_moment_is_a_fault() -> None:
    assert overdrawn(5.8, 5.8) == overdrawn(0.0, 5.8) == []
    assert overdrawn(5.832, 5.8) == ["the card held 5.832 GiB, 0.032 over the budget"]
