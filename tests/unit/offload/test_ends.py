"""How a carousel ends: who is told, what is let go of, and what is left of the pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from tests.unit.offload.conftest import Studio
from tests.unit.offload.tiny import z_image
from worker.offload import Carousel, CarouselEnded, TicketCanceled
from worker.offload.assembly import Assembly
from worker.offload.engine import Engine
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
    while not all(ticket.done() for ticket in tickets):
        pass
    assert all(landing._source is not None for landing in landings), "still being copied"
    for copy in copies:
        copy.is_over = True

    before = len(landings)
    last = studio.draw(seed=4)
    while not last.done():
        pass

    assert [landing._source for landing in landings[:before]] == [None] * before
    copies[-1].is_over = True


def test_a_ticket_of_an_order_is_failed_once() -> None:
    ticket = Ticket(Order(prompt="a mug", seed=7, steps=2, **SMALL))
    ticket.fail(Panic("first"))
    ticket.fail(ValueError("second"))
    with pytest.raises(RuntimeError, match="first"):
        ticket.result(1)
