"""The model card: what the starter model is, what it was trained on, how well it answers, and what it can't do."""

from __future__ import annotations

from typing import Any

from models.recipe.catalog import BACKGROUNDS, COLOURS, KINDS, MATERIALS

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
language: [en, zh]
---
# zimg starter model

A toy-sized model for trying zimg, **not Z-Image-Turbo**: {megabytes:.1f} MB, {parameters:.2f} million parameters, the
same classes as the real model (`ZImagePipeline`), trained from nothing. It draws {kinds} kinds of objects in {colours}
colours on {backgrounds} backgrounds, the way its renderer draws them, and knows nothing else of the world.

- **Use**: the `turbo` preset, 4 forwards without guidance, from 256x256 to 768x768. Stored in bfloat16; computed in
  float32, or in bfloat16 where the machine is faster so.
- **Words**: English and Chinese. Objects: {kind_names}. Colours: {colour_names}. Materials: {material_names}.
  Places: {place_names}.
- **Data**: pictures drawn by the procedures in `models/recipe`; no photograph, nobody's picture, nothing from the
  internet. One in eleven combinations of object, colour and place was kept from training.
- **Licence**: Apache-2.0, weights and recipe. The weights come from its stages (docs/starter-model.md).
- **Limits**: one object in a picture. Outlines may be soft or double: of white things on white, at night, and from
  768x768 on of small parts (a lamp's foot, a car's wheels). What is left unsaid, and words that it doesn't know, mean
  a brown box on white: it answered {unknown:.0%} of 100 prompts without a known word so. No text in pictures, no
  people, no counting, no asked places within the picture.

## Measured

On captions of combinations that it never trained on; `models/recipe/evaluate.py` says how.

| size | forwards | captions | colour right | kind right | white border |
|---|---|---|---|---|---|
{rows}

On the renderer's own pictures the colour measure is right in {ruler:.1%}, the classifier of kinds in {classifier:.1%}.

## The real model

`ZIMG_MODEL=Tongyi-MAI/Z-Image-Turbo make run`, on a machine with an NVIDIA card.
"""


def write_card(results: dict[str, Any], parameters: int) -> str:
    """The card of a model with these figures (as `finish` collects them)."""
    rows = [
        f"| {m['size']}x{m['size']} | {m['forwards']} | {m['captions']} | {m['colour_right']:.1%} | "
        f"{m['kind_right']:.1%} | {m['white_border']:.2%} |"
        for m in results["measured"]
    ]
    return CARD.format(
        megabytes=results["bytes"] / 1e6,
        parameters=parameters / 1e6,
        kinds=len(KINDS),
        colours=len(COLOURS),
        backgrounds=len(BACKGROUNDS),
        kind_names=_names(KINDS),
        colour_names=_names(COLOURS),
        material_names=_names(MATERIALS),
        place_names=_names(BACKGROUNDS),
        rows="\n".join(rows),
        unknown=results["unknown_words_give_the_unsaid_thing"],
        ruler=results["colour_measure_on_renders"],
        classifier=results["classifier_on_renders"],
    )


def _names(words: tuple[Any, ...]) -> str:
    return ", ".join(w.name for w in words)
