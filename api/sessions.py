"""Sessions of the page: an HttpOnly cookie that stands for a key, so that no script on the page ever holds the key.

Redis keeps `{zimg}:session:<sha256 of the cookie>` → sha256 of the key; the key is looked up anew for each request, so
revoking it ends its sessions.
"""

from __future__ import annotations

import hashlib
import secrets

import redis

from core.redis_client import PREFIX, redis_errors

COOKIE = "zimg_session"
SESSION_SECONDS = 30 * 86_400


def open_session(client: redis.Redis, key_hash: str) -> str:
    """The value of a new cookie for the key with this hash."""
    token = secrets.token_urlsafe(32)
    with redis_errors():
        client.set(_name(token), key_hash, ex=SESSION_SECONDS)
    return token


def find_session(client: redis.Redis, token: str) -> str | None:
    """The hash of the key that a cookie stands for."""
    with redis_errors():
        found = client.get(_name(token))
    return None if found is None else str(found)


def close_session(client: redis.Redis, token: str) -> None:
    """Forget a cookie."""
    with redis_errors():
        client.delete(_name(token))


def _name(token: str) -> str:
    return f"{PREFIX}session:" + hashlib.sha256(token.encode()).hexdigest()
