"""Whose request it is: a key in `Authorization: Bearer`, a session of the page, or the tenant `local`.

Without keys on a loopback address everybody on this machine is `local`; then the Host header must be loopback (a page
that rebinds its DNS name to 127.0.0.1 can not read anything) and cross-origin requests are refused (no page on the web
can draw here).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import g, request

from api.context import Services, services
from api.pacing import group_of
from api.sessions import COOKIE, find_session
from core.errors import Forbidden, InvalidRequest, Unauthenticated
from scheduler.tenants import Tenant, hash_key

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
KEY_PREFIX = "zimg_"
#: Whose request it is meant to be. The page names whose pictures it shows: another tab may have signed in as another.
#: Who sends a key has said by it who asks.
MEANT_HEADER = "X-Zimg-Tenant"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant, the hash of the key that said so ("" for `local`), and whether it is the admin key."""

    tenant: Tenant
    key_hash: str = ""
    is_admin: bool = False
    by_cookie: bool = False


def require_tenant() -> None:
    """before_request of every route that belongs to somebody: sets `g.tenant`.

    Raises Unauthenticated, Forbidden, and InvalidRequest where a page means another account.
    """
    if request.method != "OPTIONS":
        _identify()
        g.tells_limits = g.tenant


def _identify() -> None:
    caller = find_caller(services())
    if caller is None:
        raise Unauthenticated(_what_to_send())
    sent_no_key = caller.by_cookie or not caller.key_hash
    if sent_no_key and request.headers.get(MEANT_HEADER, caller.tenant.name) != caller.tenant.name:
        raise InvalidRequest("This session is another account's by now.", field=MEANT_HEADER, code="conflict")
    g.caller, g.tenant = caller, caller.tenant


def require_admin() -> None:
    """before_request of the operator's routes: only the admin key opens them."""
    if request.method == "OPTIONS":
        return
    if not _sent_key() and not request.cookies.get(COOKIE):
        settings = services().settings
        if not settings.admin_key and settings.has_first_key:
            raise Unauthenticated("This needs an admin key in `Authorization: Bearer KEY`.")
        if not settings.admin_key:
            raise Unauthenticated("This service was started without an admin key (ZIMG_ADMIN_KEY).")
        raise Unauthenticated("This needs the admin key (ZIMG_ADMIN_KEY) in `Authorization: Bearer KEY`.")
    _identify()
    if not g.caller.is_admin:
        raise Forbidden("This needs the admin key (ZIMG_ADMIN_KEY).")


def find_caller(parts: Services) -> Caller | None:
    """Who asks, None for nobody we know. Raises Unauthenticated for a wrong key, Forbidden for a wrong origin."""
    key = _sent_key()
    if key and (key.startswith(KEY_PREFIX) or is_admin_key(parts, key)):
        return _caller_of_known_key(parts, key)
    local = _local(parts) if key else None
    if key and local is None:
        return _caller_of_known_key(parts, key)
    # Here any other key is a placeholder, which OpenAI's clients insist on, for a service without keys.
    caller = _caller_of_session(parts)
    if caller is None and (local := local or _local(parts)) is not None:
        _require_local_host(parts)
        caller = Caller(local)
    if caller is not None:
        _require_same_origin_or_key(parts, key)
    return caller


def is_still_open(parts: Services, caller: Caller) -> bool:
    """Whether a caller whose request goes on would be let in now: not with a revoked or expired key, nor if banned."""
    if not caller.key_hash or caller.key_hash == hash_key(parts.settings.admin_key):
        return True
    try:
        return parts.tenants.find(caller.key_hash) is not None
    except Forbidden:
        return False


def require_still_open() -> None:
    """Of a request that goes on for long: raises Unauthenticated once its key is closed, Forbidden after a ban."""
    parts, caller = services(), g.caller
    is_a_tenants = bool(caller.key_hash) and caller.key_hash != hash_key(parts.settings.admin_key)
    if is_a_tenants and parts.tenants.find(caller.key_hash) is None:
        raise Unauthenticated("This API key was revoked or replaced, or has expired, while the request was under way.")


def keyless(parts: Services) -> bool:
    """Whether requests without a key are served: bound to loopback, and nobody made a key yet."""
    return parts.settings.is_loopback and not parts.tenants.any_key()


def _local(parts: Services) -> Tenant | None:
    """Whom requests without a key belong to, None where one is needed; one call tells both."""
    return parts.tenants.local_without_keys() if parts.settings.is_loopback else None


def _caller_of_known_key(parts: Services, key: str) -> Caller:
    caller = caller_of_key(parts, key)
    if caller is None:
        raise _unknown_key()
    return caller


def _unknown_key() -> Unauthenticated:
    return Unauthenticated("This API key is not known here; it may have been revoked or replaced.")


def caller_of_key(parts: Services, key: str) -> Caller | None:
    """The caller that a key names, None for an unknown one. Raises RateLimited for an address that tries keys."""
    address, key_hash = client_address(parts), hash_key(key)
    parts.failed_keys.check(address, key_hash)
    if is_admin_key(parts, key):
        caller: Caller | None = Caller(parts.tenants.admin(), key_hash, is_admin=True)
    else:
        caller = _caller_of_hash(parts, key_hash)
    if caller is None:
        parts.failed_keys.failed(address, key_hash)
    else:
        parts.failed_keys.succeeded(key_hash)
    return caller


def client_address(parts: Services) -> str:
    """Whom the request comes from, for counting; proxies that we know are looked through."""
    forwarded = ",".join(request.headers.getlist("X-Forwarded-For"))
    return group_of(parts.proxies.client(request.remote_addr or "", forwarded))


def is_admin_key(parts: Services, key: str) -> bool:
    """Compared in a time that tells nothing."""
    admin_key = parts.settings.admin_key
    return bool(admin_key) and hmac.compare_digest(key.encode(), admin_key.encode())


def require_same_origin(parts: Services) -> None:
    """Refuse what another site's page sends with our cookie, or to a service without keys."""
    origin = request.headers.get("Origin", "")
    if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method not in SAFE_METHODS and not origin:
        raise Forbidden("Requests from other sites need a key in the Authorization header.")
    if origin and not is_own_origin(parts, origin) and (origin == "null" or origin not in parts.settings.cors_origins):
        raise Forbidden("Requests from other origins need a key in the Authorization header.")


def _require_same_origin_or_key(parts: Services, placeholder: str) -> None:
    """Where only a key would do, whoever sent one is told that it is unknown, not that there is none."""
    try:
        require_same_origin(parts)
    except Forbidden:
        if placeholder:
            raise _unknown_key() from None
        raise


def is_own_origin(parts: Services, origin: str) -> bool:
    """Whether a page of our own sent it; the scheme is left out, since a proxy may have ended TLS."""
    try:
        place = urlsplit(origin).netloc
    except ValueError:  # brackets that hold no address
        return False
    return place in {request.host, urlsplit(parts.settings.public_base_url).netloc} - {""}


def _caller_of_hash(parts: Services, key_hash: str) -> Caller | None:
    tenant = parts.tenants.find(key_hash)
    return None if tenant is None else Caller(tenant, key_hash, is_admin=tenant.is_admin)


def _caller_of_session(parts: Services) -> Caller | None:
    token = request.cookies.get(COOKIE, "")
    key_hash = find_session(parts.redis, token) if token else None
    if key_hash is None:
        return None
    if parts.settings.admin_key and hmac.compare_digest(key_hash, hash_key(parts.settings.admin_key)):
        return Caller(parts.tenants.admin(), key_hash, is_admin=True, by_cookie=True)
    tenant = parts.tenants.find(key_hash)
    return None if tenant is None else Caller(tenant, key_hash, is_admin=tenant.is_admin, by_cookie=True)


def _sent_key() -> str:
    """The key in the Authorization header; "" without one."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _require_local_host(parts: Services) -> None:
    host = urlsplit(f"//{request.host}").hostname or ""
    if host not in LOOPBACK_NAMES and host != urlsplit(parts.settings.public_base_url).hostname:
        raise Forbidden("Without keys zimg answers only to localhost. Make a key to reach it by another name.")


def _what_to_send() -> str:
    return "Send a key as `Authorization: Bearer KEY`. The operator makes keys with `zimg keys create`."
