"""What can not be read is put aside: said in the log by its name, counted, and in nobody's way."""

from __future__ import annotations

from contextlib import suppress

import redis

from core.errors import RedisUnavailable
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors

ASIDE = f"{PREFIX}aside"
#: What can be put aside, as zimg_put_aside_total shows it.
ASIDE_KINDS = ("job", "ended_job", "endpoint", "delivery", "trash", "message")

log = get_logger(__name__)


def put_aside(client: redis.Redis, kind: str, name: str, error: BaseException | str) -> None:
    """Say and count it; `kind` is one of ASIDE_KINDS. Raises nothing: a count that is lost is no harm."""
    said = error if isinstance(error, str) else repr(error)
    log.error("put aside: it can not be read", action="aside", kind=kind, name=name[:200], error=said[:500])
    with suppress(RedisUnavailable), redis_errors():
        client.hincrby(ASIDE, kind, 1)
