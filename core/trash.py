"""Objects that no record shows any more, waiting to be deleted from the storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from core.aside import put_aside
from core.redis_client import PREFIX, milliseconds, redis_errors


@dataclass(frozen=True, slots=True)
class Trash:
    """One thing to delete: `entry` as it stands in Redis, `key` of the object in the bucket."""

    entry: str
    key: str
    job_id: str = ""  # whose runs may have stored it, though its record shows no such picture


class TrashBin:
    """What expire.lua, remove.lua and jobs that ended without a picture left behind."""

    def __init__(self, client: redis.Redis, object_key: Callable[[str, str, int], str]) -> None:
        """`object_key(tenant, job_id, created_ms)` names the object that a run of the job may have stored."""
        self._redis = client
        self._object_key = object_key

    def due(self, limit: int) -> list[Trash]:
        """What may be deleted now. Raises RedisUnavailable."""
        with redis_errors():
            now_ms = milliseconds(self._redis.time())
            entries: list[str] = self._redis.zrangebyscore(  # type: ignore[assignment]
                f"{PREFIX}trash", "-inf", now_ms, start=0, num=limit
            )
            trash = [one for entry in entries if (one := self._trash_of(entry)) is not None]
            pipeline = self._redis.pipeline(transaction=False)
            for one in trash:
                pipeline.srem(f"{PREFIX}ref:{one.key}", one.job_id)
                pipeline.exists(f"{PREFIX}ref:{one.key}")
            shown = pipeline.execute()[1::2]
        self.forget([one for one, is_shown in zip(trash, shown, strict=True) if is_shown])
        return [one for one, is_shown in zip(trash, shown, strict=True) if not is_shown]

    def forget(self, trash: Sequence[Trash]) -> None:
        """These objects are gone, or in use after all. Raises RedisUnavailable."""
        if trash:
            with redis_errors():
                self._redis.zrem(f"{PREFIX}trash", *[one.entry for one in trash])

    def postpone(self, trash: Sequence[Trash], seconds: float) -> None:
        """These objects are due again so much later. Raises RedisUnavailable."""
        if trash:
            with redis_errors():
                due = milliseconds(self._redis.time()) + round(seconds * 1000)
                self._redis.zadd(f"{PREFIX}trash", {one.entry: due for one in trash}, xx=True)

    def _trash_of(self, entry: str) -> Trash | None:
        try:
            return self._read(entry)
        except ValueError as error:  # it names no object: nothing to delete, and the others are not to wait for it
            put_aside(self._redis, "trash", entry, error)
            self._redis.zrem(f"{PREFIX}trash", entry)
            return None

    def _read(self, entry: str) -> Trash:
        kind, _, rest = entry.partition(":")
        if kind != "job":
            return Trash(entry, entry)
        job_id, created, tenant = rest.split(":", 2)
        return Trash(entry, self._object_key(tenant, job_id, int(created)), job_id)
