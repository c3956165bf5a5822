"""A budget is a promise: a plan under which the process took more is corrected before anybody is served."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB, Card, draws, open_engine_fixture  # noqa: F401 - the fixture
from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from worker.offload import ImpossibleBudget, allowance
from worker.offload.engine import Engine
from worker.offload.experience import NAME, Experience, Notebook
from worker.offload.placement import Placement
from worker.offload.plan import Facts, Plan
from worker.offload.ticket import Order, Ticket
from worker.offload.warm_up import WarmUp
from worker.offload.weights import Weights


def first_forms(engine: Engine) -> tuple[object, ...]:
    """Layouts that have compiled forms of their own."""
    assert engine._placement is not None
    assert engine._placement.stock.forms is not None
    return engine._placement.stock.forms.layouts


def test_what_the_plan_missed_is_taken_from_the_residents(open_engine: Callable[..., Engine]) -> None:
    budget = 500 * KIB
    exact = open_engine(budget, lambda: 0)
    assert exact.plan.residents
    assert exact.report()["process_bytes"] <= budget
    resident = exact.plan.resident_bytes
    exact.stop(60)
    over = open_engine(budget, lambda: 60 * KIB)
    assert over.report()["process_bytes"] <= budget
    assert over.plan.resident_bytes < resident
    assert over.plan.residents, "and from no more of them than must be"
    assert draws(over)


@pytest.mark.parametrize(("seats", "times"), [(1, 1), (3, 2)])
def test_room_is_left_for_what_rides_have_not_shown_and_twice_of_it_in_company(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, seats: int, times: int
) -> None:
    growth, budget = 40 * KIB, 500 * KIB
    monkeypatch.setattr(allowance, "GROWTH", growth)
    engine = open_engine(budget, lambda: 0, dataclasses.replace(CARRIED, seats=seats))
    assert engine.plan.seats == seats
    left = budget - engine.report()["process_bytes"]
    assert times * growth <= left < (times + 1) * growth


def test_a_process_that_grows_with_every_plan_is_corrected_until_it_fits(open_engine: Callable[..., Engine]) -> None:
    readings = iter([50 * KIB, 90 * KIB, 120 * KIB])
    last = 0

    def unplanned() -> int:
        nonlocal last
        last = next(readings, last)
        return last

    engine = open_engine(500 * KIB, unplanned)
    assert engine.report()["process_bytes"] <= 500 * KIB


def test_a_start_tells_what_is_held_beside_what_was_predicted(
    open_engine: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = open_engine(1 << 30, lambda: 512 << 20)
    predicted = f"{engine.plan.predicted_peak / 2**30:.2f} GiB predicted at most"
    assert f"0.50 GiB of 1.00 GiB held, {predicted}" in caplog.text


def test_a_budget_that_no_plan_can_keep_is_refused_with_the_least_one(open_engine: Callable[..., Engine]) -> None:
    with pytest.raises(ImpossibleBudget, match="at least"):
        open_engine(500 * KIB, lambda: 450 * KIB)


def test_where_the_plain_decode_takes_too_much_it_is_done_in_strips(open_engine: Callable[..., Engine]) -> None:
    opened: list[Engine] = []

    def unplanned() -> int:
        plain = not opened or opened[0].plan.decode_mode == "plain"
        return 450 * KIB if plain else 0

    engine = Engine(family_pipeline("z-image"), 500 * KIB, Card(unplanned), CARRIED)
    opened.append(engine)
    engine.start()
    try:
        assert engine.plan.decode_mode == "strips"
        assert engine.plan.residents, "the plain decode's excess is not held against strips"
        ticket = engine.enter(Ticket(Order(prompt="a mug", height=64, width=64, seed=3, steps=2)))
        assert ticket.result(60).info["decode_mode"] == "strips"
    finally:
        engine.stop(60)


def test_where_company_takes_too_much_riders_ride_alone_before_the_decode_changes(
    open_engine: Callable[..., Engine],
) -> None:
    opened: list[Engine] = []

    def unplanned() -> int:
        return 450 * KIB if not opened or opened[0].plan.seats > 1 else 0

    engine = Engine(family_pipeline("z-image"), 500 * KIB, Card(unplanned), CARRIED)
    opened.append(engine)
    engine.start()
    try:
        assert (engine.plan.decode_mode, engine.plan.seats) == ("plain", 1)
        assert engine.plan.residents, "company's excess is not held against a lone rider"
        assert draws(engine)
    finally:
        engine.stop(60)


def test_room_too_small_for_a_block_keeps_the_head_of_one(open_engine: Callable[..., Engine]) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    ((name, nbytes),) = engine.plan.heads
    assert name not in engine.plan.residents
    before = engine.report()["fetched_bytes"]
    assert draws(engine)
    assert draws(engine)
    carried = engine.report()["fetched_bytes"] - before
    assert engine._placement is not None
    (block,) = [block for block in engine._placement.assembly.blocks if block.name == name]
    assert 0 < nbytes < block.carried_bytes
    passes = {"text": 1, "denoise": 4}  # two pictures of two steps, one text
    blocks = [b for b in engine._placement.assembly.blocks if b.once and b.name not in engine.plan.residents]
    most = sum(passes[stage] * nbytes for stage, nbytes in engine.plan.sweep_bytes.items())
    ring = 2 * engine.plan.ring_slots * engine.plan.slot_bytes  # fetched ahead for newcomers
    assert most - 3 * sum(b.carried_bytes for b in blocks) <= carried <= most + ring
    engine.refresh(60)
    assert draws(engine), "heads are uploaded again too"


@pytest.mark.parametrize(
    ("decode", "lent"), [(0, ""), (70, "scratch"), (180, "scratch, residents"), (420, "scratch, residents, ring")]
)
def test_whatever_the_decode_borrows_pictures_are_the_plain_pipelines(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, decode: int, lent: str
) -> None:
    facts = Facts(
        context=0, fixed=0, activations=0, decode=decode * KIB, pieces=0, strips=0, reserve=0, waiting=0, bandwidth=1e6
    )
    monkeypatch.setattr(Placement, "_assumed_facts", lambda _: facts)
    options = dataclasses.replace(CARRIED, poison=True, decode="plain")
    engine = open_engine(500 * KIB, lambda: 0, options)
    plan = engine.plan
    borrowed = {"scratch": plan.lends_scratch, "residents": bool(plan.yielding), "ring": plan.lends_ring}
    assert ", ".join(what for what, is_lent in borrowed.items() if is_lent) == lent
    assert plan.predicted_peak <= 500 * KIB
    tickets = [engine.enter(Ticket(Order(prompt="a mug", height=64, width=64, seed=s, steps=2))) for s in range(3)]
    for seed, ticket in enumerate(tickets):
        assert same(ticket.result(60), plain_picture("z-image", "a mug", seed, 2, 64, 64, 0.0))


def test_what_the_scratch_held_before_it_was_lent_is_not_believed(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(context=0, activations=0, decode=70 * KIB, pieces=0, strips=0, reserve=0, waiting=0)
    monkeypatch.setattr(Placement, "_assumed_facts", lambda _: facts)
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, decode="plain"))
    assert engine.plan.lends_scratch
    assert engine._placement is not None
    weights, block = engine._placement.weights, engine._placement.assembly.blocks[0]
    assert weights is not None
    weights.prepare(block)
    before = [part.parameter.data.clone() for part in block.parts]
    weights.lend()
    weights.retake()
    for part in block.parts:
        part.parameter.data.fill_(7)
    weights.prepare(block)
    assert all(torch.equal(part.parameter.data, was) for part, was in zip(block.parts, before, strict=True))


def test_a_restart_in_the_same_circumstances_starts_with_the_corrected_plan(
    open_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    options = dataclasses.replace(CARRIED, compile_cache=tmp_path, identity=f"test {tmp_path}")
    first = open_engine(500 * KIB, lambda: 60 * KIB, options)
    plan = first.plan
    first.stop(60)
    placed: list[Plan] = []
    place = Placement._place

    def note(placement: Placement, plan: Plan) -> None:
        placed.append(plan)
        place(placement, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Placement, "_place", note)
        second = open_engine(500 * KIB, lambda: 60 * KIB, options)
        assert placed == [plan], "no correction"
        assert draws(second)
        second.stop(60)
        third = open_engine(500 * KIB, lambda: 120 * KIB, options)
        assert len(placed) > 2, "what was remembered is compared with the budget, and corrected"
        assert third.report()["process_bytes"] <= 500 * KIB
        third.stop(60)
        other = open_engine(480 * KIB, lambda: 0, options)
    assert other.plan.resident_bytes > plan.resident_bytes - 40 * KIB, "another budget has its own experience"


@pytest.mark.slow
def test_a_restart_that_can_not_tell_its_forms_fills_the_house_once_with_everything_that_must_be_ridden(
    open_engine: Callable[..., Engine], tmp_path: Path
) -> None:
    """One after another they took 4 s of a restart's 20 (H200), and a fuller house than that had been tried before."""
    ridden: list[list[Order]] = []
    together = WarmUp._ride

    def note(warm_up: WarmUp, name: str, *orders: Order) -> None:
        ridden.append(list(orders))
        together(warm_up, name, *orders)

    sizes = ((64, 96), (64, 64))
    more = {"compile": "on", "compile_backend": "eager", "warm_up": sizes, "captions": (64, 128), "seats": 6}
    options = dataclasses.replace(CARRIED, compile_cache=tmp_path, identity=f"test {tmp_path}", **more)
    first = open_engine(900 * KIB, lambda: 0, options)
    kept = first_forms(first)
    assert kept
    first.stop(60)
    (notes,) = tmp_path.rglob(f"{NAME}*")
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "forms": []}))  # some were left to torch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WarmUp, "_ride", note)
        again = open_engine(900 * KIB, lambda: 0, options)
    (all_at_once,) = ridden
    named, unnamed = all_at_once[:6], all_at_once[6:]
    assert len(named) == 6 >= again.plan.seats, "a full house"
    assert {(order.height, order.width) for order in named} == set(sizes)
    assert len({len(order.prompt) for order in named}) == 2, "every caption length"
    one, of_no_length, overlong = [(order.height, order.width) for order in unnamed]
    assert {one, overlong}.isdisjoint(sizes)
    assert of_no_length == sizes[0], "the largest, with a caption that is not named"
    assert unnamed[1].prompt not in {order.prompt for order in named}
    assert again._placement is not None
    assert first_forms(again) == kept, "shapes run the forms that they ran before"
    assert draws(again)


def test_experience_that_can_not_be_read_or_kept_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = Experience(
        Facts(block_seconds=(0.1, 0.2)), 5, "auto", 4, ((((1, 2, 3), (6, 3, 1)), ((4,), (1,))),), 6, 7, ("a", "b")
    )
    Notebook(tmp_path, "a").write(known)
    assert Notebook(tmp_path, "a").read() == known
    assert Notebook(tmp_path, "b").read() is None
    for file in tmp_path.iterdir():
        file.write_text("{")
    assert Notebook(tmp_path, "a").read() is None
    (tmp_path / "file").write_text("")
    Notebook(tmp_path / "file", "a").write(known)
    assert "measures again" in caplog.text
    assert Notebook("", "a").read() is None


class Full:
    """A hook that finds the card full at the given calls of a block."""

    def __init__(self, *calls: int) -> None:
        self._calls, self.count = calls, 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count in self._calls:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")


def ride_with(engine: Engine, full: Full, count: int) -> list[Ticket]:
    block = family_pipeline("z-image").transformer.layers[2]
    handle = block.register_forward_hook(full)
    try:
        orders = [Order(prompt="a mug", height=64, width=64, seed=seed, steps=3) for seed in range(count)]
        tickets = [engine.enter(Ticket(order)) for order in orders]
        for ticket in tickets:
            with contextlib.suppress(torch.OutOfMemoryError):
                ticket.result(60)
        return tickets
    finally:
        handle.remove()


@pytest.mark.parametrize("places", [None, 1])
def test_out_of_memory_shrinks_the_plan_by_a_step_and_the_same_ticket_is_drawn(
    open_engine: Callable[..., Engine], places: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = open_engine(500 * KIB, lambda: 0, dataclasses.replace(CARRIED, places=places))
    before = len(engine.plan.residents)
    tickets = ride_with(engine, Full(3), 3)
    for seed, ticket in enumerate(tickets):
        assert same(ticket.result(60), plain_picture("z-image", "a mug", seed, 3, 64, 64, 0.0))
    assert [ticket.retries for ticket in tickets].count(1) == 1
    assert len(engine.plan.residents) < before
    assert engine.plan.residents, "by one step, not to nothing"
    assert engine.in_flight == 0
    assert engine.report()["out_of_memory"] == engine.shortages >= 1
    assert "ERROR" in {record.levelname for record in caplog.records}, "the error log tells of it though it was drawn"


def test_a_ticket_for_which_there_is_never_memory_fails_with_that_error_and_the_engine_goes_on(
    open_engine: Callable[..., Engine],
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    (ticket,) = ride_with(engine, Full(*range(100)), 1)
    with pytest.raises(torch.OutOfMemoryError):
        ticket.result(60)
    assert ticket.retries == 3
    assert draws(engine)


def test_memory_that_lacks_between_two_rides_is_no_riders_fault(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    retake, full = Weights.retake, Full(1)

    def retake_once_in_vain(weights: Weights) -> None:
        full()
        retake(weights)

    monkeypatch.setattr(Weights, "retake", retake_once_in_vain)
    assert draws(engine)
    assert draws(engine)
    engine.stop(60)
    assert full.count == 2
