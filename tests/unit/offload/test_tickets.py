"""Tickets: cancelling, failing, waiting, lanes, being alone, and what is left afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.unit.offload.conftest import Studio, same
from worker.offload import Carousel, TicketCanceled
from worker.offload.boarding import PATIENCE
from worker.offload.marks import LEAD, Mark

STREAMED = {"residents": 1, "ring_slots": 2, "packing": True, "poison": True}


class Gate:
    """Holds a ticket's on_step in the herald's thread until told; lets a test act while a ride goes on."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self.heard: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, step: int, steps: int) -> None:
        self.heard.append((stage, step, steps))
        self.reached.set()


def test_a_cancelled_ride_ends_and_the_others_do_not_notice(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    gate = Gate()
    long = studio.draw(seed=1, steps=400, on_step=gate)
    other = studio.draw(seed=2, steps=3)
    assert gate.reached.wait(30)
    long.cancel()
    with pytest.raises(TicketCanceled):
        long.result(60)
    assert same(other.result(60), studio.plain(seed=2, steps=3))
    assert len(gate.heard) < 400
    assert same(studio.draw(seed=3).result(60), studio.plain(seed=3))


def test_cancelling_in_line_never_starts_the_ride(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, seats=1)
    first = studio.draw(steps=200)
    second = studio.draw(steps=2)
    second.cancel()
    with pytest.raises(TicketCanceled):
        second.result(60)
    first.cancel()
    with pytest.raises(TicketCanceled):
        first.result(60)


def test_a_pipelines_error_reaches_its_ticket_alone(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    wrong = studio.draw(height=50)
    right = studio.draw(seed=9)
    with pytest.raises(ValueError, match="divisible"):
        wrong.result(60)
    assert same(right.result(60), studio.plain(seed=9))


@contextmanager
def watched_blocks(pipe: Any, seen: Callable[[int], None]) -> Iterator[list[int]]:
    """Tell `seen` the number of each block call, once it is done; holds those numbers."""
    calls: list[int] = []

    def note(*_: object) -> None:
        calls.append(len(calls))
        seen(calls[-1])

    blocks = [*pipe.text_encoder.layers[:-1], *pipe.transformer.noise_refiner, *pipe.transformer.layers]
    handles = [module.register_forward_hook(note) for module in blocks]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("block", range(20))
def test_an_error_in_any_block_leaves_the_engine_usable(open_studio: Callable[..., Studio], block: int) -> None:
    studio = open_studio(**STREAMED)

    def explode(call: int) -> None:
        if call == block:
            raise RuntimeError("planted")

    with watched_blocks(studio.pipe, explode), pytest.raises(RuntimeError, match="planted"):
        studio.draw(prompt=f"new {block}", steps=3).result(60)
    assert same(studio.draw(seed=4).result(60), studio.plain(seed=4))


@pytest.mark.parametrize("block", range(20))
def test_a_ride_that_is_cancelled_in_any_block_does_not_run_the_next(
    open_studio: Callable[..., Studio], block: int
) -> None:
    studio = open_studio(**STREAMED)
    tickets: list[Any] = []
    is_known = threading.Event()

    def cancel(call: int) -> None:
        if call == block:
            assert is_known.wait(60)
            tickets[0].cancel()

    with watched_blocks(studio.pipe, cancel) as calls:
        tickets.append(studio.draw(prompt=f"left {block}", steps=3))
        is_known.set()
        with pytest.raises(TicketCanceled):
            tickets[0].result(60)
        assert calls == list(range(block + 1))
    assert same(studio.draw(seed=4).result(60), studio.plain(seed=4))


def test_waiting_too_short_raises_and_the_picture_still_comes(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    ticket = studio.draw(seed=6, steps=20)
    with pytest.raises(TimeoutError):
        ticket.result(0.0)
    assert same(ticket.result(60), studio.plain(seed=6, steps=20))


def test_progress_is_told_step_by_step(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    heard: list[tuple[str, int, int]] = []
    complete = threading.Event()

    def on_step(stage: str, step: int, steps: int) -> None:
        heard.append((stage, step, steps))
        if stage == "decode":
            complete.set()

    studio.draw(steps=3, on_step=on_step).result(60)
    assert complete.wait(60)
    assert heard == [("encode", 0, 3), ("denoise", 1, 3), ("denoise", 2, 3), ("denoise", 3, 3), ("decode", 3, 3)]


def test_a_listener_that_fails_does_not_harm_the_ride(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)

    def on_step(*_: object) -> None:
        raise RuntimeError("a listener's own trouble")

    assert same(studio.draw(on_step=on_step).result(60), studio.plain())


def test_a_ticket_that_must_be_alone_waits_for_the_others_and_keeps_newcomers_out(
    open_studio: Callable[..., Studio],
) -> None:
    studio = open_studio(**STREAMED)
    order: list[str] = []
    lock = threading.Lock()

    def note(name: str) -> Callable[[str, int, int], None]:
        def on_step(stage: str, step: int, _steps: int) -> None:
            with lock:
                order.append(f"{name}:{stage}{step}")

        return on_step

    before = studio.draw(prompt="x", steps=6, on_step=note("before"))
    alone = studio.draw(prompt="y", steps=3, alone=True, on_step=note("alone"))
    after = studio.draw(prompt="z", steps=2, on_step=note("after"))
    for ticket in (before, alone, after):
        ticket.result(60)
    first, last = order.index("alone:encode0"), order.index("alone:denoise3")
    assert all(name.startswith("alone") for name in order[first : last + 1])


def test_an_interactive_ticket_overtakes_a_batch_ticket(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, seats=1)
    gate = Gate()
    batch = studio.draw(seed=1, steps=300, lane="batch", on_step=gate)
    assert gate.reached.wait(30)
    assert same(studio.draw(seed=2, steps=2).result(60), studio.plain(seed=2, steps=2))
    assert not batch.done()
    batch.cancel()


def test_a_batch_ticket_rides_before_the_last_of_many_interactive_ones(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, seats=1)
    order: list[str] = []
    gate = Gate()
    first = studio.draw(steps=300, on_step=gate)
    assert gate.reached.wait(30)
    batch = studio.draw(steps=1, lane="batch", on_step=lambda stage, *_: order.append(f"batch {stage}"))
    many = [studio.draw(steps=1, on_step=lambda stage, *_: order.append(f"now {stage}")) for _ in range(PATIENCE + 2)]
    first.cancel()
    for ticket in (batch, *many):
        ticket.result(60)
    assert order.index("batch encode") < len(order) - 1 - order[::-1].index("now encode")


def test_close_ends_every_ticket_and_refuses_new_ones(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, seats=1)
    tickets = [studio.draw(steps=400), studio.draw(steps=400)]
    studio.carousel.close()
    for ticket in tickets:
        with pytest.raises(TicketCanceled):
            ticket.result(60)
    with pytest.raises(TicketCanceled):
        studio.draw()
    studio.carousel.close()


def test_the_pipeline_itself_says_that_it_is_carried(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    with pytest.raises(RuntimeError, match="carried by a Carousel"):
        studio.pipe("a mug", height=64, width=64, num_inference_steps=1, guidance_scale=0.0)


def test_refreshing_residents_between_turns_changes_nothing(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED)
    ticket = studio.draw(seed=8, steps=12)
    studio.carousel.refresh()
    assert same(ticket.result(60), studio.plain(seed=8, steps=12))


def test_spoilt_latents_are_noticed(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio()
    weight = studio.pipe.transformer.all_final_layer["2-1"].linear.bias
    good = weight.data.clone()
    try:
        weight.data.fill_(float("nan"))
        spoilt = studio.draw()
        spoilt.result(60)
    finally:
        weight.data.copy_(good)
    assert not spoilt.finite
    fine = studio.draw()
    fine.result(60)
    assert fine.finite


def test_more_tickets_than_seats_all_end(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, seats=3)
    tickets = [studio.draw(seed=seed) for seed in range(16)]
    assert studio.carousel.in_flight >= 13
    for seed, ticket in enumerate(tickets):
        assert same(ticket.result(60), studio.plain(seed=seed))


def test_steps_cost_no_host_waits_in_the_engine(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that makes the host wait for the GPU may be called per picture, never per step."""
    counted: dict[str, int] = {}

    def count(name: str) -> None:
        original = getattr(torch.Tensor, name)

        def counting(self: torch.Tensor, *args: object, **kwargs: object) -> object:
            counted[name] = counted.get(name, 0) + 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counting)

    for name in ("item", "cpu", "tolist", "numpy", "nonzero", "__bool__", "__int__", "__float__"):
        count(name)
    stood: list[str] = []
    for owner, name in ((time, "sleep"), (torch.cuda, "synchronize"), (torch.cuda.Event, "synchronize")):
        monkeypatch.setattr(owner, name, lambda *_: stood.append(threading.current_thread().name))
    studio = open_studio(residents=1, ring_slots=2, packing=False)
    studio.draw(seed=1, steps=2).result(60)
    few = dict(counted)
    counted.clear()
    studio.draw(seed=2, steps=2, prompt="another").result(60)
    two = dict(counted)
    counted.clear()
    studio.draw(seed=2, steps=12, prompt="a third one").result(60)
    assert counted == two
    assert few
    assert "carousel" not in stood, "only `Lead` may wait there, by marks"
    assert two["__bool__"] == 2, "the host's own mask and the finite flag that a ticket reads: nothing of the device's"


def test_the_host_is_never_far_ahead_of_the_device(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a cancelled ticket, or a newcomer, would wait for all that was launched before."""
    studio = open_studio(**STREAMED)
    waits: list[Mark] = []

    def wait(mark: Mark) -> None:
        waits.append(mark)

    monkeypatch.setattr(Mark, "wait", wait)
    before = studio.carousel.report["turns"]
    studio.draw(steps=4).result(60)
    assert len(waits) >= studio.carousel.report["turns"] - before - LEAD - 2 > LEAD  # the last ones may still come


def test_carousels_do_not_leave_threads_behind() -> None:
    from tests.unit.offload.tiny import z_image

    before = set(threading.enumerate())
    for _ in range(2):
        Carousel(z_image(), device="cpu", **STREAMED).close()
    ours = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("carousel")]
    for thread in ours:
        thread.join(60)
    assert not any(thread.is_alive() for thread in ours)
