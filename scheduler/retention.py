"""Retention: pictures and records expire on their own clocks, and what nobody can see any more is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.errors import StorageFailure, StorageUnavailable
from core.job_store import JobStore
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors
from core.trash import Trash, TrashBin

PERIOD_SECONDS = 5.0
AT_ONCE = 200
#: Bounds one turn after an outage or a wave: 20,000 pictures, as many records and objects; the rest follows next turn.
PORTIONS_MOST = 100
#: An object that the storage refuses to delete (a lock, a missing right) is asked for again so much later.
REFUSED_AGAIN_SECONDS = 3600.0
WORKER_FORGOTTEN_MS = 86_400_000
LEDGER_DAYS = 400  # the bill; export it before that

log = get_logger(__name__)


class Objects(Protocol):
    """What retention needs of the image store."""

    def delete(self, key: str) -> None:
        """Delete an object; no error if it is not there."""


class Retention:
    """Expires pictures and records and deletes objects. Any number may run at once."""

    def __init__(self, store: JobStore, trash: TrashBin, objects: Objects) -> None:
        self._store = store
        self._trash = trash
        self._objects = objects
        self.expired = 0
        self.deleted = 0
        self.refused = 0

    def turn(self) -> None:
        """Sweep until nothing is due. Raises RedisUnavailable; storage trouble is logged and tried again next time."""
        for portion in (self._expire, self._empty_trash):
            for _ in range(PORTIONS_MOST):
                if not portion():
                    break
        self._forget_old()

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
        due, refused = self._trash.due(AT_ONCE), dict[Trash, str]()
        is_there = True
        for one in due:
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
        return is_there and len(due) >= AT_ONCE

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
            self._store.redis.xtrim(f"{PREFIX}ledger", minid=str(now_ms - LEDGER_DAYS * 86_400_000))
