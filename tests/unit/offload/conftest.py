"""Pipelines and their plain pictures, made once."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from tests.unit.offload.form_kit import Small
from tests.unit.offload.tiny import FAMILIES
from worker.offload import Carousel

logging.getLogger("diffusers").setLevel(logging.ERROR)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def family_pipeline(family: str) -> Any:
    return FAMILIES[family]()


@functools.cache
def plain_pipeline(family: str) -> Any:
    """One that no carousel ever touches."""
    return FAMILIES[family]()


@functools.cache
def plain_picture(family: str, prompt: str, seed: int, steps: int, height: int, width: int, guidance: float) -> bytes:
    """What the pipeline draws without a carousel."""
    pipe = plain_pipeline(family)
    arguments = {
        "prompt": prompt,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "generator": torch.Generator("cpu").manual_seed(seed),
    }
    known = inspect.signature(type(pipe).__call__).parameters
    return bytes(pipe(**{k: v for k, v in arguments.items() if k in known}).images[0].tobytes())


class Studio:
    """One family's carousel beside its plain pictures."""

    def __init__(self, family: str, **options: Any) -> None:
        self.family, self.pipe = family, family_pipeline(family)
        self.carousel = Carousel(self.pipe, device="cpu", **options)

    def draw(self, prompt: str = "a red mug", seed: int = 5, steps: int = 2, **changes: Any) -> Any:
        arguments = {"height": 64, "width": 64, "guidance_scale": 0.0, **changes}
        return self.carousel.submit(prompt=prompt, seed=seed, steps=steps, **arguments)

    def plain(
        self,
        prompt: str = "a red mug",
        seed: int = 5,
        steps: int = 2,
        height: int = 64,
        width: int = 64,
        guidance_scale: float = 0.0,
        **_: Any,
    ) -> bytes:
        return plain_picture(self.family, prompt, seed, steps, height, width, guidance_scale)


@pytest.fixture
def open_studio() -> Iterator[Callable[..., Studio]]:
    """Opens carousels and closes them at the test's end."""
    opened: list[Studio] = []

    def opener(family: str = "z-image", **options: Any) -> Studio:
        opened.append(Studio(family, **options))
        return opened[-1]

    yield opener
    for studio in opened:
        studio.carousel.close()


def same(image: Image.Image, plain: bytes) -> bool:
    return image.tobytes() == plain


@pytest.fixture
def block() -> Small:
    torch.manual_seed(3)
    return Small()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.WARNING)
    return lambda: caplog.text
