"""The sheet that a batch came from, kept beside its jobs so that the same sheet can go back."""

from __future__ import annotations

import hashlib
import json
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import redis
from redis.client import Pipeline

from core.job import known_fields
from core.redis_client import PREFIX, milliseconds, redis_errors
from core.settings import Settings

#: Longer than any call takes to store its rows.
CALL_SECONDS_MOST = 3600
#: How long a list that is gone is told from one that never was.
KNOWN_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch: the sheet as text, how it was written, and the prompt of each variant.

    Its jobs carry sku, variant and row (from 0) in their metadata.
    """

    id: str
    tenant: str
    created_ms: int
    name: str  # of the file, for the download
    delimiter: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    templates: Mapping[str, str] = field(default_factory=dict)  # variant -> prompt template


Ending = Literal["completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """How far the jobs of one batch are."""

    id: str
    tenant: str
    total: int
    succeeded: int
    dead: int
    canceled: int
    missing: int = 0  # rows of the list that are not stored: not yet (`is_coming_in`), or the call broke off
    is_coming_in: bool = False
    again: int = 0  # dead ones that were tried again; each is one picture, which `dead` counts no more

    @property
    def open(self) -> int:
        return self.total - self.succeeded - self.dead - self.canceled

    @property
    def ending(self) -> Ending:
        """How a complete list came out, alike for who asks and who is told: by the best that came of its pictures."""
        return "completed" if self.succeeded else "failed" if self.dead else "canceled"

    @property
    def is_complete(self) -> bool:
        """Nothing is open, and nothing of the list is missing, be it on its way or not."""
        return self.open == 0 and self.missing == 0


class BatchStore:
    """Keeps batches for longer than their jobs' records. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        # A record's time begins at its job's end: a deadline later, or two where others follow it (worker/shelf.py).
        self._seconds = settings.record_retention_seconds + 2 * settings.batch_deadline_seconds + CALL_SECONDS_MOST
        self._key_ms = (settings.idempotency_seconds + CALL_SECONDS_MOST) * 1000

    def id_for(self, tenant: str, key: str, body_hash: str, *, last_key: str) -> str:
        """A new id; for an Idempotency-Key used before with the same body the id it got then.

        `last_key` is the key of the list's last row, which is known for longest: it names the batch where the list's
        own record was lost.
        """
        new = f"batch_{secrets.token_hex(12)}"
        if not key:
            return new
        name = _list_name(tenant, key, body_hash)
        with redis_errors():
            if kept := self._redis.get(name):
                return str(kept)
            batch_id = self._batch_of_row(tenant, last_key, body_hash) or new
            is_new = self._redis.set(name, batch_id, nx=True, px=self._key_ms)
            return batch_id if is_new else str(self._redis.get(name) or batch_id)

    def keep_id(self, tenant: str, key: str, body_hash: str, batch_id: str) -> None:
        """Know the list by its key for its whole time from now on: so that it outlives the keys of rows stored next."""
        if key:
            with redis_errors():
                self._redis.set(_list_name(tenant, key, body_hash), batch_id, px=self._key_ms)

    def _batch_of_row(self, tenant: str, key: str, body_hash: str) -> str:
        """The batch of the row that was stored under a key with the same body; "" if there is none."""
        known_hash, _, job_id = str(self._redis.get(f"{PREFIX}idem:{tenant}:{key}") or "").partition("|")
        return str(self._redis.hget(f"{PREFIX}job:{job_id}", "batch") or "") if known_hash == body_hash else ""

    def save(self, batch: Batch) -> None:
        """Keep a batch; again with the same id it replaces what was there."""
        packed = zlib.compress(json.dumps(asdict(batch), ensure_ascii=False, separators=(",", ":")).encode(), level=6)
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.set(_sheet(batch.id), packed.hex(), ex=self._seconds)
            pipeline.set(_known(batch.id), batch.tenant, ex=self._seconds + KNOWN_SECONDS)
            pipeline.zadd(_of(batch.tenant), {batch.id: batch.created_ms})
            pipeline.zremrangebyscore(_of(batch.tenant), "-inf", batch.created_ms - self._seconds * 1000)
            pipeline.expire(_of(batch.tenant), self._seconds)
            pipeline.execute()

    def lengthen(self, batch_id: str, tenant: str) -> None:
        """Jobs are added to a batch now: it is kept as long as if it came now."""
        with redis_errors():
            now_ms = milliseconds(self._redis.time())
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.expire(_sheet(batch_id), self._seconds)
            pipeline.expire(_known(batch_id), self._seconds + KNOWN_SECONDS)
            pipeline.zadd(_of(tenant), {batch_id: now_ms}, xx=True)
            pipeline.expire(_of(tenant), self._seconds)
            pipeline.execute()

    def was_known(self, batch_id: str, tenant: str) -> bool:
        """Whether the tenant had such a batch (410), as opposed to never (404)."""
        with redis_errors():
            return bool(self._redis.get(_known(batch_id)) == tenant)

    def get(self, batch_id: str) -> Batch | None:
        """The batch, or None if unknown or gone (see `was_known`)."""
        with redis_errors():
            packed = self._redis.get(_sheet(batch_id))
        if packed is None:
            return None
        stored = known_fields(Batch, zlib.decompress(bytes.fromhex(str(packed))).decode())
        stored["header"] = tuple(stored["header"])
        stored["rows"] = tuple(tuple(row) for row in stored["rows"])
        return Batch(**stored)

    def save_again(self, batch: Batch) -> None:
        """Keep a batch whose jobs were stored, if the same list, sent at the same time and refused, took it away."""
        with redis_errors():
            is_there = self._redis.exists(_sheet(batch.id))
        if not is_there:
            self.save(batch)

    def forget(self, batch_id: str, tenant: str) -> None:
        """Remove a batch whose jobs were refused, as if it had never been, unless some were stored meanwhile."""
        jobs = f"{PREFIX}batch:{batch_id}"

        def remove(pipeline: Pipeline) -> None:
            is_stored = pipeline.exists(jobs)
            pipeline.multi()
            if not is_stored:
                pipeline.delete(_known(batch_id), _sheet(batch_id))
                pipeline.zrem(_of(tenant), batch_id)

        with redis_errors():
            self._redis.transaction(remove, jobs)

    def drop(self, batch_id: str, tenant: str) -> None:
        """Remove a batch that is gone; that it was there stays known."""
        self._forget([batch_id], tenant)

    def forget_all(self, tenant: str) -> None:
        """Remove every batch of a tenant, whatever became of its jobs."""
        with redis_errors():
            ids = [str(one) for one in self._redis.zrange(_of(tenant), 0, -1)]
        if ids:
            self._forget(ids, tenant)

    def _forget(self, ids: Sequence[str], tenant: str) -> None:
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.delete(*map(_sheet, ids))
            pipeline.zrem(_of(tenant), *ids)
            pipeline.execute()


def _list_name(tenant: str, key: str, body_hash: str) -> str:
    return f"{PREFIX}list:{tenant}:{hashlib.sha256(f'{key}|{body_hash}'.encode()).hexdigest()}"


def _sheet(batch_id: str) -> str:
    return f"{PREFIX}sheet:{batch_id}"


def _known(batch_id: str) -> str:
    """That there is, or was, such a batch: outlives its sheet."""
    return f"{PREFIX}known_list:{batch_id}"


def _of(tenant: str) -> str:
    """The tenant's sheets, by when their jobs last came."""
    return f"{PREFIX}sheets:{tenant}"
