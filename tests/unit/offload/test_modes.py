"""torch's settings of a thread belong to one rider: neither company nor what it leaves behind changes pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from tests.unit.offload.tiny import z_image
from worker.offload import Carousel
from worker.offload.modes import OwnModes, modes_now

SMALL = {"height": 64, "width": 64, "guidance_scale": 0.0}
WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "grad mode": torch.enable_grad,
}


def pipeline_inside(way: Callable[[], AbstractContextManager[Any]]) -> Any:
    """A float32 pipeline whose whole call runs inside `way`, stops included."""
    pipe = z_image()
    for name in ("transformer", "text_encoder", "vae"):
        getattr(pipe, name).float()
    plain = type(pipe)

    class Inside(plain):  # type: ignore[misc, valid-type]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            with way():
                return plain.__call__(self, *arguments, **options)

    functools.update_wrapper(Inside.__call__, plain.__call__)
    Inside.__name__ = plain.__name__
    pipe.__class__ = Inside
    return pipe


def draw_alone(pipe: Any, seed: int) -> bytes:
    generator = torch.Generator("cpu").manual_seed(seed)
    images = pipe(prompt=f"mug {seed}", num_inference_steps=2 + 3 * seed, generator=generator, **SMALL).images
    return bytes(images[0].tobytes())


@pytest.mark.parametrize("name", WAYS)
def test_a_pipeline_that_stops_inside_a_mode_keeps_it_and_nobody_else_gets_it(name: str) -> None:
    """The first one home switched it off under the others, who then drew other pixels."""
    pipe = pipeline_inside(WAYS[name])
    want = [draw_alone(pipe, seed) for seed in range(3)]
    with Carousel(pipe, device="cpu", residents=1, ring_slots=2, packing=True, poison=True) as carousel:
        for _ in range(2):
            tickets = [
                carousel.submit(prompt=f"mug {seed}", seed=seed, steps=2 + 3 * seed, **SMALL) for seed in range(3)
            ]
            assert [ticket.result(60).tobytes() == plain for ticket, plain in zip(tickets, want, strict=True)] == [
                True
            ] * 3


@pytest.mark.parametrize("is_inside", [False, True])
def test_modes_of_two_that_take_turns_come_and_go_in_any_order(is_inside: bool) -> None:
    with torch.inference_mode(is_inside):
        outside = modes_now()
        one, other = OwnModes(outside), OwnModes(outside)
        one.enter()
        inference = torch.inference_mode(not is_inside)
        inference.__enter__()
        inner = modes_now()
        one.leave()
        assert modes_now() == outside
        other.enter()
        cast = torch.autocast("cpu", dtype=torch.bfloat16)
        cast.__enter__()
        torch.set_default_dtype(torch.float64)
        other.leave()
        assert modes_now() == outside
        one.enter()
        assert modes_now() == inner
        inference.__exit__(None, None, None)
        one.leave()
        other.enter()
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)
        cast.__exit__(None, None, None)
        other.leave()
        assert modes_now() == outside
