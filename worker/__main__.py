"""`python -m worker`: the Celery worker of this process's settings."""

from __future__ import annotations

import gc
import os

from core.broker import SPARE_THREADS


def main() -> None:
    """Run until a signal."""
    gc.disable()  # what is imported stays: looking through it again and again took a fifth of the imports' time
    from worker.tasks import app, settings

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
