"""Who tries keys is soon not asked any more: wrong ones are counted by address, before anything is looked up."""

from __future__ import annotations

import time
from collections.abc import Callable

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from api.pacing import STRIKES
from core.errors import RateLimited

FAILURES_A_MINUTE = 30
GOOD_KEPT = 10_000


class FailedKeys:
    """Counts of one process, in memory; forgotten after a minute. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._item = RateLimitItemPerMinute(FAILURES_A_MINUTE)
        self._good: set[str] = set()
        self._clock = clock

    def check(self, address: str, key_hash: str) -> None:
        """Raises RateLimited for an address with too many failures; a key that was good here passes all the same."""
        if key_hash in self._good or self._limiter.test(self._item, address):
            return
        STRIKES.append(address)
        reset, _ = self._limiter.get_window_stats(self._item, address)
        raise RateLimited(
            "Too many wrong keys from this address; wait, then send the right one.",
            retry_after_seconds=max(1, int(reset - self._clock()) + 1),
        )

    def failed(self, address: str, key_hash: str = "") -> None:
        """A key or code was wrong; one that was good before is no longer."""
        self._good.discard(key_hash)
        STRIKES.append(address)
        self._limiter.hit(self._item, address)

    def succeeded(self, key_hash: str) -> None:
        """A key was good: one hostile neighbour behind the same address shall not lock it out."""
        if len(self._good) >= GOOD_KEPT:
            self._good.clear()
        self._good.add(key_hash)
