"""Keys: how one is drawn, stored, and replaced by another."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import redis

from core.look import KeyLimits
from core.redis_client import PREFIX, milliseconds

KEY_PREFIX = "zimg_"
NO_LIMIT = -1
KEY_ID_CHARACTERS = 16  # of a key's id, in the names of its counters
LOST_ANSWER_MS = 3_600_000  # so long a new key that nobody has used may be one that nobody has seen


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What may be shown of a key. `id` is its SHA-256; times are milliseconds, 0 = never."""

    id: str
    tenant: str
    hint: str  # its last four characters
    label: str = ""
    is_admin: bool = False
    created_ms: int = 0
    last_used_ms: int = 0
    expires_ms: int = 0
    revoked_ms: int = 0
    daily_units: int = NO_LIMIT  # its own limits, beside its tenant's
    burst: int = NO_LIMIT
    counted_as: str = ""  # whose counters it goes on with: of the key that it was rotated from
    replaced_by: str = ""  # the id of the last key that it was rotated into
    own_expires_ms: int = 0  # of one that was replaced: its end before an overlap brought that nearer

    def is_open(self, now_ms: int) -> bool:
        """Whether it still opens the door."""
        return not self.revoked_ms and not (self.expires_ms and self.expires_ms <= now_ms)

    @property
    def limits(self) -> KeyLimits | None:
        """Its own limits, None if it has all that its tenant has."""
        if self.daily_units == NO_LIMIT and self.burst == NO_LIMIT:
            return None
        daily, burst = (None if one == NO_LIMIT else one for one in (self.daily_units, self.burst))
        return KeyLimits(id=(self.counted_as or self.id)[:KEY_ID_CHARACTERS], daily_units=daily, burst=burst)


def hash_key(key: str) -> str:
    """How a key is kept and looked up. Keys are 256 random bits, so one round of SHA-256 is enough."""
    return hashlib.sha256(key.encode()).hexdigest()


def draw_key(
    tenant: str, *, now_ms: int, label: str = "", is_admin: bool = False, expires_ms: int = 0
) -> tuple[str, ApiKey]:
    """A new key, kept nowhere yet, and what may be shown of it."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    shown = ApiKey(
        id=hash_key(key),
        tenant=tenant,
        hint=key[-4:],
        label=label,
        is_admin=is_admin,
        created_ms=now_ms,
        expires_ms=expires_ms,
    )
    return key, shown


def rotate(pipeline: Any, name: str, *, overlap_seconds: int, by_operator: bool = False) -> tuple[str, ApiKey] | None:
    """Of two at once the second finds the key closed by the first, unless an overlap keeps it open.

    A closed key is replaced again by the operator alone. To whoever holds it that would give a way back in, and with it
    the account of an owner who replaced it because it was stolen.
    """
    old, now_ms = api_key_of(pipeline.hgetall(name)), milliseconds(pipeline.time())
    unseen = _unseen(pipeline, old, now_ms)
    pipeline.multi()
    if not old.is_open(now_ms) and not (by_operator and unseen and not old.revoked_ms):
        return None
    key, shown = _successor(old, now_ms)
    store_key(pipeline, shown)
    ends_ms = now_ms + overlap_seconds * 1000
    if old.expires_ms:
        ends_ms = min(ends_ms, old.expires_ms)
    shortened: dict[Any, Any] = {"expires_ms": ends_ms, "own_expires_ms": shown.expires_ms, "replaced_by": shown.id}
    pipeline.hset(name, mapping=shortened)
    if unseen:
        pipeline.hset(unseen, "revoked_ms", str(now_ms))
    return key, shown


def _unseen(pipeline: Any, old: ApiKey, now_ms: int) -> str:
    """Where the key is that `old` was replaced by, if the answer that showed it may be lost; "" if not."""
    if not old.replaced_by:
        return ""
    name = f"{PREFIX}key:{old.replaced_by}"
    pipeline.watch(name)  # somebody may use it right now
    fresh = api_key_of(pipeline.hgetall(name))
    is_unseen = not fresh.last_used_ms and now_ms - fresh.created_ms < LOST_ANSWER_MS
    return name if is_unseen and fresh.is_open(now_ms) else ""


def _successor(old: ApiKey, now_ms: int) -> tuple[str, ApiKey]:
    """A new key like `old`, with the end that it had of its own."""
    ends_ms = old.own_expires_ms if old.replaced_by else old.expires_ms
    key, shown = draw_key(old.tenant, now_ms=now_ms, label=old.label, is_admin=old.is_admin, expires_ms=ends_ms)
    counted_as = old.counted_as or old.id
    return key, replace(shown, daily_units=old.daily_units, burst=old.burst, counted_as=counted_as)


def key_fields(key: ApiKey) -> dict[str, str]:
    """A key as it is stored."""
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in asdict(key).items()}


def store_key(pipeline: redis.client.Pipeline, key: ApiKey) -> None:
    """Keep a key, and its tenant's name among those that are known."""
    fields: dict[Any, Any] = dict(key_fields(key))
    pipeline.hset(f"{PREFIX}key:{key.id}", mapping=fields)
    pipeline.zadd(f"{PREFIX}keys", {key.id: key.created_ms})
    pipeline.sadd(f"{PREFIX}tenants", key.tenant)


def api_key_of(stored: Mapping[str, str]) -> ApiKey:
    """A key from how it is stored."""
    return ApiKey(
        id=stored["id"],
        tenant=stored["tenant"],
        hint=stored["hint"],
        label=stored.get("label", ""),
        is_admin=stored.get("is_admin") == "1",
        created_ms=int(stored.get("created_ms", 0)),
        last_used_ms=int(stored.get("last_used_ms", 0)),
        expires_ms=int(stored.get("expires_ms", 0)),
        revoked_ms=int(stored.get("revoked_ms", 0)),
        daily_units=int(stored.get("daily_units", NO_LIMIT)),
        burst=int(stored.get("burst", NO_LIMIT)),
        counted_as=stored.get("counted_as", ""),
        replaced_by=stored.get("replaced_by", ""),
        own_expires_ms=int(stored.get("own_expires_ms", 0)),
    )
