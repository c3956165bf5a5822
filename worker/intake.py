"""Whether this worker takes messages in: a paused or full one leaves them in the broker, for the others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps

from core.broker import queue_named
from core.errors import RedisUnavailable
from core.job_store import JobStore
from core.logs import get_logger

LOOK_SECONDS = 1.0
#: How soon Celery's loop follows.
TURN_SECONDS = 0.1
#: A message that came before the tap was closed is kept for so long, so that it does not come back here at once.
HESITATE_SECONDS = 0.3

log = get_logger(__name__)


class Intake:
    """Knows whether an operator paused this worker. Start it once; `close` it last."""

    def __init__(self, store: JobStore, worker: str, admits: Callable[[], bool] = lambda: True) -> None:
        """`admits` says whether the worker itself could take a job; it may be asked from any thread."""
        self._store, self._worker, self._admits = store, worker, admits
        self._is_paused = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether a message may be taken up now."""
        return self._admits() and not self._is_paused

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Ask now: a claim was refused, maybe because of a pause. What was known stays while Redis is away."""
        try:
            is_paused = self._store.is_paused("worker", self._worker)
        except RedisUnavailable:
            return
        if is_paused != self._is_paused:
            log.warning("paused" if is_paused else "resumed", action="pause", worker=self._worker)
        self._is_paused = is_paused

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("a pause could not be looked up", action="pause")


def add_tap(app: Celery, queue: str, is_open: Callable[[], bool]) -> None:
    """Let workers of `app` consume the queue of the model `queue` only while `is_open`, asked in Celery's own loop."""

    class Tap(bootsteps.StartStopStep):  # type: ignore[misc, unused-ignore]
        """Kombu's connections belong to that loop: consumers are added and canceled nowhere else."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            """After each connect: the consumer is new, and on."""
            self._timer = consumer.timer.call_repeatedly(TURN_SECONDS, self._turn, (consumer,))

        def stop(self, consumer: Any) -> None:
            self._timer.cancel()

        def _turn(self, consumer: Any) -> None:
            messages, own = consumer.task_consumer, queue_named(queue)
            is_on = messages.consuming_from(own.name)
            if is_on and not is_open():
                messages.cancel_by_queue(own.name)
            elif not is_on and is_open():
                messages.add_queue(own)
                messages.consume()

    app.steps["consumer"].add(Tap)
