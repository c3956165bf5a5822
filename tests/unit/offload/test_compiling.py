"""Nothing is compiled while jobs ride, and the form of a shape does not depend on what came before."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from tests.unit.offload.tiny import z_image
from worker.offload import Carousel

SUBJECT = "a white ceramic teapot on a pure white background "


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()
    counters.clear()


def test_prompts_of_all_lengths_and_pictures_of_all_sizes_compile_nothing_after_the_start() -> None:
    options = {"compile": "on", "compile_backend": "eager", "warm_up": ((96, 96),), "captions": (128,)}
    with Carousel(z_image(), device="cpu", residents=2, ring_slots=2, packing=True, **options) as carousel:
        compiled = counters["stats"]["unique_graphs"]
        assert compiled > 4, "the blocks are compiled"
        for words in (1, 9, 30, 60, 99):
            size = {"height": 64 + 16 * (words % 5), "width": 64 + 16 * (words % 4)}
            carousel.submit(prompt=f"{words} " + "tea pot " * words, seed=words, steps=1, **size).result(60)
            carousel.submit(prompt=f"{words} tea", seed=1, steps=1, guidance_scale=2.0, **size).result(60)
        assert counters["stats"]["unique_graphs"] == compiled
        named = {"prompt": SUBJECT, "height": 96, "width": 96, "seed": 1, "steps": 1}
        other = {"prompt": SUBJECT * 4, "height": 80, "width": 64, "seed": 2, "steps": 1}
        first = [carousel.submit(**order).result(60).tobytes() for order in (named, other)]
        second = [carousel.submit(**order).result(60).tobytes() for order in (other, named)]
        assert first == second[::-1], "the form of a shape does not depend on what came before"
        modes = [carousel.submit(**order).result(60).info.get("decode_mode", "plain") for order in (named, other)]
        assert modes == ["plain", "strips"], "only named sizes have a decoder compiled for them"
