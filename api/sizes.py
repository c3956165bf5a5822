"""The sizes that can be drawn: read from text, and as an exact pattern for the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from core.model_profile import PIXELS_MOST, SIZE_LEAST, SIZE_MOST, SIZE_MULTIPLE

AUTO = "auto"
#: OpenAI's sizes of more pixels than are drawn → the largest size of just their shape. Its clients know no others.
OPENAI_SIZES = {"1536x1024": "1248x832", "1024x1536": "832x1248", "1792x1024": "1344x768", "1024x1792": "768x1344"}
_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_SIDES = range(SIZE_LEAST, SIZE_MOST + 1, SIZE_MULTIPLE)


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) in pixels, or None for `auto`; raises PydanticCustomError saying the rule that it breaks."""
    if text == AUTO:
        return None
    match = _SIZE.fullmatch(text)
    if not match:
        raise PydanticCustomError("invalid_size", "size must be written WIDTHxHEIGHT, such as 1024x1024, or auto")
    width, height = int(match[1]), int(match[2])
    nearest = written(*nearest_size(width, height))
    if width not in _SIDES or height not in _SIDES:
        message = "each side of size must be a multiple of {multiple} from {least} to {most}, such as {nearest}"
        values = {"multiple": SIZE_MULTIPLE, "least": SIZE_LEAST, "most": SIZE_MOST, "nearest": nearest}
        raise PydanticCustomError("invalid_size", message, values)
    if width * height > PIXELS_MOST:
        message = "size has {pixels} pixels; at most {most} are drawn, such as {nearest}"
        values = {"pixels": width * height, "most": PIXELS_MOST, "nearest": nearest}
        raise PydanticCustomError("invalid_size", message, values)
    return width, height


def nearest_size(width: int, height: int) -> tuple[int, int]:
    """The size that is drawn whose shape and area are nearest: what a refusal proposes."""
    width, height = max(width, 1), max(height, 1)
    shrink = min(1.0, (PIXELS_MOST / (width * height)) ** 0.5, SIZE_MOST / max(width, height))
    sides = [max(SIZE_LEAST, round(side * shrink / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in (width, height)]
    while sides[0] * sides[1] > PIXELS_MOST:  # by rounding, a multiple at most
        sides[sides.index(max(sides))] -= SIZE_MULTIPLE
    return sides[0], sides[1]


def written(width: int, height: int) -> str:
    """As requests and answers have it."""
    return f"{width}x{height}"


def size_pattern(*also: str) -> str:
    """A regular expression (ECMA 262) for just the sizes that `parse_size` takes, and these.

    The sides whose product is small enough make a staircase: a square that holds for both, and a step for each side
    beyond it.
    """
    edge = int(PIXELS_MOST**0.5)
    square = _either(side for side in _SIDES if side <= edge)
    shorts_of: dict[tuple[int, ...], list[int]] = {}
    for short in (side for side in _SIDES if side <= edge):
        longs = tuple(side for side in _SIDES if edge < side <= PIXELS_MOST // short)
        shorts_of.setdefault(longs, []).append(short)
    pairs = [f"{square}x{square}"]
    for longs, shorts in shorts_of.items():
        if longs:
            pairs += [f"{_either(shorts)}x{_either(longs)}", f"{_either(longs)}x{_either(shorts)}"]
    return f"^(?:{'|'.join((AUTO, *also, *pairs))})$"


def _either(sides: Iterable[int]) -> str:
    return f"(?:{'|'.join(map(str, sides))})"
