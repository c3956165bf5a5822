"""The one door to Redis: short timeouts, no silent replays, and our own error when it does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from core.errors import RedisUnavailable

#: One hash tag, so that all keys live in one slot and scripts may touch any of them.
PREFIX = "{zimg}:"
#: Answers of a server that is there but can not take a command now: full, a replica, starting, cut off, out of disk.
REFUSALS = (OutOfMemoryError, ReadOnlyError, BusyLoadingError, MasterDownError, ClusterDownError, TryAgainError)
REFUSING_WORDS = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN")

Result = TypeVar("Result")


def connect(url: str, *, timeout_seconds: float = 5.0, connections: int = 100) -> redis.Redis:
    """A client for `url` that never repeats a command by itself (redis-py's default does, ten times).

    At most `connections` threads use it at once; one more gets RedisUnavailable.
    """
    client: redis.Redis = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=min(timeout_seconds, 3.0),
        socket_keepalive=True,
        health_check_interval=10,
        max_connections=connections,
        retry=Retry(NoBackoff(), 0),
    )
    return client


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn trouble with the server into RedisUnavailable; an error of our own making stays what it is."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise RedisUnavailable(f"Redis did not answer ({type(error).__name__}); try again shortly.") from error
    except ResponseError as error:
        if is_refusal(error):
            raise RedisUnavailable("Redis takes no writes now; try again shortly.") from error
        raise


def is_refusal(error: ResponseError) -> bool:
    """Whether the server is only unable now, as opposed to our having asked for something wrong."""
    return isinstance(error, REFUSALS) or str(error).startswith(REFUSING_WORDS)


def call(function: Callable[[], Result], *, tries: int = 3, pause_seconds: float = 0.2) -> Result:
    """Call until it works, at most `tries` times; only for replay-safe calls with the same ids and tokens.

    Raises the last RedisUnavailable.
    """
    for attempt in range(1, tries + 1):
        try:
            return function()
        except RedisUnavailable:
            if attempt == tries:
                raise
            time.sleep(pause_seconds * attempt)
    raise AssertionError("unreachable: tries is at least 1")
