"""The release loop: from Redis, in fair order, to the Celery queue."""

from __future__ import annotations

from celery import Celery

from core.broker import publish
from core.job_store import JobStore

#: The longest that a release can wait when a wake-up was lost with a killed scheduler.
TICK_SECONDS = 0.05
AT_ONCE = 64


class Releaser:
    """Releases what the window allows and publishes it. Any number may run at once."""

    def __init__(self, store: JobStore, app: Celery) -> None:
        self._store = store
        self._app = app
        self.released = 0
        self.published = 0

    def turn(self) -> None:
        """Wait for a wake-up or a tick, then release until the window is full. Raises RedisUnavailable."""
        self._store.wait_for_wake(TICK_SECONDS)
        while releases := self._store.release(AT_ONCE):
            self.released += len(releases)
            self.published += publish(self._app, releases)
            if len(releases) < AT_ONCE:
                return
