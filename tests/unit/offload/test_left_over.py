"""Nothing is left over: no rider that has ended, no ride of a plan that was given up, no half-written entry."""

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
from tests.unit.offload.test_trials import WARM, fail, mug, short
from worker.offload import allowance
from worker.offload.card_memory import UNBOOKED_GROWTH, Books
from worker.offload.device import Device
from worker.offload.engine import RETRIES, Engine
from worker.offload.errand import Errand
from worker.offload.herald import Herald
from worker.offload.placement import Placement
from worker.offload.plan import Facts
from worker.offload.rider import Rider
from worker.offload.ticket import Ticket
from worker.offload.warm_up import WarmUp
from worker.offload.weights import Weights

WARMED = dataclasses.replace(CARRIED, **WARM, seats=4)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: out of memory"), RuntimeError("a fault")])
def test_a_picture_that_can_not_land_leaves_no_rider(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    fail(monkeypatch, Device, "land", error, 1)
    ticket = engine.enter(Ticket(mug()))
    if "memory" in str(error):
        assert ticket.result(60).size == (64, 64), "it is tried again"
    else:
        with pytest.raises(RuntimeError, match="a fault"):
            ticket.result(60)
    assert engine.enter(Ticket(mug(alone=True))).result(60).size == (64, 64), "alone, once nobody rides"
    assert engine.in_flight == 0


def test_nobody_who_waits_in_line_shares_the_fate_of_a_plan_that_is_tried(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, usual = open_engine(500 * KIB, lambda: 0, WARMED), Rider.switch
    before, rides = engine.plan, threading.Event()

    def switch(rider: Rider, *given: Any) -> Any:
        """Whatever rides on the plan that is tried finds no room in its last step."""
        if rider.stop is None and rider.passes_left == 1 and engine._trial:
            return rider.throw(short())
        return usual(rider, *given)

    monkeypatch.setattr(Rider, "switch", switch)
    first = engine.enter(Ticket(mug(steps=400), lambda *_: rides.set()))
    assert rides.wait(60)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            engine.rebudget(450 * KIB, 60)
        except BaseException as error:
            errors.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    while not engine._quiet_errands:
        assert asker.is_alive()
    waiting = engine.enter(Ticket(mug()))
    first.cancel()

    assert same(waiting.result(60), plain_picture("z-image", "a mug", 3, 2, 64, 64, 0.0))
    asker.join(60)
    assert isinstance(errors[0], torch.OutOfMemoryError)
    assert (engine.plan, waiting.retries) == (before, 0)


@pytest.mark.parametrize("trouble", ["no memory", "a fault"])
def test_what_rode_on_a_plan_that_was_given_up_rides_no_further(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, WARMED)
    before, usual_switch, usual_allocate = engine.plan, Rider.switch, Weights._allocate
    lacks = [1]

    def switch(rider: Rider, *given: Any) -> Any:
        if lacks and rider.stop is None and rider.passes_left == 1:
            lacks.pop()
            return rider.throw(short())
        return usual_switch(rider, *given)

    def allocate(weights: Weights, *given: Any) -> Any:
        if engine._trial:
            raise short()
        return usual_allocate(weights, *given)

    with monkeypatch.context() as patch:
        if trouble == "no memory":
            patch.setattr(Rider, "switch", switch)
            patch.setattr(Weights, "_allocate", allocate)
        else:
            fail(patch, Weights, "prepare", ValueError("a fault"), 40)
        with pytest.raises((torch.OutOfMemoryError, ValueError)):
            engine.rebudget(450 * KIB, 60)
    assert (engine.in_flight, engine.plan) == (0, before)
    drawn = engine.report()["pictures"]
    assert draws(engine)
    assert (engine.report()["pictures"], engine.plan) == (drawn + 1, before)


def test_a_neighbour_that_fills_the_card_costs_residents_and_not_the_carousel(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torchlike(LimitedCard):
        def limit_reserved(self, nbytes: int | None) -> None:
            assert nbytes is None or nbytes >= 0, "torch takes no share below 0"
            super().limit_reserved(nbytes)

    monkeypatch.setattr(allowance, "GROWTH", 0)
    monkeypatch.setattr(allowance, "SPARE", KIB)
    monkeypatch.setattr(allowance, "LATER_KERNELS", 0)
    taken, usual = [0], Weights.prepare

    def prepare(weights: Weights, *given: Any) -> None:
        if not taken[0]:
            taken[0] = 2000 * KIB
            raise short()
        usual(weights, *given)

    card = Torchlike(lambda: 40 * KIB + taken[0])
    engine = Engine(family_pipeline("z-image"), 900 * KIB, card, CARRIED)
    engine.start()
    try:
        before = engine.plan.resident_bytes
        monkeypatch.setattr(Weights, "prepare", prepare)
        assert draws(engine)
        assert engine.plan.resident_bytes < before
    finally:
        engine.stop(60)


def test_a_smaller_plan_is_held_to_the_budget_again_once_it_is_placed(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reserving(LimitedCard):
        def reserved_bytes(self) -> int:
            return self.process_bytes() - self._unplanned()

    monkeypatch.setattr(allowance, "LATER_KERNELS", 0)
    outside = [40 * KIB]
    card = Reserving(lambda: outside[0])
    engine = Engine(family_pipeline("z-image"), 900 * KIB, card, CARRIED)
    engine.start()
    try:
        outside[0] = 140 * KIB
        fail(monkeypatch, Weights, "prepare", short(), 1)
        before = engine.plan.resident_bytes
        assert draws(engine)
        assert engine.plan.resident_bytes < before
        limit = card.limits[-1]
        assert limit is not None
        assert limit + outside[0] <= 900 * KIB
    finally:
        engine.stop(60)


def test_a_refresh_that_finds_no_memory_forgets_prompts_all_the_same(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, seats=1))
    assert draws(engine)
    with monkeypatch.context() as patch:
        fail(patch, Weights, "refresh", short(), 1)
        with pytest.raises(torch.OutOfMemoryError):
            engine.refresh(60)
    hits = engine.report()["prompt_cache_hits"]
    assert draws(engine)
    assert engine.report()["prompt_cache_hits"] == hits


def test_who_runs_out_of_memory_while_a_trial_ends_does_not_start_again(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, usual = open_engine(500 * KIB, lambda: 0, WARMED), Rider.throw

    def throw(rider: Rider, *given: Any) -> Any:
        usual(rider, short()) if engine.plan else None
        return usual(rider, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Rider, "throw", throw)
        fail(patch, Weights, "prepare", ValueError("a fault"), 40)
        with pytest.raises(ValueError, match="a fault"):
            engine.rebudget(450 * KIB, 60)
    assert (engine._again, engine.in_flight) == ([], 0)
    assert draws(engine)


def test_a_neighbour_is_not_booked_on_us_where_the_driver_says_what_is_ours() -> None:
    gib, books = 1 << 30, Books()
    assert books.bytes_of(4 * gib, 4 * gib + 100) == 4 * gib + 100, "booked on nobody, and ours"
    assert books.bytes_of(5 * gib, 9 * gib) == 5 * gib + 100 + UNBOOKED_GROWTH
    assert books.bytes_of(0, 9 * gib) == 9 * gib, "where it does not say"
    assert books.bytes_of(0, -gib) == 0


def test_a_start_for_which_no_thread_can_be_had_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, Herald, "start", RuntimeError("can't start new thread"), 1)
    engine = Engine(family_pipeline("z-image"), 500 * KIB, Device(torch.device("cpu")), CARRIED)
    with pytest.raises(RuntimeError, match="new thread"):
        engine.start()


def test_a_refresh_takes_back_first_what_a_decode_could_not(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = dict.fromkeys(("context", "fixed", "activations", "pieces", "strips", "reserve", "waiting"), 0)
    facts = Facts(decode=240 * KIB, bandwidth=1e6, **nothing)
    monkeypatch.setattr(Placement, "_assumed_facts", lambda _: facts)
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, decode="plain", seats=1, residents=1))
    assert engine.plan.yielding
    usual, fails = Weights.retake, [1]

    def retake(weights: Weights) -> None:
        if weights._is_lent and fails:
            fails.pop()
            raise short()
        usual(weights)

    monkeypatch.setattr(Weights, "retake", retake)
    assert draws(engine)
    assert engine._placement is not None
    weights = engine._placement.weights
    assert weights is not None
    assert weights._is_lent

    engine.refresh(60)

    assert not weights._is_lent
    assert draws(engine)


def test_a_prompt_that_could_not_be_written_costs_no_other_one(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, seats=1))
    assert engine._placement is not None
    engine._placement.assembly.cache._nbytes = 64 * KIB  # so that it is soon written round
    fail(monkeypatch, Device, "to_host", short(), 1)
    first = Ticket(mug())
    first.retries = RETRIES
    with pytest.raises(torch.OutOfMemoryError):
        engine.enter(first).result(60)
    for number in range(20):
        assert engine.enter(Ticket(mug(prompt=f"thing {number}"))).result(60).size == (64, 64)


def test_an_errand_that_was_begun_is_waited_for() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert may_end.wait(60)
        raise ValueError("what became of it")

    errand = Errand(work)
    worker = threading.Thread(target=errand.run)
    worker.start()
    assert begun.wait(60)
    threading.Timer(0.1, may_end.set).start()
    with pytest.raises(ValueError, match="what became of it"):
        errand.wait(0.01, "too late")
    worker.join()
    with pytest.raises(TimeoutError, match="too late"):
        Errand(work).wait(0.01, "too late")


def test_a_gauge_ends_with_the_ride_that_it_measures(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, seats=1))
    placement = engine._placement
    assert placement is not None
    facts = placement._facts

    def settle(_: Placement) -> None:
        placement._facts = placement._measured("strips")  # as where only strips are left

    with monkeypatch.context() as patch:
        patch.setattr(Placement, "settle", settle)
        patch.setattr(WarmUp, "longest", lambda warm_up: dataclasses.replace(warm_up.usual(), width=13))
        with pytest.raises(ValueError, match="13"):
            engine.rebudget(510 * KIB, 60)
    assert placement.gauge is None
    assert placement._facts is facts
    assert draws(engine)
