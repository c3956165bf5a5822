"""How much of its memory Redis uses. A full one takes in nothing new, so somebody should know long before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from core.redis_client import redis_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisMemory:
    """In bytes. Where no `maxmemory` is set, the most is the memory of the server's machine."""

    used_bytes: int  # as it counts towards maxmemory
    most_bytes: int


def redis_memory(client: redis.Redis) -> RedisMemory | None:
    """None of a server that does not say (a managed one may not). Raises RedisUnavailable on connection trouble."""
    try:
        with redis_errors():
            told: Any = client.info("memory")
    except ResponseError:
        return None
    most = int(told.get("maxmemory", 0)) or int(told.get("total_system_memory", 0))
    used = int(told.get("used_memory", 0)) - int(told.get("mem_not_counted_for_evict", 0))
    return RedisMemory(used_bytes=used, most_bytes=most) if most else None
