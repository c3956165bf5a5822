"""Deliveries by when they are due, in a lane for each address: what goes to one never stands before another's.

`hook_due` lists all of them, as the release before knows it; the lanes say in which order they go out.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import redis

from core.aside import put_aside
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts

#: Put before the names of what belongs to URLs of requests: a release that does not know them never reads it, and an
#: end that such a scheduler took from the ledger is told by one that does (a consumer group of its own).
OF_REQUESTS = "request_"
LOCK_MS = 90_000  # longer than one attempt may take
LANES_OF_REQUESTS = 32  # of one tenant: so many hosts apart, however many its requests name
LANES, LANE_OF = f"{PREFIX}hook_lanes", f"{PREFIX}hook_lane_of"
READ_AT_ONCE = 1_000


def key_of(kind: str, of_requests: bool, wanted: str = "") -> str:
    """The name in Redis of what belongs to registered endpoints, or to URLs of requests."""
    return f"{PREFIX}{OF_REQUESTS if of_requests else ''}{kind}{':' if wanted else ''}{wanted}"


def lane_of(endpoint_id: str, tenant: str, url: str) -> str:
    """Where a delivery waits: by its endpoint, and for an address of a request by its host, in few parts. Pure."""
    part = str(zlib.crc32(urlsplit(url).netloc.lower().encode()) % LANES_OF_REQUESTS) if url else ""
    return f"{endpoint_id}|{tenant}|{part}"


def group_of(lane: str) -> tuple[str, bool]:
    """The tenant of a lane, and whether it is of requests' addresses. Pure."""
    _, tenant, part = lane.split("|")
    return tenant, bool(part)


def is_lane(lane: str) -> bool:
    """Whether `lane_of` may have made it. Pure."""
    return lane.count("|") == 2


class DueLanes:
    """What is due, lane by lane. Raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = Scripts(client)

    def put(self, wanted: str, lane: str, due_ms: int, *, is_new: bool = False) -> None:
        """Make a delivery due then, and nobody's; `is_new`: only if it is not due yet at some time."""
        of_requests = group_of(lane)[1]
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.zadd(key_of("hook_due", of_requests), {wanted: due_ms}, nx=is_new)
            pipeline.hset(LANE_OF, wanted, lane)
            pipeline.zadd(f"{PREFIX}hook_lane:{lane}", {wanted: due_ms}, nx=is_new)
            pipeline.zadd(LANES, {lane: due_ms}, lt=True)
            if not is_new:
                pipeline.delete(f"{PREFIX}hook_lock:{wanted}")
            pipeline.execute()

    def hurry(self, wanted: str, lane: str, due_ms: int) -> None:
        """Make a delivery due then, though somebody may be at it right now: what he records stands."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.zadd(key_of("hook_due", group_of(lane)[1]), {wanted: due_ms})
            pipeline.hset(LANE_OF, wanted, lane)
            pipeline.zadd(f"{PREFIX}hook_lane:{lane}", {wanted: due_ms})
            pipeline.zadd(LANES, {lane: due_ms}, lt=True)
            pipeline.execute()

    def drop(self, ids: Sequence[str]) -> None:
        """Forget when deliveries are due: they have arrived, or will not."""
        if not ids:
            return
        with redis_errors():
            lanes: Any = self._redis.hmget(LANE_OF, list(ids))
            pipeline = self._redis.pipeline(transaction=True)
            for wanted, lane in zip(ids, lanes, strict=True):
                if lane:
                    pipeline.zrem(f"{PREFIX}hook_lane:{lane}", wanted)
            pipeline.delete(*(f"{PREFIX}hook_lock:{wanted}" for wanted in ids))
            for of_requests in (False, True):
                pipeline.zrem(key_of("hook_due", of_requests), *ids)
            pipeline.hdel(LANE_OF, *ids)
            pipeline.execute()

    def lanes(self) -> list[str]:
        """Lanes in which something may be due, the one that has waited longest first."""
        with redis_errors():
            lanes = [str(lane) for lane in self._redis.zrangebyscore(LANES, "-inf", _now_ms())]
            for broken in (lane for lane in lanes if not is_lane(lane)):
                put_aside(self._redis, "delivery", broken, "no lane is named so")
                self._redis.zrem(LANES, broken)
        return [lane for lane in lanes if is_lane(lane)]

    def take(self, lane: str, most: int) -> list[str]:
        """Ids of what is due in a lane, each given to one caller only, for as long as one attempt may take."""
        return [str(one) for one in self._scripts.run("take_hooks", lane, _now_ms(), most, LOCK_MS)]

    def adopt(self, lane_for: Callable[[str], str | None]) -> None:
        """Give a lane to what the release before put on its way; what has none (`lane_for`) is dropped."""
        for of_requests in (False, True):
            for page in self._pages(key_of("hook_due", of_requests)):
                with redis_errors():
                    known: Any = self._redis.hmget(LANE_OF, [wanted for wanted, _ in page])
                for (wanted, due_ms), lane in zip(page, known, strict=True):
                    if lane is None and (found := lane_for(wanted)) is not None:
                        self.put(wanted, found, int(due_ms), is_new=True)
                    elif lane is None:
                        self.drop([wanted])

    def _pages(self, name: str) -> Iterator[list[tuple[str, float]]]:
        at = 0
        while True:
            with redis_errors():
                scanned: Any = self._redis.zscan(name, at, count=READ_AT_ONCE)
            at, page = scanned
            if page:
                yield [(str(wanted), float(score)) for wanted, score in page]
            if at == 0:
                return


def _now_ms() -> float:
    """To the microsecond, so that lanes whose turns came in one millisecond keep their order."""
    return time.time_ns() / 1_000_000
