"""What a worker says of itself: heartbeats in Redis, and a file whose time stamp the supervisor watches.

`python -m worker.health` asks that file, for Kubernetes' probes: exit 0 while the worker of these settings is well.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from core.errors import RedisUnavailable
from core.job_store import JobStore, WorkerInfo
from core.logs import get_logger
from core.progress import answer_probe, why_not_well
from core.settings import Settings

#: Of a lease: a worker counts as live for longer than that.
SHARE_OF_LEASE = 1 / 6
MOST_SECONDS = 5.0

log = get_logger(__name__)


def progress_file(settings: Settings) -> Path:
    """The file that the worker of these settings touches while it is well."""
    return Path(settings.progress_file or settings.data_dir / "worker.progress")


def trouble(settings: Settings, now: float) -> str:
    """Why the worker is not well, in a sentence; "" while it is. `now` is the time of day."""
    limit = settings.progress_stale_seconds
    return why_not_well(progress_file(settings), "worker", now=now, limit_seconds=limit)


def has_been_well(settings: Settings) -> bool:
    """Whether the worker of these settings has become ready since `forget_progress`."""
    return progress_file(settings).exists()


def forget_progress(settings: Settings) -> None:
    """A worker begins: whoever watches the file sees that it is not ready yet, and gives it the time of a start."""
    progress_file(settings).unlink(missing_ok=True)


class Health:
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
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

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


def main() -> int:
    """The probe: 0 for a worker that is well, 1 and a sentence for one that is not."""
    return answer_probe(trouble(Settings.from_env(), time.time()))


if __name__ == "__main__":
    sys.exit(main())
