"""Retention: pictures and records expire on their own clocks, and what nobody can see any more is deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from core.errors import StorageFailure, StorageUnavailable
from core.job_store import JobStore
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors
from core.trash import Trash, TrashBin
from scheduler.ledger import Ledger

PERIOD_SECONDS = 5.0
AT_ONCE = 200
#: Bounds one turn after an outage or a wave: 20,000 pictures, as many records and objects; the rest follows next turn.
PORTIONS_MOST = 100
#: So many objects, or a second's, go between two looks at what is due: a slow storage keeps no record readable.
OBJECTS_AT_ONCE = 25
OBJECTS_SECONDS = 1.0
OBJECT_PORTIONS_MOST = 800
#: An object that the storage refuses to delete (a lock, a missing right) is asked for again so much later.
REFUSED_AGAIN_SECONDS = 3600.0
WORKER_FORGOTTEN_MS = 86_400_000

log = get_logger(__name__)


class Objects(Protocol):
    """What retention needs of the image store."""

    def delete(self, key: str) -> None:
        """Delete an object; no error if it is not there."""


class Retention:
    """Expires pictures and records and deletes objects. Any number may run at once."""

    def __init__(
        self, store: JobStore, trash: TrashBin, objects: Objects, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._ledger = Ledger(store.redis)
        self._clock = clock
        self._trash = trash
        self._objects = objects
        self.expired = 0
        self.deleted = 0
        self.refused = 0

    def turn(self) -> None:
        """Sweep until nothing is due. Raises RedisUnavailable; storage trouble is logged and tried again next time.

        Whose time is over is gone first, and again after each portion of objects.
        """
        left = PORTIONS_MOST
        for _ in range(OBJECT_PORTIONS_MOST):
            left = self._expire_all(left)
            if not self._empty_trash() or left == 0:
                break
        self._forget_old()

    def _expire_all(self, left: int) -> int:
        """All that is due, or so many full portions; how many of these are left to this turn."""
        while left and self._expire():
            left -= 1
        return left

    def _expire(self) -> bool:
        """One portion of pictures and of records; whether more may be due."""
        expired, records = self._store.expire(AT_ONCE)
        self.expired += expired
        self._store.remove_many(records)
        return max(expired, len(records)) >= AT_ONCE

    def _empty_trash(self) -> bool:
        """One portion of objects; whether more may be due, and the storage is there to take it.

        What it refuses waits by itself: one locked object does not keep all others from being deleted.
        """
        most = min(AT_ONCE, OBJECTS_AT_ONCE)
        due, refused = self._trash.due(most), dict[Trash, str]()
        is_there, is_whole = True, len(due) < most
        until = self._clock() + OBJECTS_SECONDS
        for one in due:
            if self._clock() >= until:
                is_whole = False
                break
            try:
                self._objects.delete(one.key)
            except StorageFailure as error:
                refused[one] = str(error)
                continue
            except StorageUnavailable as error:
                log.warning("deletion waits for the storage", action="retention", error=type(error).__name__)
                is_there = False
                break
            self._trash.forget([one])
            self.deleted += 1
        self._postpone(refused)
        return is_there and not is_whole

    def _postpone(self, refused: Mapping[Trash, str]) -> None:
        if refused:
            self._trash.postpone(list(refused), REFUSED_AGAIN_SECONDS)
            self.refused += len(refused)
            reason = next(iter(refused.values()))
            log.error("objects can not be deleted", action="retention", objects=len(refused), reason=reason)

    def _forget_old(self) -> None:
        with redis_errors():
            seconds, _ = self._store.redis.time()
            now_ms = int(seconds) * 1000
            self._store.redis.zremrangebyscore(f"{PREFIX}workers", "-inf", now_ms - WORKER_FORGOTTEN_MS)
            for stopped in ("paused", "draining"):
                self._forget_stopped(PREFIX + stopped)
        self._ledger.trim(self._store.settings.ledger_days)

    def _forget_stopped(self, key: str) -> None:
        """Workers that were stopped for good: killed, or gone without a word, for a day."""
        names = [one for one in map(str, self._store.redis.smembers(key)) if one.startswith("worker:")]
        pipeline = self._store.redis.pipeline(transaction=False)
        for name in names:
            pipeline.zscore(f"{PREFIX}workers", name.removeprefix("worker:"))
            pipeline.exists(PREFIX + name)
        known = pipeline.execute() if names else []
        gone = [
            name for name, beat, info in zip(names, known[::2], known[1::2], strict=True) if beat is None and not info
        ]
        if gone:
            self._store.redis.srem(key, *gone)
