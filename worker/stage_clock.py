"""How long the stages of one picture took, from what the engine tells as it draws."""

from __future__ import annotations

import time
from collections.abc import Callable

OnStep = Callable[[str, int, int], None]


class StageClock:
    """Listens to one job's `on_step`; a new ride starts it anew. Its methods are called one after another."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begun: float | None = None
        self._steps: list[float] = []  # when each forward ended
        self._drawn: float | None = None
        self._upload_begun: float | None = None
        self._uploaded: float | None = None

    def listening(self, on_step: OnStep) -> OnStep:
        """`on_step`, with what it is told kept."""

        def told(stage: str, step: int, steps: int) -> None:
            if stage == "encode":
                self._begun, self._steps, self._drawn = self._now(), [], None
            elif stage == "denoise":
                self._steps.append(self._now())
            on_step(stage, step, steps)

        return told

    @property
    def begun(self) -> float | None:
        """When the last ride began, None before the first."""
        return self._begun

    def drawn(self) -> None:
        """The engine handed the picture over."""
        self._drawn = self._now()

    def upload_begins(self) -> None:
        """The picture goes to the storage now."""
        self._upload_begun = self._now()

    def uploaded(self) -> None:
        """The storage has it."""
        self._uploaded = self._now()

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, of those that were seen: text, denoise, decode, png, upload.

        The engine tells the end of each forward, not the end of the text encoder: the first forward is taken to be as
        long as the mean of the others. With one forward, text counts as denoise.
        """
        found: dict[str, float] = {}
        if self._begun is not None and self._steps:
            first, last, count = self._steps[0], self._steps[-1], len(self._steps)
            forward = (last - first) / (count - 1) if count > 1 else first - self._begun
            found["text"] = max(0.0, first - self._begun - forward)
            found["denoise"] = last - self._begun - found["text"]
            if count == 1:
                del found["text"]
            if self._drawn is not None:
                found["decode"] = max(0.0, self._drawn - last)
        if self._drawn is not None and self._upload_begun is not None:
            found["png"] = max(0.0, self._upload_begun - self._drawn)  # looked at by the guards, and encoded
        if self._upload_begun is not None and self._uploaded is not None:
            found["upload"] = self._uploaded - self._upload_begun
        return found
