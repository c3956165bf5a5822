"""One thread renews every lease that this worker holds, and hears there which jobs were lost or canceled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.errors import JobCanceled, LeaseLost, RedisUnavailable, StorageFailure
from core.job import Lease, LeaseStatus
from core.job_store import JobStore
from core.logs import get_logger
from worker.stage_clock import StageClock

#: A renewal also asks whether the job is still wanted; a person who cancels should not wait long.
ASK_SECONDS = 1.0
#: So that hundreds of waiting pictures do not block the server for long.
RENEWED_AT_ONCE = 100

log = get_logger(__name__)


class GivenBack(Exception):
    """Raised inside a worker that stops: the job returns to the queue."""


class HeldLease:
    """A lease in this worker's hands. Any thread may stop it; whoever works on it is told once."""

    def __init__(self, lease: Lease, lease_seconds: float, taken_at: float) -> None:
        self.lease = lease
        self._seconds, self._renewed_at = lease_seconds, taken_at
        self._lock = threading.Lock()
        self._reason: Exception | None = None
        self._stopped = threading.Event()
        self._cancel: Callable[[], None] | None = None
        self.clock = StageClock()
        self.asks_seldom = False  # its picture only waits for the storage: it is renewed, and nobody is in a hurry

    def renewed(self, at: float) -> None:
        """A renewal that was sent at `at` succeeded."""
        self._renewed_at = at

    def is_due(self, now: float) -> bool:
        """Whether it is to be renewed, and asked for, now."""
        return not self.asks_seldom or now - self._renewed_at >= self._seconds / 6

    def stop(self, reason: Exception) -> None:
        """Let the work end with `reason`; the first reason stays."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason, cancel = reason, self._cancel
        self._stopped.set()
        if cancel is not None:
            cancel()

    @property
    def is_stopped(self) -> bool:
        """The work must end."""
        return self._reason is not None

    def when_stopped(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` when the lease is stopped, at once if it already is."""
        with self._lock:
            self._cancel, stopped = cancel, self._reason is not None
        if stopped:
            cancel()

    def wait(self, seconds: float) -> None:
        """Wait, or raise the reason as soon as the work must end."""
        self._stopped.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise the reason why the work must end, if there is one."""
        if self._reason is not None:
            raise self._reason

    def check_fresh(self) -> None:
        """As `check`; also raise LeaseLost if the lease may have run out unseen (a frozen process, a cut-off Redis)."""
        self.check()
        if time.monotonic() - self._renewed_at > self._seconds:
            raise LeaseLost("The lease was not renewed in time; somebody else may have the job.")


class LeaseKeeper:
    """Renews at least every third of a lease, on a connection of its own. Start it once; `close` it last."""

    def __init__(self, store: JobStore, lease_seconds: float) -> None:
        """`store` must be used by nobody else: a stuck command elsewhere must not cost a lease."""
        self._store, self._lease_seconds = store, lease_seconds
        self._held: dict[str, HeldLease] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._stopping: Exception | None = None  # why, once stop_all was called
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=10)

    @contextmanager
    def hold(self, lease: Lease, taken_at: float) -> Iterator[HeldLease]:
        """Keep `lease`, taken at time.monotonic() `taken_at`, until the block ends."""
        held = self.take(lease, taken_at)
        try:
            yield held
        finally:
            self.drop(held)

    def take(self, lease: Lease, taken_at: float) -> HeldLease:
        """Keep `lease` until it is dropped."""
        held = HeldLease(lease, self._lease_seconds, taken_at)
        with self._lock:
            self._held[lease.token] = held
            stopping = self._stopping
        if stopping is not None:  # its claim was in the air when all others were stopped
            held.stop(stopping)
        return held

    def drop(self, held: HeldLease) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.pop(held.lease.token, None)

    @property
    def count(self) -> int:
        """Leases held now."""
        return len(self._held)

    def stop_all(self, reason: Exception) -> None:
        """Let the work on every lease end, also on those that are taken from now on."""
        with self._lock:
            self._stopping = reason
        for held in self._snapshot():
            held.stop(reason)

    @property
    def is_stopping(self) -> bool:
        """stop_all was called."""
        return self._stopping is not None

    def renew_all(self) -> None:
        """One renewal of everything that is due. Raises RedisUnavailable."""
        now = time.monotonic()
        due = [held for held in self._snapshot() if held.is_due(now)]
        for start in range(0, len(due), RENEWED_AT_ONCE):
            self._renew(due[start : start + RENEWED_AT_ONCE])

    def _renew(self, leases: list[HeldLease]) -> None:
        sent_at = time.monotonic()
        answers = self._store.renew([(one.lease.job_id, one.lease.token) for one in leases])
        for held, status in zip(leases, answers, strict=True):
            if status is LeaseStatus.LOST:
                held.stop(LeaseLost("Somebody else has the job, or it ended."))
                continue
            held.renewed(sent_at)
            if status is LeaseStatus.CANCEL:
                held.stop(JobCanceled("Its owner stopped the job."))
            if status is LeaseStatus.LATE:
                held.stop(StorageFailure("The picture was drawn, but the storage did not take it within the deadline."))

    def _snapshot(self) -> list[HeldLease]:
        with self._lock:
            return list(self._held.values())

    def _run(self) -> None:
        while not self._closed.wait(min(ASK_SECONDS, self._lease_seconds / 3)):
            try:
                self.renew_all()
            except RedisUnavailable as error:
                log.warning("leases could not be renewed", action="renew", error=str(error))
            except Exception:
                log.exception("leases could not be renewed", action="renew")
