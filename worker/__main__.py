"""`python -m worker`: the Celery worker of this process's settings, forked from a parent that imported everything."""

from __future__ import annotations

import gc
import os
import signal
import sys

from core.errors import ConfigurationError
from core.logs import configure_logging, get_logger
from core.settings import Settings
from worker.health import forget_progress, has_been_well
from worker.warm_parent import Restarts, WarmParent, cuda_asleep, forks_work, hold_signals, release_signals

log = get_logger("worker")


def main() -> int:
    """Run until a signal; returns the exit code."""
    gc.disable()  # what is imported stays: looking through it again and again took a fifth of the imports' time
    try:
        settings = Settings.from_env()
    except ConfigurationError as error:
        print(f"zimg worker: {error}", file=sys.stderr)
        return os.EX_CONFIG
    forget_progress(settings)  # of the process before this one; what follows takes seconds
    if not settings.worker_restarts or sys.platform != "linux":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the worker has its own: nothing was begun
        configure_logging(settings)
        import_all(settings)  # leanly; Celery and the loader would do it slower
        work()
        return 0
    hold_signals()
    configure_logging(settings)
    with cuda_asleep():
        import_all(settings)
    if not forks_work(is_cuda_usable):
        log.warning("something imported starts CUDA: this worker has no warm parent", action="start")
        release_signals()
        work()
        return 0
    return WarmParent(
        work,
        Restarts(settings.worker_restarts),
        before=lambda: forget_progress(settings),
        was_ready=lambda: has_been_well(settings),
    ).run()


def import_all(settings: Settings) -> None:
    """All that a worker imports, except what it makes of its settings."""
    import celery.bin.worker
    import celery.concurrency.thread
    import kombu.transport.redis

    import worker.process
    from worker.pipeline import import_ahead

    del celery, kombu, worker
    import_ahead(settings)


def is_cuda_usable() -> bool:
    """In a fork: whether it was made before CUDA started."""
    import torch

    return not torch.cuda._is_in_bad_fork()


def work() -> None:
    """The worker itself."""
    from core.broker import SPARE_THREADS
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
    sys.exit(main())
