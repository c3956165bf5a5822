"""A ticket: what a caller holds while its picture is being drawn."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from worker.offload.marks import Landing

Lane = Literal["interactive", "batch"]


class CarouselEnded(RuntimeError):
    """Raised by submit() and result() after an error that ended the carousel; it says which."""

    @classmethod
    def by(cls, failure: BaseException) -> CarouselEnded:
        """What everybody is told after `failure`, which is its cause."""
        ended = cls(f"the carousel ended: {type(failure).__name__}: {failure}")
        ended.__cause__ = failure
        return ended


class TicketCanceled(Exception):
    """Raised by result() of a ticket that was cancelled or whose carousel was closed."""


def as_exception(error: BaseException) -> Exception:
    """`error`, or one that names it where it is no Exception: a panic of Rust's ends one picture, not a thread."""
    if isinstance(error, Exception):
        return error
    told = RuntimeError(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told


def let_go_of_frames(error: BaseException) -> None:
    """Keep an error's traceback as text, in a note: frames hold device memory as long as somebody holds the error."""
    if not isinstance(error, TicketCanceled):
        error.add_note("Inside the carousel:\n" + "".join(traceback.format_exception(error)))
    links: list[BaseException | None] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to draw."""

    prompt: str
    height: int
    width: int
    seed: int
    steps: int
    guidance_scale: float = 0.0
    lane: Lane = "interactive"
    alone: bool = False
    extra: tuple[tuple[str, Any], ...] = ()  # further arguments of the pipeline's own


class Ticket:
    """Handle of one picture; every method may be called from any thread."""

    def __init__(self, order: Order, on_step: Callable[[str, int, int], None] | None = None) -> None:
        self.order, self.on_step = order, on_step
        self.canceled = False
        self.finite = True  # False: the latents or the picture held NaN or infinities (known after result())
        self.retries = 0  # after errors for want of memory
        self.text_seconds = 0.0  # from the request for the prompt's encoding to its answer, turns of others included
        self._wake: Callable[[], None] = lambda: None
        self._done = threading.Event()
        self._landing: Landing | None = None
        self._decode_mode = "plain"
        self._error: BaseException | None = None

    def result(self, timeout: float | None = None) -> Image.Image:
        """The picture; raises TimeoutError, TicketCanceled, or what the pipeline raised.

        Its `info["decode_mode"]` names the way of decoding where that was not the plain one.
        """
        started = time.monotonic()
        if not self._done.wait(timeout):
            raise TimeoutError(f"no picture after {timeout} s")
        if self._error is not None:
            raise self._error
        assert self._landing is not None
        left = None if timeout is None else max(timeout - (time.monotonic() - started), 0.001)
        return self._picture(self._landing, left)

    def cancel(self) -> None:
        """Ask the ride to end at its next block; a finished ticket stays as it is."""
        self.canceled = True
        self._wake()

    def done(self) -> bool:
        return self._done.is_set()

    @property
    def error(self) -> BaseException | None:
        """What kept it from being drawn; None while it rides, and where nothing did."""
        return self._error

    def finish(self, landing: Landing, decode_mode: str) -> None:
        """The engine: the picture is on its way to host memory."""
        self._landing, self._decode_mode = landing, decode_mode
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """The engine: no picture will come."""
        if not self._done.is_set():
            self._error = as_exception(error)
            self._done.set()

    def when_canceled(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def _picture(self, landing: Landing, timeout: float | None) -> Image.Image:
        """The landed bytes are height x width x 3 pixels and one flag: all values were finite."""
        flat = landing.wait(timeout)
        self.finite = bool(flat[-1])
        pixels = flat[:-1].view(-1, self.shape[1], 3)
        image = Image.fromarray(pixels.numpy(), mode="RGB").copy()
        if self._decode_mode != "plain":
            image.info["decode_mode"] = self._decode_mode
        return image

    @property
    def shape(self) -> tuple[int, int]:
        return self.order.height, self.order.width
