"""The sheet that a batch came from, kept beside its jobs so that the same sheet can go back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import redis

from core.job import known_fields
from core.redis_client import PREFIX, redis_errors
from core.settings import Settings


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


class BatchStore:
    """Keeps batches for as long as their jobs' records. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._seconds = settings.record_retention_seconds

    def save(self, batch: Batch) -> None:
        """Keep a batch; again with the same id it replaces what was there."""
        packed = zlib.compress(json.dumps(asdict(batch), ensure_ascii=False, separators=(",", ":")).encode(), level=6)
        with redis_errors():
            self._redis.set(f"{PREFIX}sheet:{batch.id}", packed.hex(), ex=self._seconds)

    def get(self, batch_id: str) -> Batch | None:
        """The batch, or None if unknown or gone."""
        with redis_errors():
            packed = self._redis.get(f"{PREFIX}sheet:{batch_id}")
        if packed is None:
            return None
        stored = known_fields(Batch, zlib.decompress(bytes.fromhex(str(packed))).decode())
        stored["header"] = tuple(stored["header"])
        stored["rows"] = tuple(tuple(row) for row in stored["rows"])
        return Batch(**stored)

    def forget(self, batch_id: str) -> None:
        """Remove a batch whose jobs were refused."""
        with redis_errors():
            self._redis.delete(f"{PREFIX}sheet:{batch_id}")
