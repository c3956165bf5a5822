"""What was sent to an endpoint and what came of it: the newest deliveries, the failed ones apart, earlier attempts."""

from __future__ import annotations

from typing import Any

import redis

from core.redis_client import PREFIX, redis_errors

KEPT_SECONDS = 14 * 86_400  # a delivery's record, longer than its retries
LOGGED_MOST = 10_000  # events of an endpoint, and beside them as many that failed
EARLIER_MOST = 100  # attempts from before a delivery was sent again


class DeliveryLog:
    """Ids of an endpoint's deliveries by when they began. Raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def add(self, endpoint_id: str, wanted: str, at_ms: int, *, failed: bool = False) -> None:
        """Put a delivery into the log, or among the failed ones; the oldest beyond the bound go."""
        name = _name(endpoint_id, failed=failed)
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.zadd(name, {wanted: at_ms})
            pipeline.zremrangebyrank(name, 0, -LOGGED_MOST - 1)
            pipeline.expire(name, KEPT_SECONDS)
            pipeline.execute()

    def is_no_failure(self, endpoint_id: str, wanted: str) -> None:
        """Take a delivery from the failed ones."""
        with redis_errors():
            self._redis.zrem(_name(endpoint_id, failed=True), wanted)

    def page(self, endpoint_id: str, *, after: str | None, limit: int, failed: bool) -> list[str]:
        """Ids, newest first, behind `after`; none behind one that the log no longer has."""
        name = _name(endpoint_id, failed=failed)
        with redis_errors():
            rank: Any = -1 if after is None else self._redis.zrevrank(name, after)
            return [] if rank is None else [str(one) for one in self._redis.zrevrange(name, rank + 1, rank + limit)]

    def forget(self, endpoint_id: str) -> list[str]:
        """Remove an endpoint's log; the ids that it had."""
        names = [_name(endpoint_id, failed=failed) for failed in (False, True)]
        with redis_errors():
            ids = {str(one) for name in names for one in self._redis.zrange(name, 0, -1)}
            self._redis.delete(*names, *(f"{PREFIX}hook_earlier:{one}" for one in ids))
        return list(ids)

    def keep_earlier(self, wanted: str, attempts: list[str]) -> None:
        """Keep attempts, as JSON, that were made before a delivery was sent again."""
        if not attempts:
            return
        name = f"{PREFIX}hook_earlier:{wanted}"
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.rpush(name, *attempts)
            pipeline.ltrim(name, -EARLIER_MOST, -1)
            pipeline.expire(name, KEPT_SECONDS)
            pipeline.execute()

    def earlier(self, wanted: str) -> list[str]:
        """Those attempts, oldest first."""
        with redis_errors():
            found: Any = self._redis.lrange(f"{PREFIX}hook_earlier:{wanted}", 0, -1)
        return [str(one) for one in found]


def _name(endpoint_id: str, *, failed: bool) -> str:
    return f"{PREFIX}hook_{'failed_' if failed else ''}log:{endpoint_id}"
