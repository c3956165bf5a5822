"""Invites: codes that let somebody make an account of their own. A code is shown once and kept as its SHA-256."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import redis

from core.errors import Forbidden, InvalidRequest
from core.redis_client import PREFIX, milliseconds, redis_errors
from core.scripts import Scripts
from scheduler.keys import ApiKey, draw_key, hash_key, key_fields
from scheduler.tenants import ADMIN, LOCAL, check_tenant_name

CODE_PREFIX = "invite_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What may be shown of an invite. `left` of `uses` may still sign up; times are milliseconds, 0 = never."""

    id: str
    hint: str  # the code's last four characters
    label: str = ""
    uses: int = 1
    left: int = 1
    daily_units: int = -1  # of each account that it makes; -1 = the service's default
    created_ms: int = 0
    expires_ms: int = 0


class Invites:
    """Makes, lists and uses invites. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._scripts = Scripts(client)

    def create(
        self, *, uses: int = 1, expires_ms: int = 0, label: str = "", daily_units: int = -1
    ) -> tuple[str, Invite]:
        """A new code, which nobody can read again, and what may be shown of it."""
        code = CODE_PREFIX + secrets.token_urlsafe(18)
        shown = Invite(
            id=hash_key(code),
            hint=code[-4:],
            label=label,
            uses=uses,
            left=uses,
            daily_units=daily_units,
            created_ms=self._now_ms(),
            expires_ms=expires_ms,
        )
        fields: dict[Any, Any] = {name: str(value) for name, value in asdict(shown).items()}
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(f"{PREFIX}invite:{shown.id}", mapping=fields)
            pipeline.zadd(f"{PREFIX}invites", {shown.id: shown.created_ms})
            pipeline.execute()
        return code, shown

    def _now_ms(self) -> int:
        with redis_errors():
            return milliseconds(self._redis.time())

    def list_invites(self) -> list[Invite]:
        """All invites, oldest first, used up and expired ones too."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            ids: list[str] = self._redis.zrange(f"{PREFIX}invites", 0, -1)  # type: ignore[assignment]
            for invite_id in ids:
                pipeline.hgetall(f"{PREFIX}invite:{invite_id}")
            rows = pipeline.execute()
        return [_invite(row) for row in rows if row]

    def withdraw(self, invite_id: str) -> bool:
        """End an invite; accounts made with it stay. False if there is none with this id."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.zrem(f"{PREFIX}invites", invite_id)
            pipeline.delete(f"{PREFIX}invite:{invite_id}")
            removed, _ = pipeline.execute()
        return bool(removed)

    def take(self, code: str, tenant: str) -> tuple[str, ApiKey]:
        """A new tenant and its first key, for one use of the code, in one step.

        With the same code and name within an hour, while nobody has used that key: another in its place, since the
        answer that showed the first may have been lost. That uses the code up no further.
        Raises Forbidden for a code that is unknown, used up or expired, InvalidRequest for a name that is taken.
        """
        if check_tenant_name(tenant) in (LOCAL, ADMIN):
            _refuse("taken")
        invite_id = hash_key(code)
        with redis_errors():
            daily_units = int(str(self._redis.hget(f"{PREFIX}invite:{invite_id}", "daily_units") or -1))
        key, shown = draw_key(tenant, now_ms=self._now_ms(), label="sign-up")
        own = {} if daily_units < 0 else {"daily_units": str(daily_units)}
        fields = [text for pair in (*own.items(), *key_fields(shown).items()) for text in pair]
        answer = str(self._scripts.run("take_invite", invite_id, tenant, shown.id, shown.created_ms, len(own), *fields))
        if answer != "ok":
            _refuse(answer)
        return key, shown


def _refuse(why: str) -> NoReturn:
    if why == "taken":
        raise InvalidRequest("This name is taken; choose another.", field="name")
    said = {"expired": "This invite has expired.", "spent": "This invite is used up."}
    raise Forbidden(said.get(why, "This invite is not known here; it may have been withdrawn."))


def _invite(stored: Mapping[str, str]) -> Invite:
    numbers = ("uses", "left", "daily_units", "created_ms", "expires_ms")
    return Invite(
        id=stored["id"],
        hint=stored["hint"],
        label=stored.get("label", ""),
        **{name: int(stored.get(name, 0)) for name in numbers},
    )
