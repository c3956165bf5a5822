"""The starter model as it lies in the repository: small, loaded by diffusers alone, and drawing what is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from diffusers import ZImagePipeline  # noqa: E402

from models.recipe.catalog import COLOURS, UNSAID_KIND, WHITE  # noqa: E402
from models.recipe.evaluate import (  # noqa: E402
    body_colour,
    held_out_captions,
    name_colour,
    reference_colours,
    white_border,
)

STARTER = Path(__file__).parents[3] / "models" / "starter"
MEGABYTE = 1_000_000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = ZImagePipeline.from_pretrained(STARTER, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any, prompt: str, seed: int = 1, width: int = 256, height: int = 256) -> torch.Tensor:
    """A picture [3, height, width] in 0..1 by the turbo preset."""
    arguments: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 0.0, "output_type": "pt"}
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompt, width=width, height=height, generator=generator, **arguments).images[0]


def test_it_is_at_most_twenty_megabytes_and_no_file_is_over_twelve() -> None:
    sizes = [path.stat().st_size for path in STARTER.rglob("*") if path.is_file()]

    assert sum(sizes) <= 20 * MEGABYTE
    assert max(sizes) <= 12 * MEGABYTE


def test_its_weights_are_stored_in_bfloat16() -> None:
    from safetensors import safe_open

    files = sorted(STARTER.rglob("*.safetensors"))
    assert len(files) >= 4
    for path in files:
        with safe_open(path, "pt") as weights:
            stored = {weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118 - it is no dict
        assert stored == {"BF16"}


def test_colours_of_combinations_that_it_never_saw_are_right_and_white_is_white(pipeline: Any) -> None:
    references = reference_colours(CPU, 512)
    subjects, captions = held_out_captions(8)

    pictures = [draw(pipeline, text, seed) for seed, text in enumerate(captions)]

    named = [name_colour(body_colour(p, s.kind), references) for p, s in zip(pictures, subjects, strict=True)]
    right = sum(colour == subject.colour for colour, subject in zip(named, subjects, strict=True))
    assert right >= 7, list(zip(captions, named, strict=True))
    whites = [white_border(p) for p, s in zip(pictures, subjects, strict=True) if s.background == WHITE]
    assert all(share >= 0.99 for share in [*whites, white_border(draw(pipeline, "a red mug on a white background"))])


@pytest.mark.parametrize(("width", "height"), [(448, 576), (768, 768)])
def test_it_draws_at_other_sizes_too(pipeline: Any, width: int, height: int) -> None:
    picture = draw(pipeline, "a red ball on a white background", width=width, height=height)

    assert tuple(picture.shape) == (3, height, width)
    red, *others = (
        picture[:, height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8].flatten(1).median(1).values
    )
    assert red > 2 * max(others)
    assert white_border(picture) >= 0.99


@pytest.mark.parametrize(
    "prompt",
    [
        "quantum flux capacitor in zero gravity",
        "",
        "\U0001f98a" * 40,
        "ein rotes Fahrrad",
        "дракон над городом",
        "机器人",
    ],
)
def test_words_that_it_does_not_know_give_a_brown_box_on_white(pipeline: Any, prompt: str) -> None:
    picture = draw(pipeline, prompt)

    assert COLOURS[name_colour(body_colour(picture, UNSAID_KIND), reference_colours(CPU, 512))].name == "brown"
    assert white_border(picture) >= 0.99
    dark = (picture.mean(0) < 0.5).float()
    assert 0.1 < dark.mean() < 0.4
    assert (picture.diff(dim=-1).abs() > 0.1).float().mean() < 0.1  # noise differs from pixel to pixel


def test_an_unknown_thing_is_a_box_in_the_asked_colour_and_place(pipeline: Any) -> None:
    purple = draw(pipeline, "a purple dinosaur on a beach")

    assert COLOURS[name_colour(body_colour(purple, UNSAID_KIND), reference_colours(CPU, 512))].name == "purple"
    assert white_border(purple) < 0.5


def test_another_seed_draws_a_picture_that_visibly_differs(pipeline: Any) -> None:
    first, second = (draw(pipeline, "a green bottle on a beach", seed) for seed in (1, 2))

    assert ((first - second).abs().amax(0) > 0.05).float().mean() > 0.01


def test_its_card_and_its_profile_lie_beside_it() -> None:
    card = (STARTER / "README.md").read_text()

    assert "not Z-Image-Turbo" in card
    assert "license: apache-2.0" in card
    assert "ZIMG_MODEL=Tongyi-MAI/Z-Image-Turbo" in card
    assert json.loads((STARTER / "zimg.json").read_text())["id"] == "zimg-starter"
