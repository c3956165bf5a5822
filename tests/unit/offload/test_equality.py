"""Pixels are the plain pipeline's, bit for bit, however the weights travel and whoever rides along."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.unit.offload.conftest import Studio, same
from tests.unit.offload.tiny import FAMILIES

ARRANGEMENTS = {
    "in place": {},
    "all streamed, packed": {"residents": 0, "ring_slots": 2, "packing": True, "poison": True},
    "some resident, one slot": {"residents": 3, "ring_slots": 1, "packing": True, "poison": True},
    "some resident, raw": {"residents": 2, "ring_slots": 3, "packing": False, "poison": True},
    "all resident, packed": {"residents": 99, "ring_slots": 1, "packing": True, "poison": True},
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_the_plain_pipelines(open_studio: Callable[..., Studio], family: str, arrangement: str) -> None:
    studio = open_studio(family, **ARRANGEMENTS[arrangement])
    image = studio.draw(seed=11).result(60)
    assert same(image, studio.plain(seed=11))
    assert len(set(image.tobytes())) > 30, "a flat picture would prove nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_company_of_other_sizes_steps_and_prompts_changes_nothing(
    open_studio: Callable[..., Studio], family: str
) -> None:
    studio = open_studio(family, residents=1, ring_slots=2, packing=True, poison=True, seats=5)
    wishes = [
        {"prompt": "a mug", "seed": 1, "steps": 3},
        {"prompt": "a blue lamp on a white ground", "seed": 2, "steps": 1, "height": 96, "width": 64},
        {"prompt": "tent", "seed": 3, "steps": 2, "height": 64, "width": 128},
        {"prompt": "a mug", "seed": 4, "steps": 2},
        {"prompt": "a ball", "seed": 5, "steps": 4, "lane": "batch"},
    ]
    tickets = [studio.draw(**wish) for wish in wishes]
    for ticket, wish in zip(tickets, wishes, strict=True):
        assert same(ticket.result(60), studio.plain(**wish)), wish


def test_guidance_with_two_prompts_in_one_batch_is_equal(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(residents=2, ring_slots=2, packing=True, poison=True)
    for _ in range(2):
        assert same(studio.draw(guidance_scale=3.0).result(60), studio.plain(guidance_scale=3.0))


def test_a_repeated_prompt_skips_text_and_refiner_and_is_equal(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(residents=0, ring_slots=2, packing=True, poison=True)
    assert same(studio.draw(seed=1).result(60), studio.plain(seed=1))
    before = studio.carousel.report["turns"]
    assert same(studio.draw(seed=2).result(60), studio.plain(seed=2))
    noise_refiner, layers, decode = 2, 6, 1
    assert studio.carousel.report["turns"] - before == 2 * (noise_refiner + layers) + decode


@pytest.mark.parametrize("words", [0, 3, 400])
def test_short_and_overlong_prompts_are_masked_as_the_pipeline_does(
    open_studio: Callable[..., Studio], words: int
) -> None:
    studio = open_studio(residents=0, ring_slots=2, packing=True)
    prompt = "mug " * words
    assert same(studio.draw(prompt=prompt).result(60), studio.plain(prompt=prompt))


def test_float32_weights_ride_unpacked_and_are_equal(open_studio: Callable[..., Studio]) -> None:
    from worker.offload import Carousel

    pipe = FAMILIES["z-image"](dtype=torch.float32)
    plain = pipe(
        prompt="a mug", height=64, width=64, num_inference_steps=2, guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(3),
    ).images[0]  # fmt: skip
    with Carousel(pipe, device="cpu", residents=1, ring_slots=2, packing=True, poison=True) as carousel:
        image = carousel.submit(prompt="a mug", height=64, width=64, seed=3, steps=2).result(60)
    assert image.tobytes() == plain.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_close_leaves_the_pipeline_exactly_as_it_was(family: str) -> None:
    from worker.offload import Carousel

    pipe = FAMILIES[family]()
    pipe(
        prompt="a mug", height=64, width=64, num_inference_steps=1
    )  # the libraries leave marks of their own at first use
    modules = [c for c in pipe.components.values() if isinstance(c, torch.nn.Module)]
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
    attributes = [set(vars(inner)) for module in modules for inner in module.modules()]
    carousel = Carousel(pipe, device="cpu", residents=1, ring_slots=2, packing=True, poison=True)
    carousel.submit(prompt="a mug", height=64, width=64, seed=1, steps=1).result(60)
    carousel.close()
    for module, state in zip(modules, before, strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    after = [set(vars(inner)) for module in modules for inner in module.modules()]
    assert after == attributes


def test_float16_is_refused_with_a_reason() -> None:
    from worker.offload import Carousel

    with pytest.raises(ValueError, match="black pictures"):
        Carousel(FAMILIES["z-image"](dtype=torch.float16), device="cpu")
