"""A start tells where its seconds went."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.offload.conftest import Studio
from worker.offload.stopwatch import Stopwatch


def test_parts_inside_parts_are_told_with_their_outer_ones_even_after_an_error() -> None:
    watch = Stopwatch()
    with pytest.raises(ValueError, match="no"), watch.part("outer"), watch.part("inner"):
        raise ValueError("no")
    with watch.part("inner"):
        pass
    assert list(watch.seconds) == ["outer", "outer: inner", "inner"]


def test_a_start_names_every_ride_and_what_is_no_ride(open_studio: Callable[..., Studio]) -> None:
    options = {"compile": "on", "compile_backend": "eager", "warm_up": ((64, 64), (64, 96)), "captions": (64,)}
    parts = open_studio(residents=1, ring_slots=2, packing=True, **options).carousel.report["start_seconds"]
    outer = [part for part in parts if ":" not in part]
    assert outer == [
        "device", "assembly", "weights", "gates", "first rides", "unnamed sizes", "settling",
    ]  # fmt: skip
    rides = ["first rides: 64 x 64, 64 tokens", "first rides: 64 x 96, 64 tokens", "unnamed sizes: one"]
    moved = {
        f"weights: {part}" for part in ("fixed parts", "kernel check", "host weights: store", "host weights: pack")
    }
    assert {*rides, *moved, "unnamed sizes: too long a prompt"} <= set(parts)
    assert sum(parts[part] for part in rides) <= sum(parts[part] for part in outer) + 0.05
