"""Which call OpenAI's client sends again.

It repeats a call by itself, without a key of its own, when the connection broke or the answer was 429 or 503. It says
so (`x-stainless-retry-count`), but not which call it repeats; and two calls with one body are two wishes. So each call
gets a key, and the keys of those that went without an answer are kept under tenant and body: each retry takes one.
Whether an answer that was written also arrived nobody can know here. It counts as lost for ten seconds, in which a
client comes again: within them a retry never draws twice, after them it is of a call that never arrived.
Calls that are no retries are never merged, however alike and however quick: a program that asks four times in a loop
wants four pictures. The double click that /v1/jobs looks for is a person's, and so of calls without this header alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from flask import request

from api.errors import GenerationFailed
from core.errors import RedisUnavailable
from core.redis_client import PREFIX, milliseconds, redis_errors

RETRY_COUNT = "x-stainless-retry-count"
#: Longer than any client waits before its retry.
KEPT_SECONDS = 900
#: Longer than OpenAI's client waits (8 s) before it sends again what a broken connection took.
ANSWER_LOST_SECONDS = 10


@contextmanager
def key_of_call(server: redis.Redis, route: str, owner: str, body_hash: str) -> Iterator[str]:
    """An idempotency key for the call that is being answered: that of the call which it repeats, or a new one."""
    calls = _Calls(server, f"{PREFIX}calls:{owner}:{route}:{body_hash}")
    key = (calls.take() if is_retry() else None) or f"{route}:auto-{secrets.token_hex(16)}"
    calls.begin(key)
    try:
        yield key
    except GenerationFailed:  # an answer: the client does not come again
        calls.end(key)
        raise
    except Exception:
        calls.end(key, unanswered=counts_its_tries())
        raise
    calls.end(key)


def counts_its_tries() -> bool:
    """Whether a client sent this that comes again by itself."""
    return RETRY_COUNT in request.headers


def is_retry() -> bool:
    """Whether the client says that it sends this request again."""
    count = request.headers.get(RETRY_COUNT, "0")
    return count.isascii() and count.isdigit() and int(count[:6]) > 0


class _Calls:
    """The calls with one body of one tenant: sent away without a picture, being answered, and answered just now."""

    def __init__(self, server: redis.Redis, name: str) -> None:
        self._server = server
        self._unanswered, self._open, self._answered = f"{name}:unanswered", f"{name}:open", f"{name}:answered"

    def take(self) -> str | None:
        """The key for a retry: of a call that was sent away, of an open one, of one whose answer may be lost."""
        with redis_errors():
            found = (
                self._server.lpop(self._unanswered)
                or self._server.lmove(self._open, self._open, "LEFT", "RIGHT")
                or self._take_answered()
            )
        return str(found) if found else None

    def _take_answered(self) -> str | None:
        over_ms = milliseconds(self._server.time()) - ANSWER_LOST_SECONDS * 1000
        self._server.zremrangebyscore(self._answered, "-inf", over_ms)
        found: Any = self._server.zpopmax(self._answered)
        return found[0][0] if found else None

    def begin(self, key: str) -> None:
        with redis_errors(), self._server.pipeline() as batch:
            batch.rpush(self._open, key)
            batch.expire(self._open, KEPT_SECONDS)
            batch.execute()

    def end(self, key: str, *, unanswered: bool = False) -> None:
        """Where Redis is away the key counts as open until it runs out: the answer is not lost for that."""
        with suppress(RedisUnavailable), redis_errors(), self._server.pipeline() as batch:
            batch.lrem(self._open, 0, key)
            batch.lrem(self._unanswered, 0, key)  # a retry that had joined it may have ended before
            if unanswered:
                batch.rpush(self._unanswered, key)
                batch.expire(self._unanswered, KEPT_SECONDS)
            else:
                batch.zadd(self._answered, {key: milliseconds(self._server.time())})
                batch.expire(self._answered, ANSWER_LOST_SECONDS)
            batch.execute()
