"""The simulated engine: it agrees with what was measured, and with what must hold."""

from __future__ import annotations

import pytest

from benchmarks.engine_simulation import Arrangement, Machine, simulate

RUN_5 = Arrangement(residents=11, yielding=5)


@pytest.mark.parametrize(
    ("in_flight", "forwards", "seconds"), [(1, 4, 0.626), (1, 8, 1.096), (4, 4, 0.505), (4, 8, 0.929)]
)
def test_it_gives_what_run_5_measured(in_flight: int, forwards: int, seconds: float) -> None:
    assert simulate(RUN_5, in_flight, forwards).seconds == pytest.approx(seconds, rel=0.03)


def test_with_everything_resident_it_gives_what_was_measured() -> None:
    all_there = Arrangement(residents=34, yielding=0)
    assert simulate(all_there, 4, 4, Machine(compute=(0.8, 3.0))).images_per_s == pytest.approx(2.14, rel=0.03)


def test_a_head_and_a_yielding_resident_less_save_their_copies() -> None:
    better = simulate(Arrangement(residents=11, yielding=4, head=0.37), 1, 4).seconds
    scratch = simulate(Arrangement(residents=11, yielding=4), 1, 4).seconds
    assert simulate(RUN_5, 1, 4).seconds - scratch == pytest.approx(0.0054, abs=0.002)
    assert scratch - better == pytest.approx(4 * 0.37 * 0.0054, abs=0.002)


def test_the_bus_is_never_busier_than_always() -> None:
    for residents in (0, 8, 20):
        for in_flight in (1, 3):
            arrangement = Arrangement(residents=residents, yielding=min(residents, 2))
            assert 0 < simulate(arrangement, in_flight, 4, pictures=12).bus <= 1
