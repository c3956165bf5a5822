"""What a start takes, by part, so that no second hides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by part; a part inside another is told as "outer: inner" and counted in both.

    One thread uses it; any may ask.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inside: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the part `name`, also where it ends in an exception."""
        self._inside.append(name)
        path, begun = ": ".join(self._inside), time.monotonic()
        self._seconds.setdefault(path, 0.0)
        try:
            yield
        finally:
            self._inside.pop()
            self._seconds[path] += time.monotonic() - begun

    @property
    def seconds(self) -> dict[str, float]:
        """So far, rounded to hundredths, in the order in which parts began."""
        return {path: round(seconds, 2) for path, seconds in list(self._seconds.items())}
