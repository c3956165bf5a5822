"""What was sent to an endpoint and what came of it: the newest deliveries, the failed ones apart, earlier attempts."""

from __future__ import annotations

from typing import Any

import redis

from core.job_pages import Place, places_behind, unknown_cursor
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
        """Ids, newest first, behind `after`, though that one has left the failed ones meanwhile.

        Raises InvalidRequest naming the cursor for an `after` that the endpoint's log does not have.
        """
        place = None if after is None else Place(self._at_ms(endpoint_id, after), after)
        found = places_behind(self._redis, _name(endpoint_id, failed=failed), place, limit)
        return [one.id for one in found]

    def _at_ms(self, endpoint_id: str, wanted: str) -> float:
        with redis_errors():
            known = [self._redis.zscore(_name(endpoint_id, failed=failed), wanted) for failed in (False, True)]
        at_ms: Any = next((one for one in known if one is not None), None)
        if at_ms is None:
            raise unknown_cursor()
        return float(at_ms)

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
