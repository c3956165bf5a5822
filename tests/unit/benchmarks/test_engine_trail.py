"""The trail tells which part of the pipeline drew otherwise."""

from typing import Any

import pytest
import torch

from benchmarks.engine_bench import plain_picture
from benchmarks.engine_trail import trail_of, where_they_part
from tests.unit.offload.tiny import FAMILIES
from worker.offload import Carousel


@pytest.fixture(name="pipe", scope="module")
def pipe_fixture() -> Any:
    return FAMILIES["z-image"]()


def trail_of_a_picture(pipe: Any, prompt: str) -> list[tuple[str, str]]:
    with trail_of(pipe) as trail:
        plain_picture(pipe, prompt, 64, 2, 1)
    return trail


def test_the_engines_trail_is_the_plain_pipelines(pipe: Any) -> None:
    plain = trail_of_a_picture(pipe, "mug 1")

    with (
        Carousel(pipe, 20.0, device="cpu", compile="off", warm_up=((64, 64),), residents=2) as carousel,
        trail_of(pipe) as ours,
    ):
        carousel.submit(prompt="mug 1", height=64, width=64, seed=1, steps=2).result(100)

    assert ours == plain
    assert {name.rsplit(" ", 1)[0] for name, _ in plain} == {
        "denoiser's input", "denoiser's output", "decoder's input", "decoder's output",
    }  # fmt: skip


def test_another_prompt_parts_at_the_denoisers_input(pipe: Any) -> None:
    assert "denoiser's input" in where_they_part(trail_of_a_picture(pipe, "mug"), trail_of_a_picture(pipe, "cup"))


def test_another_decoder_parts_at_the_decoders_output(pipe: Any) -> None:
    plain = trail_of_a_picture(pipe, "mug")
    weight = pipe.vae.decoder.conv_in.weight
    kept = weight.data.clone()
    weight.data.add_(torch.full_like(weight, 0.5))

    other = trail_of_a_picture(pipe, "mug")
    weight.data.copy_(kept)

    assert "decoder's output" in where_they_part(plain, other)
