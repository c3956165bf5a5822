"""Ends of jobs, read far ahead from the ledger and given out tenant by tenant: none stands behind a long list."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import ResponseError

from core.logs import get_logger
from core.redis_client import redis_errors
from core.scripts import Scripts
from core.webhook_store import LEDGER

READ_AT_ONCE = 1_000
AHEAD_MOST = 20_000  # read, and not given out yet
#: An entry that a killed scheduler had read is read again by another after this.
ABANDONED_MS = 60_000
#: Each process has a name of its own, and leaves it: after so long without a word it is forgotten.
FORGOTTEN_MS = 86_400_000

Entry = tuple[str, Mapping[str, str]]

log = get_logger(__name__)


def _place(entry_id: str) -> tuple[int, int]:
    """Where an entry lies in its stream."""
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)


class EndedJobs:
    """What one consumer of a group has before it. Raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, group: str, consumer: str) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._group = group
        self._consumer = consumer
        self._waiting: OrderedDict[str, deque[Entry]] = OrderedDict()  # by tenant; the next one's turn is first
        self._known: set[str] = set()
        with redis_errors():
            seconds, _ = client.time()
        self._seen = f"{seconds}000-0"  # what ended later is not read yet

    def read(self) -> None:
        """Read what ended, up to a bound, and what a killed scheduler left.

        Where the group is gone, as with a Redis that was replaced by an empty one or an older copy, it is made anew and
        goes on behind what was read last.
        """
        try:
            self._read()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            log.warning("the ledger's group is gone, and made anew", action="webhook", group=self._group)
            with suppress(ResponseError), redis_errors():  # another process made it
                self._redis.xgroup_create(LEDGER, self._group, id=self._seen, mkstream=True)
            self._read()

    def _read(self) -> None:
        with redis_errors():
            left: Any = self._redis.xautoclaim(LEDGER, self._group, self._consumer, ABANDONED_MS, count=READ_AT_ONCE)
        self._add(left[1])
        while len(self._known) < AHEAD_MOST:
            with redis_errors():
                read: Any = self._redis.xreadgroup(self._group, self._consumer, {LEDGER: ">"}, count=READ_AT_ONCE)
            fresh = read[0][1] if read else ()
            self._add(fresh)
            if len(fresh) < READ_AT_ONCE:
                return

    def _add(self, entries: Sequence[tuple[str, Mapping[str, str] | None]]) -> None:
        for entry_id, fields in entries:
            if entry_id not in self._known:  # one's own that waited long counts as abandoned too
                self._known.add(entry_id)
                self._seen = max(self._seen, entry_id, key=_place)
                told = fields or {}
                self._waiting.setdefault(told.get("tenant", ""), deque()).append((entry_id, told))

    def forget_gone(self) -> int:
        """Forget the group's consumers that are gone and owe nothing; how many."""
        return int(self._scripts.run("forget_consumers", LEDGER, self._group, FORGOTTEN_MS))

    def next(self, most: int) -> list[Entry]:
        """The next ends, one of each tenant in turn; what is never marked `done` is read again."""
        found: list[Entry] = []
        while self._waiting and len(found) < most:
            tenant, entries = self._waiting.popitem(last=False)
            found.append(entries.popleft())
            self._known.discard(found[-1][0])
            if entries:
                self._waiting[tenant] = entries
        return found

    def done(self, entries: Sequence[Entry]) -> None:
        """Tell the group that these need nobody any more."""
        if entries:
            with redis_errors():
                self._redis.xack(LEDGER, self._group, *[entry_id for entry_id, _ in entries])
