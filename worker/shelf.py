"""Finished pictures on their way into the storage: while it is slow or away they wait on disk, and seats stay free."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import StorageFailure, StorageUnavailable
from core.image_store import ImageStore, Stored
from core.logs import get_logger
from worker.lease_keeper import HeldLease
from worker.png import EncodedPicture
from worker.spool import Spool

#: Whoever drew a picture waits so long for its upload, which usually takes less; then he leaves it here.
WAIT_SECONDS = 1.0
UPLOADS_AT_ONCE = 8
CLOSE_SECONDS = 2.0
#: While the storage is away one upload at a time asks whether it is back, at this distance.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0

log = get_logger(__name__)

OnEnd = Callable[[HeldLease, Stored | Exception], None]


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much may wait: bytes of pictures, and what must stay free on the disk of `folder`."""

    folder: Path
    most_bytes: int
    free_disk_bytes: int

    def has_free_disk(self) -> bool:
        """A disk that can not be asked counts as full."""
        try:
            return shutil.disk_usage(self.folder).free >= self.free_disk_bytes
        except OSError:
            return False


@dataclass(eq=False)
class _Parcel:
    """One picture on its way. `picture` is None once it lies on disk and nobody waits for it."""

    held: HeldLease
    key: str
    picture: EncodedPicture | None
    size_bytes: int
    on_end: OnEnd
    is_left: bool = False
    went_up_at: float = 0.0  # time.monotonic() of its last try
    outcome: Stored | Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Shelf:
    """Uploads in threads of its own. `start` it, let any thread `store`, `close` it when no lease is held any more."""

    def __init__(self, images: ImageStore, spool: Spool, room: Room, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._images, self._spool, self._room = images, spool, room
        self._wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._waiting: dict[str, _Parcel] = {}  # token -> parcel, in the order of arrival
        self._stopped: deque[_Parcel] = deque()  # the lease was stopped: to be ended, not uploaded
        self._left: dict[str, _Parcel] = {}  # those that nobody waits for
        self._pause_seconds, self._ask_at = 0.0, 0.0  # of a storage that is away; 0 = it is not
        self._troubled_at = 0.0  # when the storage was last found away
        self._asking: _Parcel | None = None  # whether the storage is back
        self._was_full = self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"upload-{number}", daemon=True)
            for number in range(UPLOADS_AT_ONCE)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> bool:
        """Stop the threads; False if an upload still hangs in one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def count(self) -> int:
        """Pictures that wait here."""
        return len(self._left)

    @property
    def bytes(self) -> int:
        """Bytes of the pictures that wait here."""
        with self._changed:
            return sum(parcel.size_bytes for parcel in self._left.values())

    @property
    def is_behind(self) -> bool:
        """The storage is away, or slower than the engine."""
        return bool(self._pause_seconds or self._left)

    def has_room(self) -> bool:
        """Whether another picture may be drawn; logged when that changes."""
        is_full = self._is_full()
        with self._changed:
            has_changed, self._was_full = is_full != self._was_full, is_full
        if has_changed:
            facts = {"action": "backlog", "pictures": self.count, "bytes": self.bytes}
            if is_full:
                log.error("the backlog is full: nothing is drawn until the storage takes pictures", **facts)
            else:
                log.info("the backlog has room again", **facts)
        return not is_full

    def _is_full(self) -> bool:
        if not self._left:
            return False
        with self._changed:
            is_kept = all(parcel.picture is None for parcel in self._left.values())
        return not is_kept or self.bytes >= self._room.most_bytes or not self._room.has_free_disk()

    def store(self, held: HeldLease, key: str, picture: EncodedPicture, on_end: OnEnd) -> Stored | None:
        """Upload a picture, patiently. None: it takes long, and `on_end` is told in another thread how it ended.

        Raises what ended it at once: the reason of a stopped lease, LeaseLost.
        """
        parcel = _Parcel(held, key, picture, len(picture.png), on_end)
        with self._changed:
            is_behind = self.is_behind
            self._waiting[held.lease.token] = parcel
            self._changed.notify()
        held.when_stopped(lambda: self._stop(parcel))
        if not is_behind and parcel.ended.wait(self._wait_seconds):
            return _result(parcel)
        return None if self._leave(parcel) else _result(parcel)

    def _leave(self, parcel: _Parcel) -> bool:
        """Let it wait on disk; False if it ended meanwhile."""
        assert parcel.picture is not None
        is_kept = self._spool.keep(parcel.held.lease.job_id, parcel.picture)
        with self._changed:
            if parcel.ended.is_set():
                return False
            parcel.is_left = True
            parcel.picture = None if is_kept else parcel.picture
            self._left[parcel.held.lease.token] = parcel
        log.info("a picture waits for the storage", action="upload", job_id=parcel.held.lease.job_id)
        return True

    def _stop(self, parcel: _Parcel) -> None:
        """Its lease was stopped; one that is in the air is looked at when it comes down."""
        with self._changed:
            if self._waiting.pop(parcel.held.lease.token, None) is not None:
                self._stopped.append(parcel)
                self._changed.notify()

    def _run(self) -> None:
        while (parcel := self._next()) is not None:
            try:
                self._carry(parcel)
            except Exception:
                log.exception("a picture's end could not be told", action="upload", job_id=parcel.held.lease.job_id)

    def _next(self) -> _Parcel | None:
        """The next to be carried, None when closed."""
        with self._changed:
            while not self._closed:
                if self._stopped:
                    return self._stopped.popleft()
                if self._waiting and self._may_ask():
                    parcel = self._waiting.pop(next(iter(self._waiting)))
                    if self._pause_seconds:
                        self._asking = parcel
                    parcel.went_up_at = time.monotonic()
                    return parcel
                self._changed.wait(self._idle_seconds())
        return None

    def _may_ask(self) -> bool:
        return not self._pause_seconds or (self._asking is None and time.monotonic() >= self._ask_at)

    def _idle_seconds(self) -> float | None:
        if not self._waiting or not self._pause_seconds or self._asking is not None:
            return None
        return max(0.01, self._ask_at - time.monotonic())

    def _carry(self, parcel: _Parcel) -> None:
        outcome = self._try(parcel)
        with self._changed:
            if self._asking is parcel:
                self._asking = None
            if outcome is None:
                self._note_trouble(parcel)
                self._put_back(parcel)
            elif isinstance(outcome, Stored):
                self._pause_seconds = 0.0
            self._changed.notify_all()
        if outcome is not None:
            self._end(parcel, outcome)

    def _try(self, parcel: _Parcel) -> Stored | Exception | None:
        """How it ended; None if the storage did not take it, which is no end."""
        job_id = parcel.held.lease.job_id
        try:
            parcel.held.check_fresh()
        except Exception as reason:
            return reason
        try:
            picture = parcel.picture or self._spool.find(job_id)
            if picture is None:
                return StorageFailure("The picture that waited for the storage was lost from the disk.")
            return self._images.put(parcel.key, picture.png, picture.sha256)
        except (StorageUnavailable, StorageFailure) as error:
            log.warning("upload waits for the storage", action="upload", job_id=job_id, error=str(error))
            return None
        except Exception as error:
            return error

    def _note_trouble(self, parcel: _Parcel) -> None:
        """Wait twice as long, once for all that were in the air at that moment."""
        if parcel.went_up_at < self._troubled_at:
            return
        self._troubled_at = time.monotonic()
        self._pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self._pause_seconds), LONGEST_PAUSE_SECONDS)
        self._ask_at = time.monotonic() + self._pause_seconds

    def _put_back(self, parcel: _Parcel) -> None:
        """Behind the others: what is wrong with one picture alone must not hold them up."""
        if parcel.held.is_stopped:
            self._stopped.append(parcel)
        else:
            self._waiting[parcel.held.lease.token] = parcel

    def _end(self, parcel: _Parcel, outcome: Stored | Exception) -> None:
        with self._changed:
            parcel.outcome = outcome
            parcel.ended.set()
            is_left = parcel.is_left
        if is_left:
            try:
                parcel.on_end(parcel.held, outcome)
            finally:
                with self._changed:
                    self._left.pop(parcel.held.lease.token, None)


def _result(parcel: _Parcel) -> Stored:
    if isinstance(parcel.outcome, Stored):
        return parcel.outcome
    assert parcel.outcome is not None
    raise parcel.outcome
