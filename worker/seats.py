"""Who may be with the engine: any number in company, or one job that must be alone.

A crash takes innocents with it. Whoever was near one is drawn next time while nobody else is, and Redis knows of it
before the engine does: so the end of a process during that time has one cause, whatever order the jobs came in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.errors import LeaseLost, RedisUnavailable
from core.job_store import JobStore
from core.logs import get_logger
from core.redis_client import call
from worker.lease_keeper import HeldLease

AGAIN_SECONDS = 0.2
LEAVE_TRIES = 8

log = get_logger(__name__)


@dataclass(eq=False)
class _Guest:
    alone: bool


class Seats:
    """One per process; any number of threads use it."""

    def __init__(self, store: JobStore, worker: str) -> None:
        self._store, self._worker = store, worker
        self._changed = threading.Condition()
        self._line: deque[_Guest] = deque()
        self._inside: list[_Guest] = []

    @contextmanager
    def taken(self, held: HeldLease) -> Iterator[None]:
        """Be with the engine, in the order of asking. Raises the reason of a lease that was stopped, or LeaseLost."""
        with self._inside_for(held):
            if not held.lease.alone:
                yield
                return
            self._tell(held)
            try:
                yield
            finally:
                self._take_back(held)

    @contextmanager
    def _inside_for(self, held: HeldLease) -> Iterator[None]:
        guest = _Guest(held.lease.alone)
        with self._changed:
            self._line.append(guest)
        held.when_stopped(self._look_again)
        try:
            self._enter(guest, held)
            yield
        finally:
            with self._changed:
                (self._line if guest in self._line else self._inside).remove(guest)
                self._changed.notify_all()

    def _enter(self, guest: _Guest, held: HeldLease) -> None:
        with self._changed:
            self._changed.wait_for(lambda: held.is_stopped or self._may_enter(guest))
            held.check()
            self._line.popleft()
            self._inside.append(guest)
            self._changed.notify_all()

    def _may_enter(self, guest: _Guest) -> bool:
        if self._line[0] is not guest:
            return False
        return not self._inside if guest.alone else not any(one.alone for one in self._inside)

    def _look_again(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _tell(self, held: HeldLease) -> None:
        """Nothing is drawn alone before Redis knows; while Redis is away, not for longer than the lease."""
        while True:
            held.check_fresh()
            try:
                is_known = self._store.take_seat(held.lease.job_id, held.lease.token)
            except RedisUnavailable:
                held.wait(AGAIN_SECONDS)
                continue
            if not is_known:
                raise LeaseLost("Somebody else has the job, or it ended.")
            return

    def _take_back(self, held: HeldLease) -> None:
        """Before anybody else comes in. Without it a later end of this process would be this job's fault."""
        try:
            call(lambda: self._store.leave_seat(self._worker, held.lease.token), tries=LEAVE_TRIES)
        except RedisUnavailable:
            log.warning("Redis is away; a job still counts as riding alone", action="seat", job_id=held.lease.job_id)
