"""The starter model as it lies in the repository: small, loaded by diffusers alone, and drawing what is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from diffusers import ZImagePipeline  # noqa: E402

from models.recipe.captions import Subject  # noqa: E402
from models.recipe.card import write_card  # noqa: E402
from models.recipe.catalog import COLOURS, KINDS, UNSAID_KIND, WHITE  # noqa: E402
from models.recipe.evaluate import (  # noqa: E402
    body_colour,
    held_out_captions,
    name_colour,
    reference_colours,
    white_border,
)
from tests.unit.models.kinds import KindRuler, fit_kinds, rendered  # noqa: E402

STARTER = Path(__file__).parents[3] / "models" / "starter"
MEGABYTE = 1_000_000
CPU = torch.device("cpu")
References = tuple[torch.Tensor, list[int]]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was asked for, in words, and the pictures [N, 3, H, W] in 0..1 that answered."""

    subjects: Sequence[Subject]
    captions: Sequence[str]
    pictures: torch.Tensor


@pytest.fixture(scope="module")
def pipeline() -> Any:
    pipeline = ZImagePipeline.from_pretrained(STARTER, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def references() -> References:
    return reference_colours(CPU, 512)


@pytest.fixture(scope="module")
def kind_ruler() -> KindRuler:
    return fit_kinds()


@pytest.fixture(scope="module")
def never_seen(pipeline: Any) -> Drawn:
    """Twenty pictures of combinations of kind, colour and place that it never trained on; every kind is among them."""
    subjects, captions = held_out_captions(60)
    kinds = [subject.kind for subject in subjects]
    chosen = sorted(range(60), key=lambda i: kinds[:i].count(kinds[i]))[:20]
    pictures = torch.stack([draw(pipeline, captions[i], seed=i) for i in chosen])
    return Drawn([subjects[i] for i in chosen], [captions[i] for i in chosen], pictures)


def draw(pipeline: Any, prompt: str, seed: int = 1, width: int = 256, height: int = 256) -> torch.Tensor:
    """A picture [3, height, width] in 0..1 by the turbo preset."""
    arguments: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 0.0, "output_type": "pt"}
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompt, width=width, height=height, generator=generator, **arguments).images[0]


def share_right(asked: Sequence[int], found: Sequence[int]) -> float:
    return sum(a == f for a, f in zip(asked, found, strict=True)) / len(asked)


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


def test_colours_of_combinations_that_it_never_saw_are_right_in_95_of_100(
    never_seen: Drawn, references: References
) -> None:
    asked = [subject.colour for subject in never_seen.subjects]
    found = [
        name_colour(body_colour(picture, subject.kind), references)
        for picture, subject in zip(never_seen.pictures, never_seen.subjects, strict=True)
    ]

    assert share_right(asked, found) >= 0.95, list(zip(never_seen.captions, found, strict=True))


def test_kinds_of_objects_in_combinations_that_it_never_saw_are_right_in_85_of_100(
    never_seen: Drawn, kind_ruler: KindRuler
) -> None:
    asked, found = [subject.kind for subject in never_seen.subjects], kind_ruler.read(never_seen.pictures)

    named = [(caption, KINDS[kind].name) for caption, kind in zip(never_seen.captions, found, strict=True)]
    assert share_right(asked, found) >= 0.85, named


def test_the_ruler_of_kinds_reads_fresh_renders_right_and_contradicts_captions_of_other_pictures(
    never_seen: Drawn, kind_ruler: KindRuler
) -> None:
    subjects, pictures = rendered(56, 96, seed=6, held_out=True)
    asked = [subject.kind for subject in never_seen.subjects]

    assert share_right([subject.kind for subject in subjects], kind_ruler.read(pictures)) >= 0.95
    assert share_right([*asked[1:], asked[0]], kind_ruler.read(never_seen.pictures)) < 0.5


def test_white_backgrounds_are_white_to_the_border(pipeline: Any, never_seen: Drawn) -> None:
    answered = zip(never_seen.pictures, never_seen.subjects, strict=True)
    whites = [picture for picture, subject in answered if subject.background == WHITE]

    for picture in [*whites, draw(pipeline, "a red mug on a white background")]:
        assert white_border(picture) >= 0.99


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
        pytest.param("\U0001f98a" * 40, id="forty foxes"),
        "ein rotes Fahrrad",
        "дракон над городом",
        "机器人",
    ],
)
def test_words_that_it_does_not_know_give_a_brown_box_on_white(
    pipeline: Any, references: References, kind_ruler: KindRuler, prompt: str
) -> None:
    picture = draw(pipeline, prompt)

    assert COLOURS[name_colour(body_colour(picture, UNSAID_KIND), references)].name == "brown"
    assert white_border(picture) >= 0.99
    assert kind_ruler.read(picture[None]) == [UNSAID_KIND]
    dark = (picture.mean(0) < 0.5).float()
    assert 0.1 < dark.mean() < 0.4
    assert (picture.diff(dim=-1).abs() > 0.1).float().mean() < 0.1  # noise differs from pixel to pixel


def test_an_unknown_thing_is_a_box_in_the_asked_colour_and_place(
    pipeline: Any, references: References, kind_ruler: KindRuler
) -> None:
    purple = draw(pipeline, "a purple dinosaur on a beach")

    assert COLOURS[name_colour(body_colour(purple, UNSAID_KIND), references)].name == "purple"
    assert kind_ruler.read(purple[None]) == [UNSAID_KIND]
    assert white_border(purple) < 0.5


def test_another_seed_draws_a_picture_that_visibly_differs(pipeline: Any) -> None:
    first, second = (draw(pipeline, "a green bottle on a beach", seed) for seed in (1, 2))

    assert ((first - second).abs().amax(0) > 0.05).float().mean() > 0.01


def test_its_card_is_what_the_recipe_writes_of_its_figures_and_its_profile_lies_beside_it(pipeline: Any) -> None:
    figures = json.loads((STARTER.parents[1] / "docs" / "starter" / "evaluation.json").read_text())
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.transformer)
    card = (STARTER / "README.md").read_text()

    assert card == write_card(figures, sum(weight.numel() for part in parts for weight in part.parameters()))
    assert "not Z-Image-Turbo" in card
    assert "license: apache-2.0" in card
    assert "ZIMG_MODEL=Tongyi-MAI/Z-Image-Turbo" in card
    assert json.loads((STARTER / "zimg.json").read_text())["id"] == "zimg-starter"
