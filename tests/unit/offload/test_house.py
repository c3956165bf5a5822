"""A restart that finds all of an earlier one's work takes tickets at once, and rides what it owes behind them."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest
import torch

from tests.unit.offload.budget_kit import KIB
from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from tests.unit.offload.house_kit import (
    BUDGET,
    MUG,
    POOL,
    LimitedCard,
    Start,
    card_of,
    forms_of,
    is_known,
    known,
    options_for,
    owed,
    start_again,
    want_memory_once,
)
from worker.offload import ImpossibleBudget, allowance
from worker.offload.blocks import Block
from worker.offload.engine import Engine
from worker.offload.experience import NAME
from worker.offload.house import House
from worker.offload.kept_forms import LIST_SUFFIX, SUFFIX
from worker.offload.marks import Landing, Mark
from worker.offload.ticket import CarouselEnded, Order, Ticket
from worker.offload.warm_up import WarmUp
from worker.offload.weights import Weights

__all__ = ["known", "start_again"]  # fixtures


def test_tickets_are_taken_before_anything_has_ridden_and_nothing_is_compiled(start_again: Start) -> None:
    engine = start_again()
    called = forms_of(engine)
    assert owed(engine)
    assert engine.has_drawn, "an earlier start has, just like this one"
    picture = engine.enter(Ticket(MUG)).result(60)
    assert same(picture, plain_picture("z-image", MUG.prompt, MUG.seed, MUG.steps, 64, 64, 0.0))
    engine.settle(60)
    assert engine.report()["pictures"] == len(owed(engine)) + 1
    assert engine.report()["forms"]["compiled"] == engine.report()["forms"]["left to torch"] == 0
    assert forms_of(engine) == called, "the next start can rely on as much"


def test_only_a_start_that_compiles_has_kernels_timed_within_its_budget(
    start_again: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    monkeypatch.setattr(allowance, "note_peak", lambda _, budget: noted.append(budget))
    start_again().stop(60)  # of one pipeline there is one carousel at a time
    assert noted == []
    first = Engine(family_pipeline("z-image"), BUDGET, LimitedCard(lambda: 40 * KIB), options_for(tmp_path / "new"))
    first.start()
    first.stop(60)
    assert noted == [BUDGET]


def test_what_is_owed_is_all_that_a_start_rides(start_again: Start) -> None:
    engine = start_again()
    assert engine._placement is not None
    wanted = [(order.height, order.width) for order in engine._placement._warm_up.everything()]
    assert [(order.height, order.width) for order in owed(engine)] == wanted
    assert (64, 64) in wanted
    assert len(wanted) >= 4, "named, of no named size, of no named length, too long"


def test_the_allocator_is_held_to_what_was_left_it_when_all_had_ridden(start_again: Start) -> None:
    """Kernels that are loaded later lie beside it: what it may take now must leave them room."""
    engine = start_again(lambda: 30 * KIB)  # 10 KiB are not loaded yet
    card = card_of(engine)
    assert card.limits[0] == BUDGET - 40 * KIB
    engine.settle(60)


def test_a_process_that_turns_out_too_large_is_planned_again_when_nobody_rides(start_again: Start) -> None:
    opened: list[Engine] = []
    engine = start_again(lambda: 400 * KIB if opened else 40 * KIB)
    before = engine.plan.resident_bytes
    opened.append(engine)
    tickets = [engine.enter(Ticket(dataclasses.replace(MUG, seed=seed))) for seed in range(3)]
    for seed, ticket in enumerate(tickets):
        assert same(ticket.result(60), plain_picture("z-image", MUG.prompt, seed, MUG.steps, 64, 64, 0.0))
    engine.settle(120)
    assert engine.plan.resident_bytes < before
    assert engine.report()["process_bytes"] <= BUDGET
    assert engine.enter(Ticket(MUG)).result(60)
    assert is_known(engine)


def test_a_budget_that_nothing_fits_any_more_ends_the_carousel_and_is_forgotten(start_again: Start) -> None:
    opened: list[Engine] = []
    engine = start_again(lambda: 2 * BUDGET if opened else 40 * KIB)
    opened.append(engine)
    with pytest.raises(CarouselEnded, match="ImpossibleBudget"):
        engine.settle(120)
    assert isinstance(engine._failure, ImpossibleBudget)
    assert not is_known(engine)


@pytest.mark.parametrize("damage", ["a form is gone", "a form is damaged"])
def test_a_form_that_is_not_there_is_compiled_before_tickets_are_taken(start_again: Start, damage: str) -> None:
    def spoil(folder: Path) -> None:
        smallest = min(folder.rglob(f"*{SUFFIX}"), key=lambda file: file.stat().st_size)
        if damage == "a form is gone":
            smallest.unlink()
        else:
            smallest.write_bytes(smallest.read_bytes()[:-1])

    engine = start_again(spoil=spoil)
    assert not owed(engine)
    engine.settle(0)
    forms = engine.report()["forms"]
    assert forms["compiled"] == 1
    engine.enter(Ticket(MUG)).result(60)
    assert engine.report()["forms"] == forms


def test_more_beside_the_allocator_than_an_earlier_start_had_is_tried_before_tickets_are_taken(
    start_again: Start,
) -> None:
    engine = start_again(lambda: 200 * KIB)
    assert not owed(engine)
    assert engine.report()["process_bytes"] <= BUDGET


def test_an_owed_picture_that_fails_costs_nobody_a_picture_and_the_next_start_finds_out_anew(
    start_again: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def everything(warm_up: WarmUp, seats: int = 1) -> list[Order]:
        return [dataclasses.replace(warm_up.usual(), width=13), warm_up.usual()]

    monkeypatch.setattr(WarmUp, "everything", everything)
    engine = start_again()
    engine.settle(60)
    assert "a warm-up picture failed after the start" in caplog.text
    assert engine.enter(Ticket(MUG)).result(60)
    assert not is_known(engine)


@pytest.fixture
def pending(start_again: Start, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A restart whose owed rides wait until somebody rides."""
    see_to_house = Engine._see_to_house

    def wait(engine: Engine, house: House) -> None:
        if engine.report()["pictures"]:
            see_to_house(engine, house)

    monkeypatch.setattr(Engine, "_see_to_house", wait)
    return start_again(lambda: 10 * KIB)


def test_a_new_budget_is_tried_and_what_was_owed_is_ridden_all_the_same(pending: Engine) -> None:
    pending.rebudget(BUDGET - 100 * KIB, 120)
    assert not pending.is_settled
    assert pending.enter(Ticket(MUG)).result(60)
    pending.settle(60)
    assert pending.plan.budget == BUDGET - 100 * KIB
    assert pending.report()["pictures"] > len(owed(pending))


def test_a_refused_budget_leaves_room_for_kernels_that_are_not_loaded_yet(pending: Engine) -> None:
    with pytest.raises(ImpossibleBudget):
        pending.rebudget(10 * KIB, 120)
    card = card_of(pending)
    since = [limit for limit in card.limits[card.limits.index(None) :] if limit is not None]
    assert max(since) == BUDGET - 40 * KIB
    assert not pending.is_settled


def test_the_plan_that_one_goes_back_to_has_its_pools_room_again(
    start_again: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_again()
    engine.settle(60)
    card, before, allocate, short = card_of(engine), engine.plan, Weights._allocate, [True]
    card.rooms.clear()

    def fail_once(weights: Weights, moved: list[Block]) -> torch.Tensor:
        if short:
            short.clear()
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        return allocate(weights, moved)

    monkeypatch.setattr(Weights, "_allocate", fail_once)
    with pytest.raises(torch.OutOfMemoryError):
        engine.rebudget(BUDGET - 100 * KIB, 60)
    assert engine.plan is before
    assert engine._placement is not None
    assert engine._placement.weights is not None
    assert (POOL - engine._placement.weights.lent_bytes, BUDGET - 40 * KIB) in card.rooms


def test_an_error_of_the_engine_before_all_was_ridden_has_the_next_start_find_out_anew(
    pending: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(Engine, "_serve", fail)
    with pytest.raises(CarouselEnded, match="ValueError: planted"):
        pending.enter(Ticket(MUG)).result(60)
    with pytest.raises(CarouselEnded):
        pending.settle(60)
    assert not is_known(pending)


def test_closing_ends_the_planning_that_nobody_asked_for(start_again: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Engine] = []
    full_house, reached, ridden = WarmUp.house, threading.Event(), list[str]()

    def house(warm_up: WarmUp, seats: int) -> None:
        reached.set()
        while not opened[0]._is_closing:
            pass
        full_house(warm_up, seats)
        ridden.append("a full house")

    monkeypatch.setattr(WarmUp, "house", house)
    engine = start_again(lambda: 400 * KIB if opened else 40 * KIB)
    opened.append(engine)
    assert reached.wait(60)
    engine.stop(60)
    assert not ridden
    assert engine._failure is None, "that is no error"


def test_a_plan_that_shrank_before_all_was_ridden_is_not_what_the_next_start_begins_with(
    start_again: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = want_memory_once(monkeypatch)
    engine = start_again()
    engine.settle(60)
    assert not short
    assert not is_known(engine)


def test_a_plan_that_is_made_while_jobs_ride_keeps_to_the_budget_and_gives_its_pool_the_last_ones_room(
    start_again: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_again()
    engine.settle(60)
    card, before = card_of(engine), engine.plan
    card.rooms.clear()
    card.limits.clear()
    want_memory_once(monkeypatch)
    assert engine.enter(Ticket(MUG)).result(60)
    assert engine.plan.resident_bytes < before.resident_bytes
    assert engine._placement is not None
    assert engine._placement.weights is not None
    lent = engine._placement.weights.lent_bytes
    left = BUDGET - 40 * KIB
    assert card.rooms[-1] == (POOL - lent, left)
    assert set(card.limits) == {left}, "the budget's limit holds while weights are placed anew"


def test_a_pool_that_gets_no_room_costs_no_residents(start_again: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    engine = start_again()
    engine.settle(60)
    want_memory_once(monkeypatch)
    asked = list[int]()
    usual = allowance.take_room
    monkeypatch.setattr(allowance, "take_room", lambda *given: (asked.append(given[-1]), refuse()))
    assert engine.enter(Ticket(MUG)).result(60)
    assert len(asked) == 1
    with_none = engine.plan.resident_bytes
    engine.stop(60)
    monkeypatch.setattr(allowance, "take_room", usual)
    other = start_again()
    other.settle(60)
    want_memory_once(monkeypatch)
    assert other.enter(Ticket(MUG)).result(60)
    assert other.plan.resident_bytes == with_none


def test_where_no_plan_can_be_placed_any_more_the_carousel_ends_and_says_why(
    start_again: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_again()
    engine.settle(60)
    want_memory_once(monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    monkeypatch.setattr(Weights, "_allocate", refuse)
    with pytest.raises(CarouselEnded, match="CUDA out of memory") as caught:
        engine.enter(Ticket(MUG)).result(60)
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    with pytest.raises(CarouselEnded, match="CUDA out of memory"):
        engine.enter(Ticket(MUG)).result(60)


def test_another_budgets_start_does_not_vouch_for_this_ones_forms(start_again: Start) -> None:
    """The list of what to load ahead is one for all starts of a model; what was called is each start's own."""

    def spoil(folder: Path) -> None:
        smallest = min(folder.rglob(f"*{SUFFIX}"), key=lambda file: file.stat().st_size)
        smallest.unlink()
        (used,) = folder.rglob(f"*{LIST_SUFFIX}")
        listed = json.loads(used.read_text())
        listed.pop(smallest.stem.rpartition("-")[0])
        used.write_text(json.dumps(listed))

    assert not owed(start_again(spoil=spoil))


def test_whoever_waits_for_an_engine_to_settle_waits_no_longer_when_it_is_closed(pending: Engine) -> None:
    engine = pending
    assert not engine.is_settled
    waiting = threading.Thread(target=engine.settle, args=(60,))
    waiting.start()
    engine.stop(60)
    waiting.join(60)
    assert not waiting.is_alive()
    assert engine.is_settled, "nothing is owed by an engine that has ended"


# The rides, one by one


def landed(ticket: Ticket) -> Ticket:
    ticket.finish(Landing(torch.zeros(1, dtype=torch.uint8), Mark(), None), "plain")
    return ticket


def test_one_ride_at_a_time_is_put_in_line_in_the_batch_lane() -> None:
    house = House([MUG, dataclasses.replace(MUG, seed=8)])
    first = house.next()
    assert first is not None
    assert (first.order.lane, first.order.seed) == ("batch", 7)
    assert house.next() is None
    assert not house.is_over
    landed(first)
    second = house.next()
    assert second is not None
    assert second.order.seed == 8
    assert not house.is_over
    landed(second)
    assert house.next() is None
    assert house.is_over
    assert not house.has_failed


def test_a_ride_that_fails_is_noted_and_followed_by_the_next() -> None:
    house = House([MUG, MUG])
    first = house.next()
    assert first is not None
    first.fail(RuntimeError("planted"))
    assert house.next() is not None
    assert house.has_failed


def test_what_was_relied_on_is_forgotten_where_the_plan_shrank_before_all_had_ridden(
    pending: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next start begins with the plan that ran out of memory."""
    monkeypatch.setattr(Engine, "_see_to_house", lambda *_: None)  # it ends before it has settled
    short, before = want_memory_once(monkeypatch), pending.plan.resident_bytes
    assert is_known(pending)

    assert pending.enter(Ticket(MUG)).result(60)

    assert not short
    assert pending.plan.resident_bytes < before
    pending.stop(60)
    assert not is_known(pending)


def test_what_was_relied_on_is_forgotten_also_where_the_budget_is_another_by_then(pending: Engine) -> None:
    notes = Path(pending._options.compile_cache)
    (relied,) = notes.glob(f"{NAME}*")
    pending.rebudget(BUDGET - 100 * KIB, 120)
    assert pending._house is not None
    pending._house._owed[0] = dataclasses.replace(pending._house._owed[0], width=13)  # it can not be drawn

    assert pending.enter(Ticket(MUG)).result(60)
    pending.settle(60)

    assert not relied.exists()
