"""The Celery side of a worker: one task, and the process's start and stop.

    celery -A worker.tasks worker --pool threads --concurrency N --without-gossip --without-mingle --without-heartbeat

`python -m worker` runs exactly that with the numbers from the settings.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from celery.exceptions import Reject
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down

from core.broker import TASK, make_celery
from core.errors import ConfigurationError
from core.logs import configure_logging, get_logger
from core.model_profile import queue_of
from core.settings import Settings
from worker.intake import HESITATE_SECONDS, add_tap
from worker.process import WorkerProcess
from worker.watchdog import end_process

EXIT_CONFIGURATION = 78

log = get_logger(__name__)
settings = Settings.from_env()
app = make_celery(settings, queue_of(settings))
process = WorkerProcess(settings)
add_tap(app, queue_of(settings), lambda: process.is_open)
_pause = threading.Event()


@app.task(name=TASK)
def generate(job_id: str, epoch: int | None = None, *_: Any, **__: Any) -> None:
    """Run a released job. Hands the message back where this worker takes none; raises nothing else.

    During a rolling upgrade a message may lack the epoch or say more than this release knows.
    """
    if not process.is_open:
        _pause.wait(HESITATE_SECONDS)
        raise Reject("this worker takes no jobs now", requeue=True)
    process.executor.execute(job_id, epoch)


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings)


@worker_init.connect
def _start(**_: Any) -> None:
    """Before the first message; Celery would go on after an exception here, so a failure ends the process."""
    configure_logging(settings)
    signal.signal(signal.SIGTERM, _leave_early)
    try:
        process.start()
    except ConfigurationError as error:
        log.error(str(error), action="start")
        sys.exit(EXIT_CONFIGURATION)
    except Exception:
        log.exception("the worker could not start", action="start")
        sys.exit(1)


def _leave_early(*_: Any) -> None:
    """Asked to stop before Celery's own handler is there: nothing was taken up, so there is nothing to finish."""
    process.say_goodbye()
    end_process(0, "stopped before it took a job")


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    """In the signal handler: Celery waits for running tasks without end, so a thread sees to it that they end."""
    if not process.executor.is_draining:
        threading.Thread(target=process.drain, name="drain", daemon=True).start()


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    process.close()
