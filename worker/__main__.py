"""`python -m worker`: the Celery worker of this process's settings."""

from __future__ import annotations

import os

from core.broker import SPARE_THREADS
from worker.tasks import app, settings


def main() -> None:
    """Run until a signal."""
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            f"--concurrency={settings.concurrency + SPARE_THREADS}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=WARNING",
            f"--hostname=zimg-{os.getpid()}@%h",
        ]
    )


if __name__ == "__main__":
    main()
