"""Tenants and their keys. A key is shown once and kept as its SHA-256; a revoked one stops with the next request.

Whether a key has expired is decided by the clock of Redis, which is one for all processes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import redis

from core.errors import InvalidRequest, RedisUnavailable
from core.job import Lane
from core.job_store import TenantLimits
from core.presets import find_preset
from core.redis_client import PREFIX, as_one_step, milliseconds, redis_errors
from core.refusals import banned
from core.scripts import Scripts
from core.settings import Settings
from scheduler.keys import NO_LIMIT, ApiKey, api_key_of, draw_key, hash_key, rotate, store_key
from scheduler.quota import check_key_limits, check_limits, default_limits, limits_from, stored_limits

__all__ = ["NO_LIMIT", "ApiKey", "hash_key"]

LOCAL, ADMIN = "local", "admin"
BAN_REASON_MOST = 200
OWNERS_KEPT = 10_000
LAST_USED_STEP_MS = 60_000  # how exact `last used` is, so that reading a key is not a write each time
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who pays. `preset` "" = the service's; `ban_reason` "" = welcome."""

    name: str
    limits: TenantLimits
    preset: str = ""
    lanes: tuple[Lane, ...] = (Lane.INTERACTIVE, Lane.BATCH)
    is_admin: bool = False  # by the key that named it
    ban_reason: str = ""


def check_tenant_name(name: str) -> str:
    """The name; raises InvalidRequest if it could not be part of a Redis key or an object's key."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest("A tenant's name is a-z, 0-9, '_', '.', '-', at most 63 characters.", field="tenant")
    return name


class Tenants:
    """Tenants and keys in Redis. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._scripts = Scripts(client)
        self._defaults = default_limits(settings)
        self._owners: dict[str, str] = {}  # hash of a key -> its tenant, which says only what to read along with it

    # Tenants

    def local(self) -> Tenant:
        """Whoever sits at this machine, where no key is needed."""
        return self.get(LOCAL)

    def admin(self) -> Tenant:
        """The operator."""
        return self._tenant(ADMIN, self._read(f"tenant:{ADMIN}"), is_admin=True)

    def get(self, name: str) -> Tenant:
        """The tenant with its own limits, or with the defaults if nothing was ever set for it."""
        return self._tenant(name, self._read(f"tenant:{name}"), is_admin=False)

    def save(self, tenant: Tenant) -> None:
        """Keep a tenant's limits, weight, preset, lanes and ban. They hold from the next submit and release on."""
        check_tenant_name(tenant.name)
        check_limits(tenant.limits)
        if tenant.preset:
            find_preset(tenant.preset)
        limits = {name: str(value) for name, value in stored_limits(tenant.limits).items()}
        more = {
            "preset": tenant.preset,
            "lanes": ",".join(tenant.lanes),
            "ban_reason": tenant.ban_reason,
        }
        self._set(tenant.name, tenant.limits, {**limits, **more})

    def change(
        self, name: str, limits: Mapping[str, float], *, preset: str | None = None, lanes: Sequence[Lane] | None = None
    ) -> Tenant:
        """Change what is named and leave the rest; limits that were never set keep following the defaults.

        Raises InvalidRequest naming the limit that can not work, ConfigurationError for an unknown preset.
        """
        before = self.get(check_tenant_name(name))
        after = replace(before, limits=replace(before.limits, **limits))  # type: ignore[arg-type]
        check_limits(after.limits)
        fields = {limit: str(getattr(after.limits, limit)) for limit in limits}
        if preset is not None:
            fields["preset"] = find_preset(preset).name if preset else ""
        if lanes is not None:
            fields["lanes"] = ",".join(lanes)
        self._set(name, after.limits, fields)
        return self.get(name)

    def _set(self, name: str, limits: TenantLimits, fields: Mapping[str, str]) -> None:
        """What is set for a tenant, and how its jobs are released from now on, in one step."""
        values = [value for field in fields.items() for value in field]
        self._scripts.run("set_limits", name, str(limits.weight), str(limits.running_jobs), *values)

    def ban(self, name: str, reason: str) -> Tenant:
        """Close every key of a tenant until `unban`; each refusal says the reason. `local` and `admin` stay."""
        if check_tenant_name(name) in (LOCAL, ADMIN):
            raise InvalidRequest(f"The tenant {name} can not be banned.", field="tenant")
        if not reason.strip():
            raise InvalidRequest("A ban needs a reason; its tenant reads it.", field="reason")
        self._set_ban(name, reason.strip()[:BAN_REASON_MOST])
        return self.get(name)

    def unban(self, name: str) -> Tenant:
        """Open the tenant's keys again."""
        self._set_ban(check_tenant_name(name), "")
        return self.get(name)

    def _set_ban(self, name: str, reason: str) -> None:
        self._scripts.run("ban", name, reason)

    def names(self) -> set[str]:
        """Tenants that something was set for, or that have a key."""
        with redis_errors():
            saved = {str(name) for name in self._redis.smembers(f"{PREFIX}tenants")}
        return saved | {key.tenant for key in self.list_keys()}

    # Keys

    def now_ms(self) -> int:
        """The time by which keys expire, in milliseconds since 1970."""
        with redis_errors():
            return milliseconds(self._redis.time())

    def any_key(self) -> bool:
        """Whether a key was ever made: from then on one is needed everywhere."""
        with redis_errors():
            return bool(self._redis.exists(f"{PREFIX}keys"))

    def local_without_keys(self) -> Tenant | None:
        """`local` as long as nobody made a key, None from then on."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.exists(f"{PREFIX}keys")
            pipeline.hgetall(f"{PREFIX}tenant:{LOCAL}")
            any_key, stored = pipeline.execute()
        return None if any_key else self._tenant(LOCAL, stored, is_admin=False)

    def create_key(
        self,
        tenant: str,
        *,
        label: str = "",
        is_admin: bool = False,
        expires_ms: int = 0,
        daily_units: int = NO_LIMIT,
        burst: int = NO_LIMIT,
    ) -> tuple[str, ApiKey]:
        """A new key of the tenant: the key itself, which nobody can read again, and what may be shown of it.

        `daily_units` and `burst` are limits of its own; raises InvalidRequest for one above its tenant's.
        """
        check_tenant_name(tenant)
        if max(daily_units, burst) != NO_LIMIT:
            check_key_limits(self.get(tenant).limits, daily_units=daily_units, burst=burst)
        key, shown = draw_key(tenant, now_ms=self.now_ms(), label=label, is_admin=is_admin, expires_ms=expires_ms)
        shown = replace(shown, daily_units=daily_units, burst=burst)
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            store_key(pipeline, shown)
            pipeline.execute()
        return key, shown

    def first_admin_key(self) -> str | None:
        """An admin key if no key exists yet, made by exactly one of the processes that ask; None otherwise."""
        if self.any_key():
            return None
        with redis_errors():
            is_first = self._redis.set(f"{PREFIX}first_admin_key", "1", nx=True, ex=60)
        return self.create_key(ADMIN, label="first start", is_admin=True)[0] if is_first else None

    def find(self, key_hash: str) -> Tenant | None:
        """The tenant of a key; None if the key is unknown, revoked or expired. Raises Forbidden for a banned tenant."""
        likely = self._owners.get(key_hash, "")  # a key keeps its tenant: both are read anew, in one call
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.hgetall(f"{PREFIX}key:{key_hash}")
            pipeline.time()
            pipeline.hgetall(f"{PREFIX}tenant:{likely}")
            stored, now, of_tenant = pipeline.execute()
        if not stored or not hmac.compare_digest(stored["id"], key_hash):
            return None
        key, now_ms = api_key_of(stored), milliseconds(now)
        if not key.is_open(now_ms):
            return None
        if likely != key.tenant:
            of_tenant = self._read(f"tenant:{key.tenant}")
            self._remember_owner(key_hash, key.tenant)
        tenant = self._tenant(key.tenant, of_tenant, is_admin=key.is_admin)
        if tenant.ban_reason:
            raise banned(tenant.ban_reason)
        if now_ms - key.last_used_ms >= LAST_USED_STEP_MS:
            self._note_use(key_hash, now_ms)
        return replace(tenant, limits=replace(tenant.limits, key=key.limits)) if key.limits else tenant

    def _note_use(self, key_hash: str, now_ms: int) -> None:
        """A server that is full, or a replica, takes no notes: that shuts nobody out, and the next call tries again."""
        with suppress(RedisUnavailable), redis_errors():
            self._redis.hset(f"{PREFIX}key:{key_hash}", "last_used_ms", str(now_ms))

    def _remember_owner(self, key_hash: str, tenant: str) -> None:
        if len(self._owners) >= OWNERS_KEPT:
            self._owners.clear()
        self._owners[key_hash] = tenant

    def list_keys(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, oldest first, revoked ones too; those of one tenant if it is named."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            hashes: list[str] = self._redis.zrange(f"{PREFIX}keys", 0, -1)  # type: ignore[assignment]
            for key_hash in hashes:
                pipeline.hgetall(f"{PREFIX}key:{key_hash}")
            rows = pipeline.execute()
        keys = [api_key_of(row) for row in rows if row]
        return [key for key in keys if tenant is None or key.tenant == tenant]

    def revoke_key(self, key_id: str) -> bool:
        """Close a key for ever, by its id or the start of it (at least 8 characters). False if there is no such key."""
        found = self._find_id(key_id)
        if found is not None:
            self._scripts.run("revoke", found)
        return found is not None

    def rotate_key(
        self, key_id: str, *, overlap_seconds: int = 0, by_operator: bool = False
    ) -> tuple[str, ApiKey] | None:
        """A new key like the old one, which works for `overlap_seconds` more. None if there is no such open key.

        The new key has the end that the old one was made with, and an overlap never lengthens the old one. A new key of
        the last hour that nobody has used is closed by the next: the answer that showed it may be lost. For that the
        operator may name the old key though it stopped at once.
        """
        found = self._find_id(key_id)
        if found is None:
            return None
        name = f"{PREFIX}key:{found}"

        def attempt(pipeline: Any) -> tuple[str, ApiKey] | None:
            return rotate(pipeline, name, overlap_seconds=overlap_seconds, by_operator=by_operator)

        return as_one_step(self._redis, attempt, name)

    def key(self, key_id: str) -> ApiKey | None:
        """What may be shown of the key with this whole id; None if unknown."""
        stored = self._read(f"key:{key_id}")
        return api_key_of(stored) if stored else None

    def _find_id(self, start: str) -> str | None:
        matches = [key.id for key in self.list_keys() if len(start) >= 8 and key.id.startswith(start)]
        return matches[0] if len(matches) == 1 else None

    def _read(self, name: str) -> dict[str, str]:
        with redis_errors():
            return self._redis.hgetall(PREFIX + name)  # type: ignore[return-value]

    def _tenant(self, name: str, stored: Mapping[str, str], *, is_admin: bool) -> Tenant:
        lanes = stored.get("lanes") or ",".join(Lane)
        return Tenant(
            name=name,
            limits=limits_from(stored, self._defaults),
            preset=stored.get("preset", ""),
            lanes=tuple(Lane(lane) for lane in lanes.split(",")),
            is_admin=is_admin,
            ban_reason=stored.get("ban_reason", ""),
        )
