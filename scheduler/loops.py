"""A loop that outlives Redis outages: turn after turn, with back-off while Redis is away, until told to stop."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from core.errors import RedisUnavailable
from core.logs import get_logger

BACKOFF_FIRST_SECONDS, BACKOFF_MOST_SECONDS = 0.1, 2.0
FAILED_SECONDS = 30.0  # until a loop that ends no process is tried again

log = get_logger(__name__)


@dataclass
class Loop:
    """Calls `turn` until `stop` is set, `pause_seconds` after each.

    An unexpected error stops the whole process, which is then started anew; of a loop that is not `vital` it is said,
    and the turn tried again later: what it can not do must not stop the release of jobs.
    """

    name: str
    turn: Callable[[], None]
    stop: threading.Event
    pause_seconds: float = 0.0
    on_alive: Callable[[str], None] = field(default=lambda name: None)
    vital: bool = True
    failed: bool = False
    _outages: int = 0

    def run(self) -> None:
        """Run in this thread."""
        while not self.stop.is_set():
            try:
                self.turn()
                self._back_again()
                self.on_alive(self.name)
                pause = self.pause_seconds
            except RedisUnavailable as error:
                pause = self._wait_seconds(error)
                self.on_alive(self.name)
            except Exception:
                if not self.vital:
                    log.exception("loop failed; it is tried again", action=self.name)
                    self.stop.wait(FAILED_SECONDS)
                    continue
                log.exception("loop failed; the process ends and is started again", action=self.name)
                self.failed = True
                self.stop.set()
                return
            if pause:
                self.stop.wait(pause)

    def start(self) -> threading.Thread:
        """Run in a thread of its own."""
        thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        thread.start()
        return thread

    def _wait_seconds(self, error: RedisUnavailable) -> float:
        if self._outages == 0:
            log.warning("redis away", action=self.name, error=str(error))
        wait: float = min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0**self._outages)
        self._outages = min(self._outages + 1, 16)
        return wait * random.uniform(0.5, 1.0)

    def _back_again(self) -> None:
        if self._outages:
            log.info("redis back", action=self.name)
        self._outages = 0
