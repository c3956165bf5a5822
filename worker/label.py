"""The visible label of GB 45438-2025: "AI生成" in a corner of the picture, where the operator wants it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image

#: White letters on black, drawn once with Noto Sans CJK, so that no machine needs a Chinese font.
LETTERS = Path(__file__).with_name("label.png")
#: The standard asks for letters of at least 5 % of the shorter side.
HEIGHT_SHARE = 0.06
PAD_SHARE = 0.4  # of the letters' height, around them
SHADE = 150  # of 255: dark enough that white letters are read on white


def put_label(image: Image.Image) -> Image.Image:
    """A copy of the picture with the label in its lower right corner."""
    height = max(8, round(min(image.size) * HEIGHT_SHARE))
    letters = _letters().resize(
        (round(_letters().width * height / _letters().height), height), Image.Resampling.LANCZOS
    )
    pad = round(height * PAD_SHARE)
    box = (letters.width + 2 * pad, letters.height + 2 * pad)
    left, top = image.width - box[0], image.height - box[1]
    labelled = image.convert("RGB")
    labelled.paste("black", (left, top), Image.new("L", box, SHADE))
    labelled.paste("white", (left + pad, top + pad), letters)
    labelled.info = dict(image.info)
    return labelled


@cache
def _letters() -> Image.Image:
    with Image.open(LETTERS) as letters:
        return letters.convert("L")
