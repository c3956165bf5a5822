"""Long waits: event streams, `?wait` and synchronous pictures each hold a thread, so their number is capped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import Overloaded
from core.job import Job

if TYPE_CHECKING:
    from api.context import Services

RETRY_AFTER_SECONDS = 5
#: An event that is lost on its way costs a waiter no more than this.
LOOK_AGAIN_SECONDS = 2.0


class LongWaits:
    """Counts the threads that wait; the others stay free for short requests and probes."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._most = most

    def enter(self) -> Callable[[], None]:
        """Take a place; call the result, once or more, to give it back. Raises Overloaded when none is free."""
        if not self._free.acquire(blocking=False):
            raise Overloaded(
                f"{self._most} streams and waiting calls are open already. Poll GET /v1/jobs/{{id}} without ?wait, "
                "or try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        given_back = threading.Event()

        def leave() -> None:
            if not given_back.is_set():
                given_back.set()
                self._free.release()

        return leave

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for the length of a `with` block."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()


def wait_for_end(parts: Services, job_ids: Sequence[str], seconds: float) -> list[Job | None]:
    """The jobs as they stand when all have ended, or when `seconds` are over. Takes a place among the long waits."""
    with parts.long_waits.place():
        deadline = time.monotonic() + seconds
        for job_id in job_ids:
            _wait_for_one(parts, job_id, deadline)
        return parts.jobs.get_many(job_ids)


def _wait_for_one(parts: Services, job_id: str, deadline: float) -> None:
    wait_until(parts, job_id, lambda job: job is None or job.state.is_terminal, deadline)


def wait_until(parts: Services, job_id: str, is_done: Callable[[Job | None], bool], deadline: float) -> Job | None:
    """The job once `is_done`, or as it stands at `deadline` (monotonic). Woken by the job's events."""
    with parts.hub.follow(job_id) as follower:
        while True:
            job = parts.jobs.get(job_id)
            left = deadline - time.monotonic()
            if is_done(job) or left <= 0 or parts.closing.is_set():
                return job
            follower.rest(min(left, LOOK_AGAIN_SECONDS))
