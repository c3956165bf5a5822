"""Budgets that are tried and given up, memory that never comes, and what may not be believed afterwards."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB, Card, draws, open_engine_fixture  # noqa: F401 - the fixture
from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from tests.unit.offload.house_kit import LimitedCard
from worker.offload import Carousel, CarouselEnded, TicketCanceled
from worker.offload.blocks import Block
from worker.offload.carousel import Options
from worker.offload.engine import Engine
from worker.offload.host_weights import HostWeights
from worker.offload.kernel_check import PackingChoice
from worker.offload.rider import Rider
from worker.offload.text import PromptCache
from worker.offload.ticket import Order, Ticket
from worker.offload.warm_up import WarmUp
from worker.offload.weights import Weights

GIB = 1 << 30
IN_PLACE = Options(device="cpu", packing=True)
WARM = {"compile": "on", "compile_backend": "eager", "warm_up": ((64, 64),), "captions": (64,)}


def fail(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception, *numbers: int) -> None:
    """Let those calls of a method (the first is 1) end in `error`."""
    usual, calls = getattr(owner, name), 0

    def call(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in numbers:
            raise error
        return usual(*given)

    monkeypatch.setattr(owner, name, call)


def short() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory (planted)")


def mug(**more: Any) -> Order:
    return Order(**{"prompt": "a mug", "height": 64, "width": 64, "seed": 3, "steps": 2, **more})


def test_memory_that_runs_out_while_what_lay_in_place_is_packed_leaves_it_there(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(GIB, lambda: 0, IN_PLACE)
    assert engine.plan.in_place
    fail(monkeypatch, Block, "carry_form", short(), 7)

    with pytest.raises(torch.OutOfMemoryError):
        engine.rebudget(500 * KIB, 60)

    assert engine.plan.in_place
    assert draws(engine)
    engine.rebudget(500 * KIB, 60)
    assert not engine.plan.in_place
    assert draws(engine)


@pytest.mark.parametrize("step", ["measuring what pays", "marking the store"])
def test_whatever_goes_wrong_while_what_lay_in_place_is_packed_leaves_it_there(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    engine = open_engine(GIB, lambda: 0, IN_PLACE)
    owner, name = {"measuring what pays": (PackingChoice, "pays"), "marking the store": (HostWeights, "seal")}[step]
    fail(monkeypatch, owner, name, short(), 1)

    with pytest.raises(torch.OutOfMemoryError):
        engine.rebudget(500 * KIB, 60)

    assert draws(engine)
    engine.rebudget(500 * KIB, 60)
    assert not engine.plan.in_place
    assert draws(engine)


def test_after_any_error_of_a_trial_the_old_plan_and_its_limit_are_in_force(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(family_pipeline("z-image"), 500 * KIB, LimitedCard(lambda: 0), dataclasses.replace(CARRIED, **WARM))
    engine.start()
    try:
        device = engine._device
        assert isinstance(device, LimitedCard)
        before, limit = engine.plan, device.limits[-1]
        with monkeypatch.context() as patch:
            patch.setattr(WarmUp, "house", lambda *_: (_ for _ in ()).throw(ValueError("planted")))
            with pytest.raises(ValueError, match="planted"):
                engine.rebudget(900 * KIB, 60)
        assert engine.plan is before
        assert device.limits[-1] == limit is not None
        assert draws(engine)
    finally:
        engine.stop(60)


def test_where_not_even_the_old_plan_can_be_placed_the_carousel_ends_and_says_why(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    with monkeypatch.context() as patch:
        fail(patch, Weights, "_allocate", short(), 1, 2)
        with pytest.raises(RuntimeError, match="no plan can be placed any more"):
            engine.rebudget(450 * KIB, 60)
        engine.join(60)
    with pytest.raises(CarouselEnded, match=r"Unplaced.*planted"):
        engine.enter(Ticket(mug()))


def test_a_trial_that_runs_out_of_memory_costs_no_residents_later(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, **WARM, seats=1))
    before, usual, left = engine.plan, Rider.switch, [4]

    def switch(rider: Rider, *given: Any) -> Any:
        if rider.stop is None and left[0] and rider.passes_left == 1:
            left[0] -= 1
            return rider.throw(short())
        return usual(rider, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Rider, "switch", switch)
        with pytest.raises(torch.OutOfMemoryError):
            engine.rebudget(450 * KIB, 60)
    assert engine.plan is before

    engine.rebudget(500 * KIB, 60)
    assert engine.plan.residents == before.residents
    assert draws(engine)


def test_a_budget_in_which_everything_fits_draws_the_same_after_one_that_carried() -> None:
    wanted = plain_picture("z-image", "a mug", 3, 2, 64, 64, 0.0)
    with Carousel(family_pipeline("z-image"), 0.0005, device="cpu", packing=True, places=1, seats=3) as carousel:
        assert not carousel.plan.in_place
        carousel.rebudget(5.8)
        assert carousel.plan.in_place
        tickets = [
            carousel.submit(prompt="a mug", height=64, width=64, seed=3, steps=2, lane=lane)
            for lane in ("batch", "batch", "interactive")
        ]
        assert all(same(ticket.result(60), wanted) for ticket in tickets)
        assert carousel.report["parkings"] == 0, "everybody has room"


def test_memory_that_never_comes_between_rides_is_told_whoever_rides_and_the_engine_goes_on(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    with monkeypatch.context() as patch:
        fail(patch, Weights, "prepare", short(), *range(1, 10_000))
        with pytest.raises(torch.OutOfMemoryError):
            engine.enter(Ticket(mug())).result(60)
    assert draws(engine)


def test_a_start_for_which_memory_never_comes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, Weights, "prepare", short(), *range(1, 100_000))
    engine = Engine(family_pipeline("z-image"), 500 * KIB, Card(lambda: 0), dataclasses.replace(CARRIED, **WARM))
    with pytest.raises(torch.OutOfMemoryError):
        engine.start()


def test_a_refresh_forgets_what_a_spoilt_text_encoder_made_of_prompts(open_engine: Callable[..., Engine]) -> None:
    engine = open_engine(900 * KIB, lambda: 0, dataclasses.replace(CARRIED, seats=1))
    assert draws(engine)
    assert engine._placement is not None
    weights = engine._placement.weights
    assert weights is not None
    next(berth for block, berth in weights._berths.items() if block.name.startswith("text")).buffer.fill_(0xFF)
    spoilt = engine.enter(Ticket(mug(prompt="a jug")))
    spoilt.result(60)
    assert not spoilt.finite

    engine.refresh(60)

    clean = engine.enter(Ticket(mug(prompt="a jug", alone=True)))
    assert same(clean.result(60), plain_picture("z-image", "a jug", 3, 2, 64, 64, 0.0))
    assert clean.finite


def test_what_rode_during_a_refresh_is_not_remembered(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(900 * KIB, lambda: 0, dataclasses.replace(CARRIED, seats=1))
    usual, refreshes = PromptCache.put, [1]

    def put(cache: PromptCache, *given: Any) -> None:
        if refreshes:
            refreshes.pop()
            cache.forget()  # as a refresh does at that moment
        usual(cache, *given)

    monkeypatch.setattr(PromptCache, "put", put)
    hits = []
    for seed in range(3):
        engine.enter(Ticket(mug(seed=seed))).result(60)
        hits.append(engine.report()["prompt_cache_hits"])
    assert hits[1] == hits[0] == 0, "nothing of the first ride is believed"
    assert hits[2] > 0


@pytest.mark.parametrize("what", ["somebody rides alone", "a further budget waits"])
def test_who_is_cancelled_in_line_is_told_at_once(open_engine: Callable[..., Engine], what: str) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    begun, may_end = threading.Event(), threading.Event()

    def on_step(stage: str, *_: int) -> None:
        if stage == "denoise":
            begun.set()

    rider = engine.enter(Ticket(mug(steps=400, alone=what == "somebody rides alone"), on_step))
    assert begun.wait(60)
    asker = threading.Thread(target=lambda: (engine.rebudget(490 * KIB, 120), may_end.set()))
    if what == "a further budget waits":
        asker.start()
    ticket = engine.enter(Ticket(mug(seed=9)))
    ticket.cancel()
    with pytest.raises(TicketCanceled):
        ticket.result(60)
    assert not rider.done()
    rider.cancel()
    if asker.ident is not None:
        assert may_end.wait(60)
        asker.join(60)
