"""What a refusal names is enough, wherever it comes from; and what was in place is planned for as it is carried."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB, Card, draws, open_engine_fixture  # noqa: F401 - the fixture
from tests.unit.offload.conftest import family_pipeline
from worker.offload import ImpossibleBudget, allowance, planning
from worker.offload.carousel import Options
from worker.offload.engine import Engine
from worker.offload.marks import Mark
from worker.offload.ticket import Order, Ticket


def refused(open_engine: Callable[..., Engine], budget: int, *more: Any) -> int:
    """The least bytes that the refusal of a start names."""
    with pytest.raises(ImpossibleBudget) as refusal:
        open_engine(budget, *more)
    return refusal.value.least_bytes


@pytest.mark.parametrize("decode", ["auto", "strips"])
@pytest.mark.parametrize("waiting", [0, 30 * KIB])
@pytest.mark.parametrize("unplanned", [0, 60 * KIB, 300 * KIB])
def test_every_refusal_names_the_same_least_budget_and_a_start_with_it_draws(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, unplanned: int, waiting: int, decode: str
) -> None:
    monkeypatch.setattr(allowance, "GROWTH", 40 * KIB)
    monkeypatch.setattr(planning, "NO_FACTS", dataclasses.replace(planning.NO_FACTS, waiting=waiting))
    more = (lambda: unplanned, dataclasses.replace(CARRIED, decode=decode))
    least = refused(open_engine, 100 * KIB, *more)
    slack = 4 * KIB  # spare added, and rounding
    for budget in (220 * KIB, 310 * KIB, least - 20 * KIB, least - slack):
        assert abs(refused(open_engine, budget, *more) - least) <= slack, budget // KIB
    engine = open_engine(least, *more)
    assert engine.report()["process_bytes"] + 40 * KIB <= least
    image = engine.enter(Ticket(Order(prompt="a mug", height=64, width=64, seed=3, steps=2))).result(60)
    assert image.size == (64, 64)


class GappyCard(Card):
    """One whose allocator holds 50 KiB of gaps as soon as somebody rides."""

    def fetch(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        self._unplanned = lambda: 50 * KIB
        return super().fetch(target, source, after)


@pytest.mark.parametrize("below", [0, 8 * KIB])
def test_what_a_refusal_before_any_ride_names_has_room_for_the_gaps_that_a_ride_leaves(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, below: int
) -> None:
    monkeypatch.setattr(allowance, "GAPS", 60 * KIB)
    budget = refused(open_engine, 100 * KIB, lambda: 0) - below
    engine = Engine(family_pipeline("z-image"), budget, GappyCard(lambda: 0), CARRIED)
    engine.start()
    try:
        assert draws(engine)
        assert engine.plan.least_budget <= budget, "it has just been had"
    finally:
        engine.stop(60)


class CachingCard(Card):
    """One whose allocator keeps 300 KiB more than what is alive."""

    CACHED = 300 * KIB

    def process_bytes(self) -> int:
        return super().process_bytes() + self.CACHED

    def reserved_bytes(self) -> int:
        return self.process_bytes() - self._unplanned()

    def allocated_bytes(self) -> int:
        return self.reserved_bytes() - self.CACHED


def test_a_further_budget_that_is_refused_is_told_the_same_least_whatever_the_allocator_has_cached(
    open_engine: Callable[..., Engine],
) -> None:
    least = refused(open_engine, 100 * KIB, lambda: 60 * KIB)
    engine = Engine(family_pipeline("z-image"), 1200 * KIB, CachingCard(lambda: 60 * KIB), CARRIED)
    engine.start()
    try:
        with pytest.raises(ImpossibleBudget) as refusal:
            engine.rebudget(100 * KIB, 60)
        assert abs(refusal.value.least_bytes - least) <= 4 * KIB
        assert draws(engine)
    finally:
        engine.stop(60)


def test_after_everything_lay_in_place_a_smaller_budget_is_planned_as_at_a_start_with_it(
    open_engine: Callable[..., Engine],
) -> None:
    options = Options(device="cpu", packing=True)
    first = open_engine(500 * KIB, lambda: 0, options)
    first.stop(60)
    engine = open_engine(1 << 30, lambda: 0, options)
    assert engine.plan.in_place
    engine.rebudget(500 * KIB, 60)
    told, wanted = engine.plan, first.plan
    assert (told.residents, told.slot_bytes, told.sweep_bytes) == (
        wanted.residents, wanted.slot_bytes, wanted.sweep_bytes,
    )  # fmt: skip
    assert draws(engine)


def test_a_start_that_turns_out_too_large_for_everything_in_place_carries_packed_weights_as_planned(
    open_engine: Callable[..., Engine],
) -> None:
    options = Options(device="cpu", packing=True)
    first = open_engine(500 * KIB, lambda: 0, options)
    first.stop(60)
    opened: list[Engine] = []
    budget = 1700 * KIB

    def unplanned() -> int:
        return budget + 1100 * KIB if opened and opened[0].plan.in_place else 0

    engine = Engine(family_pipeline("z-image"), budget, Card(unplanned), options)
    opened.append(engine)
    engine.start()
    try:
        assert not engine.plan.in_place
        assert engine.plan.slot_bytes == first.plan.slot_bytes, "the largest block, packed"
        assert draws(engine)
    finally:
        engine.stop(60)


def test_a_further_budget_after_one_in_which_everything_lay_in_place_is_told_about_the_same_least(
    open_engine: Callable[..., Engine],
) -> None:
    options = Options(device="cpu", packing=True)
    least = refused(open_engine, 100 * KIB, lambda: 60 * KIB, options)
    opened: list[Engine] = []

    def unplanned() -> int:
        """What lies in place counts too: a CPU's stand-in for a card sees only what is copied."""
        in_place = bool(opened) and bool(opened[0].plan.in_place)
        return 60 * KIB + (opened[0].plan.resident_bytes if in_place else 0)

    engine = open_engine(1 << 30, unplanned, options)
    opened.append(engine)
    assert engine.plan.in_place
    with pytest.raises(ImpossibleBudget) as refusal:
        engine.rebudget(100 * KIB, 60)
    unpacked = 2 * 30 * KIB  # slots have room for blocks that are not packed yet
    assert least <= refusal.value.least_bytes <= least + unpacked


def test_a_plan_tells_the_least_budget_that_a_refusal_would_name(open_engine: Callable[..., Engine]) -> None:
    least = refused(open_engine, 100 * KIB, lambda: 60 * KIB)
    assert abs(open_engine(500 * KIB, lambda: 60 * KIB).plan.least_budget - least) <= 4 * KIB
