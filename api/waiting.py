"""Long waits: event streams, `?wait` and synchronous pictures each hold a thread, so their number is capped.

Whoever waits for what is still to be handed in takes its place before anything is stored: a refusal means nothing was.
A key that is closed meanwhile ends the wait, and gets nothing of what was waited for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import Overloaded, TooManyStreams
from core.job import Job

if TYPE_CHECKING:
    from api.context import Services

RETRY_AFTER_SECONDS = 5
#: An event that is lost on its way costs a waiter no more than this.
LOOK_AGAIN_SECONDS = 2.0
#: How often a wait asks whether its caller's key is open still.
KEY_SECONDS = 4.0
#: A tenant holds at most so many times the places that it leaves free: alone 7/8 of them, beside others less. So there
#: is always one for a tenant that has none yet, until a great many wait at once.
HELD_PER_FREE = 7


class LongWaits:
    """Counts the threads of this process that wait; the others stay free for short requests and probes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    def enter(self, tenant: str) -> Callable[[], None]:
        """Take a place for a tenant; call the result, once or more, to give it back.

        Raises Overloaded when none is free, TooManyStreams when those that are left are for others.
        """
        with self._lock:
            self._check(tenant)
            self._held[tenant] += 1
        given_back = threading.Event()

        def leave() -> None:
            with self._lock:
                if not given_back.is_set():
                    given_back.set()
                    self._held -= Counter([tenant])

        return leave

    def held(self, tenant: str) -> int:
        """How many places a tenant holds."""
        return self._held[tenant]

    def _check(self, tenant: str) -> None:
        own, free = self.held(tenant), self._most - self._held.total()
        if free <= 0:
            raise Overloaded(
                f"{self._most} streams and waiting calls are open already. Poll GET /v1/jobs/{{id}} without ?wait, "
                "or try again shortly.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        if own and own >= HELD_PER_FREE * (free - 1):
            raise TooManyStreams(
                f"You hold {own} of the {self._most} places for streams and waiting calls; what is left is for others. "
                "Close some, or poll GET /v1/jobs/{id} without ?wait.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """A place for the length of a `with` block. Raises as `enter`."""
        leave = self.enter(tenant)
        try:
            yield
        finally:
            leave()

    @contextmanager
    def place_if_any(self, tenant: str) -> Iterator[bool]:
        """As `place`, for what can be answered without waiting as well: whether there is a place."""
        try:
            leave = self.enter(tenant)
        except (Overloaded, TooManyStreams):
            yield False
            return
        try:
            yield True
        finally:
            leave()


def wait_for_end(
    parts: Services, job_ids: Sequence[str], seconds: float, require_open: Callable[[], None]
) -> list[Job | None]:
    """The jobs as they stand when all have ended, or after `seconds`. The caller holds a place among the long waits.

    Raises what `require_open` (require_still_open of api/auth.py) raises of the caller: now and then, and at the end.
    """
    deadline, watch = time.monotonic() + seconds, _KeyWatch(require_open)
    for job_id in job_ids:
        _rest_until(parts, job_id, has_ended, deadline, watch)
    require_open()
    return parts.jobs.get_many(job_ids)


def wait_until(
    parts: Services,
    job_id: str,
    is_done: Callable[[Job | None], bool],
    deadline: float,
    require_open: Callable[[], None],
) -> Job | None:
    """The job once `is_done`, or as it stands at `deadline` (monotonic). Woken by the job's events.

    Raises as `wait_for_end`.
    """
    job = _rest_until(parts, job_id, is_done, deadline, _KeyWatch(require_open))
    require_open()
    return job


class _KeyWatch:
    """Asks each KEY_SECONDS whether the caller's key is open still; raises what `require_open` raises."""

    def __init__(self, require_open: Callable[[], None]) -> None:
        self._require_open = require_open
        self._next = time.monotonic() + KEY_SECONDS

    def look(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + KEY_SECONDS
            self._require_open()


def _rest_until(
    parts: Services, job_id: str, is_done: Callable[[Job | None], bool], deadline: float, watch: _KeyWatch
) -> Job | None:
    with parts.hub.follow(job_id) as follower:
        while True:
            job = parts.jobs.get(job_id)
            left = deadline - time.monotonic()
            if is_done(job) or left <= 0 or parts.closing.is_set():
                return job
            watch.look()
            follower.rest(min(left, LOOK_AGAIN_SECONDS))


def has_ended(job: Job | None) -> bool:
    """Ended, or gone."""
    return job is None or job.state.is_terminal
