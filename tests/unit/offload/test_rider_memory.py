"""What a rider holds: no more than its pipeline will look at, and nothing once it is home."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.unit.offload.conftest import Studio
from tests.unit.offload.test_tickets import STREAMED, watched_blocks
from worker.offload import TicketCanceled, rider


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def ridden(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every rider, its pipeline and its noise scheduler so far, as long as somebody holds them."""
    seen: list[weakref.ref[Any]] = []
    own_pipeline = rider.own_pipeline

    def noting(*args: Any) -> Any:
        pipe = own_pipeline(*args)
        seen.extend(map(weakref.ref, (pipe, pipe.scheduler, args[-1])))
        return pipe

    monkeypatch.setattr(rider, "own_pipeline", noting)
    return seen


def alive(seen: list[weakref.ref[Any]]) -> list[Any]:
    return [one for ref in seen if (one := ref()) is not None]


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_rider_that_is_home_is_gone_before_python_looks_for_garbage(
    open_studio: Callable[..., Studio], ridden: list[weakref.ref[Any]]
) -> None:
    """Its pipeline and the methods put on it held each other, and 8 MB of device memory until a full collection."""
    studio = open_studio()
    for seed in range(3):
        studio.draw(seed=seed).result(60)
    studio.carousel.close()
    assert len(ridden) == 9
    assert alive(ridden) == []


@pytest.mark.parametrize("how", ["error", "cancel"])
@pytest.mark.parametrize("block", [0, 3, 7, 12, 17, 25])
@pytest.mark.usefixtures("no_garbage_collection")
def test_a_rider_that_ended_in_a_block_is_gone_whichever_it_was(
    open_studio: Callable[..., Studio], ridden: list[weakref.ref[Any]], block: int, how: str
) -> None:
    studio, tickets, known = open_studio(**STREAMED), [], threading.Event()

    def end(call: int) -> None:
        if call == block and how == "error":
            raise RuntimeError("planted")
        if call == block:
            assert known.wait(60)
            tickets[0].cancel()

    with watched_blocks(studio.pipe, end):
        tickets.append(studio.draw(prompt=f"a mug {block} {how}", steps=3))
        known.set()
        with pytest.raises(RuntimeError if how == "error" else TicketCanceled):
            tickets[0].result(60)
    tickets.clear()
    assert studio.draw(seed=4).result(60)
    studio.carousel.close()
    assert alive(ridden) == []


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_rider_that_failed_or_was_cancelled_is_gone_as_well(
    open_studio: Callable[..., Studio], ridden: list[weakref.ref[Any]]
) -> None:
    studio = open_studio()
    canceled, wrong = studio.draw(steps=500), studio.draw(height=60)
    canceled.cancel()
    with pytest.raises(TicketCanceled):
        canceled.result(60)
    with pytest.raises(ValueError, match="divisible"):
        wrong.result(60)
    studio.carousel.close()
    del canceled, wrong
    assert ridden
    assert alive(ridden) == []


def test_the_text_encoder_keeps_no_states_that_nobody_looks_at(open_studio: Callable[..., Studio]) -> None:
    """Asked for all hidden states it kept those of every layer: 92 MB for a rider, of which 2.6 are looked at."""
    studio = open_studio()
    layers = studio.pipe.text_encoder.layers
    first: list[weakref.ref[torch.Tensor]] = []
    late: list[bool] = []
    hooks = [
        layers[0].register_forward_hook(lambda _module, _args, output: first.append(weakref.ref(output))),
        layers[2].register_forward_hook(lambda *_: late.append(first[-1]() is not None)),
    ]
    try:
        image = studio.draw().result(60)
    finally:
        for hook in hooks:
            hook.remove()
    assert late == [False]
    assert image.tobytes() == studio.plain()
