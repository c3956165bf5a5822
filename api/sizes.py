"""The sizes that can be drawn: read from text, and as an exact pattern for the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from core.model_profile import PIXELS_MOST, SIZE_LEAST, SIZE_MOST, SIZE_MULTIPLE

AUTO = "auto"
_SIZE = re.compile(r"([0-9]{2,4})x([0-9]{2,4})")
_SIDES = range(SIZE_LEAST, SIZE_MOST + 1, SIZE_MULTIPLE)


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) in pixels, or None for `auto`; raises PydanticCustomError saying the rule that it breaks."""
    if text == AUTO:
        return None
    match = _SIZE.fullmatch(text)
    if not match:
        raise PydanticCustomError("invalid_size", "size must be written WIDTHxHEIGHT, such as 1024x1024, or auto")
    width, height = int(match[1]), int(match[2])
    if width not in _SIDES or height not in _SIDES:
        message = "each side of size must be a multiple of {multiple} from {least} to {most}"
        values = {"multiple": SIZE_MULTIPLE, "least": SIZE_LEAST, "most": SIZE_MOST}
        raise PydanticCustomError("invalid_size", message, values)
    if width * height > PIXELS_MOST:
        message = "size has {pixels} pixels; at most {most} are drawn"
        raise PydanticCustomError("invalid_size", message, {"pixels": width * height, "most": PIXELS_MOST})
    return width, height


def size_pattern() -> str:
    """A regular expression (ECMA 262) for just the sizes that `parse_size` takes.

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
    return f"^(?:{AUTO}|{'|'.join(pairs)})$"


def _either(sides: Iterable[int]) -> str:
    return f"(?:{'|'.join(map(str, sides))})"
