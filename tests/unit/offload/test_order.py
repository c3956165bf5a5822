"""Copies and computing are ordered by marks, not by luck: no two streams touch the same bytes unordered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from tests.unit.offload.order_kit import StreamsKnown, watched_device
from worker.offload.blocks import Block
from worker.offload.carousel import Options
from worker.offload.engine import Engine
from worker.offload.errand import Errand
from worker.offload.marks import Mark
from worker.offload.placement import Placement
from worker.offload.plan import Plan
from worker.offload.ring import Ring
from worker.offload.ticket import Order, Ticket
from worker.offload.weights import POISON, Weights

Change = Callable[[Placement, Plan], Plan]


def as_it_is(_: Placement, plan: Plan) -> Plan:
    return plan


def with_heads(placement: Placement, plan: Plan) -> Plan:
    streamed = [block for block in placement.assembly.blocks if block.name not in plan.residents]
    heads = tuple((block.name, block.carried_bytes // 1024 * 512) for block in streamed[::2])
    return replace(plan, heads=heads, lends_scratch=True)


def with_everything_lent(_: Placement, plan: Plan) -> Plan:
    return replace(plan, lends_scratch=True, lends_ring=True, yielding=tuple(sorted(plan.residents)[-1:]))


def with_heads_and_yielding(placement: Placement, plan: Plan) -> Plan:
    return with_heads(placement, with_everything_lent(placement, plan))


ARRANGEMENTS: dict[str, tuple[Change, dict[str, Any]]] = {
    "a ring": (as_it_is, {"residents": 2, "ring_slots": 2}),
    "one slot": (as_it_is, {"residents": 0, "ring_slots": 1}),
    "all resident": (as_it_is, {"residents": 99, "ring_slots": 2}),
    "heads": (with_heads, {"residents": 2, "ring_slots": 2}),
    "heads, all lent": (with_heads_and_yielding, {"residents": 3, "ring_slots": 2}),
    "all lent": (with_everything_lent, {"residents": 3, "ring_slots": 2}),
    "parked, one place": (as_it_is, {"residents": 1, "ring_slots": 2, "places": 1}),
    "parked, two places": (as_it_is, {"residents": 1, "ring_slots": 2, "places": 2}),
    "a crowd": (as_it_is, {"residents": 1, "ring_slots": 2, "places": 2, "seats": 8}),
}


@contextmanager
def running(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StreamsKnown, Engine]]:
    """An engine of this arrangement, and its device."""
    change, options = ARRANGEMENTS[name]
    make = Placement._make_plan
    monkeypatch.setattr(
        Placement, "_make_plan", lambda placement, **wishes: change(placement, make(placement, **wishes))
    )
    device = watched_device(monkeypatch)
    engine = Engine(family_pipeline("z-image"), 20 << 30, device, Options(device="cpu", packing=True, **options))
    engine.start()
    try:
        yield device, engine
    finally:
        engine.stop(60)


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_no_two_streams_touch_the_same_bytes_unordered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(name, monkeypatch) as (device, engine):
        riders = engine.plan.seats  # a second house boards while the first one rides
        orders = [Order(prompt=f"mug {seed}", height=64, width=64, seed=seed, steps=3) for seed in range(riders)]
        tickets = [engine.enter(Ticket(order)) for order in orders * 2]
        images = [ticket.result(60) for ticket in tickets[-riders:]]

    assert device.races == []
    assert device.compared > 50
    for seed, image in enumerate(images):
        assert same(image, plain_picture("z-image", f"mug {seed}", seed, 3, 64, 64, 0.0))


def between_turns(engine: Engine, what: Callable[[Weights], None]) -> None:
    """Do it in the engine's thread: a ticket is done before its turn has ended, and memory may be lent till then."""

    def do() -> None:
        assert engine._placement is not None
        assert engine._placement.weights is not None
        what(engine._placement.weights)

    engine._send(Errand(do), engine._errands).wait(60, "no turn ended")


def spoil(device: StreamsKnown, weights: Weights) -> None:
    device.synchronize()
    held = [*weights._heads.values(), *(slot.buffer for slot in weights.ring.slots)]
    for buffer in [*held, *(berth.buffer for berth in weights._berths.values())]:
        device.compute("a fault", buffer.data_ptr(), buffer.numel())
        buffer.fill_(POISON)


@pytest.mark.parametrize("name", ["heads, all lent", "all resident"])
def test_what_was_spoilt_on_the_card_is_carried_anew_by_a_refresh_and_in_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(name, monkeypatch) as (device, engine):
        order = Order(prompt="mug 1", height=64, width=64, seed=1, steps=3)
        engine.enter(Ticket(order)).result(60)
        between_turns(engine, lambda weights: spoil(device, weights))
        engine.refresh(60)
        image = engine.enter(Ticket(order)).result(60)

    assert device.races == []
    assert same(image, plain_picture("z-image", "mug 1", 1, 3, 64, 64, 0.0))


def test_a_new_plan_lets_go_of_memory_into_which_nothing_is_copied_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("a ring", monkeypatch) as (device, engine):
        engine.enter(Ticket(Order(prompt="mug 1", height=64, width=64, seed=1, steps=3))).result(60)
        before = device.compared
        engine.rebudget(19 << 30, 60)

        assert device.compared > before
        assert device.races == []


def test_a_resident_that_nobody_rode_since_it_came_back_is_lent_again_once_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running("all lent", monkeypatch) as (device, engine):
        assert engine._placement is not None
        blocks = [block for block in engine._placement.assembly.blocks if block.name in engine.plan.yielding]
        compared = []

        def lend_twice(weights: Weights) -> None:
            weights.lend()
            weights.retake()
            weights.prefetch(blocks)  # and the rider cancels
            compared.append(device.compared)
            weights.lend()
            compared.append(device.compared)

        between_turns(engine, lend_twice)

        assert compared[0] < compared[1]
        assert device.races == []


def test_the_first_copy_into_a_slot_waits_for_whoever_had_its_memory_before() -> None:
    device, buffer = StreamsKnown(), torch.zeros(64, dtype=torch.uint8)
    block = Block("a block", torch.nn.Linear(2, 2), 0, 0, once=False, unneeded=False)
    block.host = torch.ones(64, dtype=torch.uint8)
    device.compute("a check of the kernel", buffer.data_ptr(), 64)

    Ring(device, [buffer]).prefetch([block])

    assert device.compared == 1
    assert device.races == []


def test_a_copy_that_waits_for_nobody_is_a_race_and_one_that_waits_is_none() -> None:
    device, slot, weights = StreamsKnown(), torch.zeros(64, dtype=torch.uint8), torch.ones(64, dtype=torch.uint8)
    device.wait(device.fetch(slot, weights, Mark()))
    device.compute("unpacking", slot.data_ptr(), 64)
    device.wait(device.fetch(slot, weights, device.mark()))
    device.compute("unpacking", slot.data_ptr(), 64)
    assert device.races == []

    arrived = device.fetch(slot, weights, Mark())
    device.compute("unpacking", slot.data_ptr(), 64)
    device.wait(arrived)

    assert device.races == [
        "a copy of weights (carry_in) does not wait for unpacking (compute)",
        "unpacking (compute) does not wait for a copy of weights (carry_in)",
    ]
