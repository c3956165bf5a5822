"""Tells Redis how far jobs are, at most twice a second each, from a thread of its own: the engine never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from core.errors import RedisUnavailable
from core.job import Lease, Progress
from core.job_store import JobStore
from core.logs import get_logger

PERIOD_SECONDS = 0.5

log = get_logger(__name__)


class ProgressReporter:
    """Keeps the newest progress of each job and sends what changed once in a period."""

    def __init__(self, store: JobStore, period_seconds: float = PERIOD_SECONDS) -> None:
        self._store, self._period = store, period_seconds
        self._news: dict[str, tuple[Lease, Progress]] = {}
        self._lock = threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def for_job(self, lease: Lease) -> Callable[[str, int, int], None]:
        """The engine's `on_step` for one job; returns at once."""

        def on_step(stage: str, step: int, steps: int) -> None:
            with self._lock:
                self._news[lease.job_id] = (lease, Progress(stage=stage, step=step, steps=steps))
            self._wake.set()

        return on_step

    def forget(self, lease: Lease) -> None:
        """The job ended: what has not been sent never is."""
        with self._lock:
            self._news.pop(lease.job_id, None)

    def send(self) -> None:
        """Send what is new. Raises RedisUnavailable."""
        with self._lock:
            news, self._news = self._news, {}
        for lease, progress in news.values():
            self._store.report_progress(lease.job_id, lease.token, progress)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self.send()
            except RedisUnavailable:
                pass  # the next step tells more
            except Exception:
                log.exception("progress could not be told", action="progress")
            self._closed.wait(self._period)
