"""`python -m scheduler`: releases, reaps, expires and audits until SIGTERM. Any number may run, without a leader."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path

from core.broker import make_celery
from core.errors import ConfigurationError
from core.image_store import ImageStore, object_key
from core.job_store import JobStore
from core.logs import configure_logging, get_logger
from core.redis_client import connect
from core.settings import Settings
from core.trash import TrashBin
from scheduler import reaper, retention, webhooks
from scheduler.health import PROGRESS_FILE
from scheduler.loops import Loop
from scheduler.reaper import Reaper
from scheduler.regular_audit import RegularAudit
from scheduler.releaser import Releaser
from scheduler.retention import Retention
from scheduler.webhooks import Webhooks

FAREWELL_SECONDS = 5.0

log = get_logger(__name__)


def make_loops(settings: Settings, stop: threading.Event) -> list[Loop]:
    """The loops of one scheduler, each with a connection of its own, so that none waits for another."""

    def store() -> JobStore:
        return JobStore(connect(settings.redis_url), settings)

    keeper, hooks = store(), store()
    bin_ = TrashBin(keeper.redis, object_key)
    touch = Touch(settings.data_dir / PROGRESS_FILE)
    release = Releaser(store(), make_celery(settings)).turn
    audit = RegularAudit(store(), stop)
    sweep = Retention(keeper, bin_, ImageStore(settings)).turn
    tell = Webhooks(hooks.redis, hooks, settings, stop).turn
    return [
        Loop("release", release, stop, on_alive=touch),
        Loop("reap", Reaper(store()).turn, stop, pause_seconds=reaper.PERIOD_SECONDS, on_alive=touch),
        Loop("webhooks", tell, stop, pause_seconds=webhooks.PERIOD_SECONDS, vital=False),
        Loop("audit", audit.turn, stop, pause_seconds=audit.pause_seconds, vital=False),
        Loop("retention", sweep, stop, pause_seconds=retention.PERIOD_SECONDS, vital=False),
    ]


class Touch:
    """Touches a file while both `release` and `reap` turn; a hang of either makes it stale."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._alive: set[str] = set()

    def __call__(self, name: str) -> None:
        self._alive.add(name)
        if self._alive >= {"release", "reap"}:
            self._alive.clear()
            with contextlib.suppress(OSError):  # a read-only disk must not stop the queue
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch()


def run(settings: Settings, stop: threading.Event) -> int:
    """Run all loops until `stop`; the process's exit status."""
    loops = make_loops(settings, stop)
    log.info("scheduler started", action="start")
    threads = [loop.start() for loop in loops]
    stop.wait()
    for thread in threads:
        thread.join(FAREWELL_SECONDS)
    log.info("scheduler stopped", action="stop")
    return 1 if any(loop.failed for loop in loops) else 0


def main() -> int:
    """Read the settings and run until SIGTERM or SIGINT."""
    try:
        settings = Settings.from_env()
    except ConfigurationError as error:
        print(f"zimg scheduler: {error}", file=sys.stderr)
        return 2
    configure_logging(settings)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    return run(settings, stop)


if __name__ == "__main__":
    sys.exit(main())
