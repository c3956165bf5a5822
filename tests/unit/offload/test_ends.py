"""How a carousel ends: who is told, what is let go of, and what is left of the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB
from tests.unit.offload.conftest import Studio, family_pipeline, same
from tests.unit.offload.house_kit import LimitedCard
from tests.unit.offload.tiny import z_image
from worker.offload import Carousel, CarouselEnded, TicketCanceled, allowance, drop_stores, packing
from worker.offload.assembly import Assembly
from worker.offload.blocks import Block
from worker.offload.card_memory import Books
from worker.offload.device import CudaDevice
from worker.offload.engine import RETRIES, Engine
from worker.offload.marks import Landing, Mark
from worker.offload.placement import Placement
from worker.offload.ticket import Order, Ticket
from worker.offload.weights import Weights

SMALL = {"height": 64, "width": 64}


class Panic(BaseException):
    """As a panic of Rust's in a tokenizer: no Exception."""


def test_a_panic_in_a_pipeline_fails_its_ticket_with_an_exception(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a picture catches Exception, and is a thread that must live on."""
    studio = open_studio(residents=1, ring_slots=2)
    tokenizer, real = type(studio.pipe.tokenizer), type(studio.pipe.tokenizer).__call__

    def panic(self: object, texts: object, *arguments: object, **options: object) -> object:
        if "poison" in str(texts):
            raise Panic("index out of bounds")
        return real(self, texts, *arguments, **options)

    monkeypatch.setattr(tokenizer, "__call__", panic)
    with pytest.raises(RuntimeError, match="Panic: index out of bounds") as caught:
        studio.draw("poison").result(60)
    assert isinstance(caught.value.__cause__, Panic)
    assert studio.draw("a mug").result(60)


def test_after_an_error_of_its_own_work_who_rides_is_told_that_the_carousel_ended(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = open_studio(residents=1, ring_slots=2)
    assert not studio.carousel.has_ended

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(Weights, "prepare", broken)
    with pytest.raises(CarouselEnded, match="RuntimeError: planted") as caught:
        studio.draw().result(60)
    assert str(caught.value.__cause__) == "planted"
    studio.carousel._engine.join(60)
    assert studio.carousel.has_ended


def test_a_close_that_can_not_put_the_pipeline_together_says_so_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline drew another picture after it, without an error."""
    carousel = Carousel(z_image(), device="cpu", residents=1, packing=True)

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    monkeypatch.setattr(Assembly, "_restore", refuse)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError, match="planted"):
            carousel.close()
    with pytest.raises(TicketCanceled):
        carousel.submit(prompt="a mug", seed=7, **SMALL)


def test_a_start_that_is_interrupted_takes_itself_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it starts: nobody has the carousel, so nobody could close it."""
    begun, go_on, made = threading.Event(), threading.Event(), []
    really_open = Placement.open

    def slowly(placement: Placement) -> None:
        begun.set()
        assert go_on.wait(60)
        really_open(placement)

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert begun.wait(60)
            raise KeyboardInterrupt

    def start(engine: Engine) -> None:
        made.append(engine)
        engine._ready = Interrupted()
        really_start(engine)

    really_start = Engine.start
    monkeypatch.setattr(Placement, "open", slowly)
    monkeypatch.setattr(Engine, "start", start)
    pipe = z_image()
    with pytest.raises(KeyboardInterrupt):
        Carousel(pipe, device="cpu", residents=1)
    go_on.set()
    made[0].join(60)
    assert not made[0].is_alive()
    assert len(pipe(prompt="a mug", num_inference_steps=1, guidance_scale=0.0, **SMALL).images) == 1


class Copy(Mark):
    """A copy to the host that is over when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def passed(self) -> bool:
        return self.is_over


def test_a_picture_that_nobody_fetches_leaves_the_card_once_it_is_copied(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = open_studio(residents=1, ring_slots=2)
    landings, copies = [], []

    def land(tensor: torch.Tensor) -> Landing:
        copies.append(Copy())
        landings.append(Landing(tensor.detach().cpu(), copies[-1], tensor))
        return landings[-1]

    monkeypatch.setattr(studio.carousel._engine._device, "land", land)
    tickets = [studio.draw(seed=seed) for seed in range(3)]
    studio.draw(seed=9).cancel()
    assert all(ticket._done.wait(60) for ticket in tickets)
    assert all(landing._source is not None for landing in landings), "still being copied"
    for copy in copies:
        copy.is_over = True

    before = len(landings)
    last = studio.draw(seed=4)
    assert last._done.wait(60)

    assert [landing._source for landing in landings[:before]] == [None] * before
    copies[-1].is_over = True


def test_a_ticket_of_an_order_is_failed_once() -> None:
    ticket = Ticket(Order(prompt="a mug", seed=7, steps=2, **SMALL))
    ticket.fail(Panic("first"))
    ticket.fail(ValueError("second"))
    with pytest.raises(RuntimeError, match="first"):
        ticket.result(1)


def test_a_block_whose_unpacking_failed_half_way_is_unpacked_anew(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scratch was still taken for the block's before: a wrong picture, and no error."""
    failures, known, blocks = [], [], []
    prepare = Weights.prepare

    def unpack(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
        packing.decode(source, packed, target)
        if known and blocks[-1] == known[1] and len(failures) <= RETRIES:
            failures.append(blocks[-1])
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    def noting(weights: Weights, block: Block) -> None:
        blocks.append(block.name)
        prepare(weights, block)

    monkeypatch.setattr(Weights, "prepare", noting)
    studio = open_studio(residents=0, ring_slots=2, packing=True, unpack=unpack)
    assert same(studio.draw().result(60), studio.plain())
    blocks.clear()
    assert same(studio.draw().result(60), studio.plain())
    known += blocks[:2]  # of a prompt that is in the cache: the first is the one that lies in the scratch at a failure

    with pytest.raises(torch.OutOfMemoryError):
        studio.draw().result(60)

    assert len(failures) == RETRIES + 1
    assert same(studio.draw().result(60), studio.plain())


def test_a_new_budget_whose_trial_ends_in_a_panic_leaves_the_old_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "GROWTH", 0)
    monkeypatch.setattr(allowance, "SPARE", KIB)
    engine = Engine(family_pipeline("z-image"), 500 * KIB, LimitedCard(lambda: 0), CARRIED)
    engine.start()
    try:
        placement, device = engine._placement, engine._device
        assert placement is not None
        assert isinstance(device, LimitedCard)
        before = placement.budget, engine.plan, device.limits[-1]

        def panic(_: Placement) -> None:
            raise Panic("in a trial's picture")

        with monkeypatch.context() as patch:
            patch.setattr(Placement, "settle", panic)
            with pytest.raises(Panic):
                engine.rebudget(900 * KIB, 60)
        assert (placement.budget, engine.plan, device.limits[-1]) == before
    finally:
        engine.stop(60)
        drop_stores()


def test_what_somebody_else_gave_back_says_nothing_about_what_lies_beside() -> None:
    """One such reading made all that the driver holds for this process a neighbour's, for good."""
    gib, books = 1 << 30, Books()
    assert books.bytes_of(4 * gib, 4 * gib + gib // 2) == 4 * gib + gib // 2
    assert books.bytes_of(4 * gib, 3 * gib) == 4 * gib
    assert books.bytes_of(4 * gib, 4 * gib + gib // 2) == 4 * gib + gib // 2


def test_the_process_is_compared_with_the_card_while_it_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's allocation between two readings was taken for a neighbour's memory."""
    gib = 1 << 30
    own, since = iter([4 * gib, 5 * gib, 5 * gib, 5 * gib]), iter([4 * gib, 5 * gib + 7])
    monkeypatch.setattr("worker.offload.card_memory.own_bytes", lambda _: next(own))
    monkeypatch.setattr("worker.offload.card_memory.bytes_since", lambda _: next(since))
    device: Any = SimpleNamespace(where=torch.device("cuda", 0), _books=Books())
    assert CudaDevice.process_bytes(device) == 5 * gib + 7
