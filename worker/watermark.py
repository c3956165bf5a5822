"""The VRAM watermark: a card that stays nearly full stops the intake, until it has room again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from core.logs import get_logger
from worker.card import CardMemory

HIGH_SHARE, LOW_SHARE, HOLD_SECONDS = 0.92, 0.88, 60.0
SAMPLE_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(slots=True)
class Watermark:
    """Decides whether to take jobs in, from shares of the card's memory in use. Pure: the caller has the clock."""

    high: float = HIGH_SHARE
    low: float = LOW_SHARE
    hold_seconds: float = HOLD_SECONDS
    is_closed: bool = False
    _over_since: float | None = None

    def look(self, share: float, now: float) -> bool:
        """Take in a reading; True if the intake is now closed. Between the marks nothing changes."""
        if self.is_closed:
            self.is_closed = share >= self.low
            self._over_since = None
        elif share <= self.high:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = now
        elif now - self._over_since >= self.hold_seconds:
            self.is_closed = True
        return self.is_closed

    def forget(self) -> None:
        """Know no reading any more."""
        self.is_closed, self._over_since = False, None


def watermark_of(budget_share: float) -> Watermark:
    """The watermark of a card of which the engine may fill that share: what it may do is no reason to close."""
    high = max(HIGH_SHARE, min(budget_share, 1.0))
    return Watermark(high=high, low=high - (HIGH_SHARE - LOW_SHARE))


class WatermarkGuard:
    """Samples the card; while it is over the mark nothing is admitted, and the idle engine's cache is emptied."""

    def __init__(
        self,
        read: Callable[[], CardMemory],
        *,
        in_flight: Callable[[], int],
        empty_cache: Callable[[], None],
        watermark: Watermark | None = None,
        sample_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        self._read, self._in_flight, self._empty_cache = read, in_flight, empty_cache
        self._watermark, self._sample_seconds = watermark or Watermark(), sample_seconds
        self._admits = threading.Event()
        self._admits.set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watermark", daemon=True)
        self._is_blind = False
        self.crossings = 0

    @property
    def admits(self) -> bool:
        """Whether jobs may be taken in."""
        return self._admits.is_set()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=5)

    def sample(self, now: float) -> None:
        """One reading and what follows from it."""
        memory = self._read()
        closed = self._watermark.look(memory.share, now)
        if closed and self.admits:
            self._admits.clear()
            self.crossings += 1
            log.error("VRAM watermark", action="watermark", used_bytes=memory.used, total_bytes=memory.total,
                      share=round(memory.share, 3))  # fmt: skip
        elif not closed and not self.admits:
            self._admits.set()
            log.warning("VRAM is below the watermark again", action="watermark", share=round(memory.share, 3))
        if closed and self._in_flight() == 0:
            self._empty()

    def _empty(self) -> None:
        """Give back what the idle engine holds in vain; that it fails says nothing about the card's memory."""
        try:
            self._empty_cache()
        except Exception:
            log.exception("the engine's cache could not be emptied; it will be tried again", action="watermark")

    def _run(self) -> None:
        while not self._closed.wait(self._sample_seconds):
            self.look()

    def look(self) -> None:
        """One sample, if the card can be read; while it can not, nothing is watched and nobody kept out."""
        try:
            self.sample(time.monotonic())
            self._is_blind = False
        except Exception:
            if not self._is_blind:
                log.exception("the card can not be read: its memory is not watched until it can", action="watermark")
            self._is_blind = True
            self._watermark.forget()
            self._admits.set()
