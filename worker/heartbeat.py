"""What a worker says of itself while it is well: heartbeats in Redis, and its progress file (`worker.health`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.errors import RedisUnavailable
from core.job_store import JobStore, WorkerInfo
from core.logs import get_logger

#: Of a lease: a worker counts as live for longer than that.
SHARE_OF_LEASE = 1 / 6
MOST_SECONDS = 5.0

log = get_logger(__name__)


class Heartbeat:
    """Beats in a thread of its own. A process that hangs as a whole stops beating, and both watchers see it."""

    def __init__(
        self,
        store: JobStore,
        worker: WorkerInfo,
        *,
        progress_file: Path,
        slots: Callable[[], int],
        gauges: Callable[[], dict[str, float]],
    ) -> None:
        """`slots` is asked at each beat: 0 while the worker takes nothing."""
        self._store, self._worker = store, worker
        self._file, self._slots, self._gauges = progress_file, slots, gauges
        self._period = min(MOST_SECONDS, store.settings.lease_seconds * SHARE_OF_LEASE)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self.touch()
        self._thread.start()

    def close(self) -> None:
        """Say goodbye."""
        self._closed.set()
        if self._thread.ident is not None:  # else it was told to stop before it began
            self._thread.join(timeout=5)
        try:
            self._store.forget_worker(self._worker.name)
        except RedisUnavailable:
            log.info("Redis is away; it will forget this worker by itself", action="stop")

    def beat(self) -> None:
        """One heartbeat. Raises RedisUnavailable."""
        self._store.heartbeat(replace(self._worker, slots=self._slots(), gauges=self._gauges()))

    def touch(self) -> None:
        """The watchdog in this process judges the engine; the file only says that the process itself still turns."""
        self._file.touch()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self.touch()
                self.beat()
            except RedisUnavailable as error:
                log.warning("heartbeat failed", action="heartbeat", error=str(error))
            except Exception:
                log.exception("heartbeat failed", action="heartbeat")
            self._closed.wait(self._period)
