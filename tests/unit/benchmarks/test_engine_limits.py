"""How far a figure is from its limits: whichever of copies and arithmetic is longer counts."""

from __future__ import annotations

import pytest

from benchmarks.engine_forecast import BLOCK_OPERATIONS, DENOISE_BLOCKS
from benchmarks.engine_limits import distance, operations


def test_a_forward_more_is_the_denoisers_operations_more() -> None:
    assert operations(5) - operations(4) == pytest.approx(DENOISE_BLOCKS * BLOCK_OPERATIONS)
    assert operations(4) == pytest.approx(239e12, rel=0.02)


def test_the_longer_of_copies_and_arithmetic_is_the_limit() -> None:
    by_bus = distance(0.6, 4, 25e9, 50e9, 1e15)
    assert (by_bus["bound"], by_bus["copies_s"], by_bus["times_limit"]) == ("bus", 0.5, 1.2)
    by_arithmetic = distance(0.6, 4, 5e9, 50e9, operations(4) / 0.4)
    assert (by_arithmetic["bound"], by_arithmetic["arithmetic_s"], by_arithmetic["times_limit"]) == (
        "arithmetic",
        0.4,
        1.5,
    )
