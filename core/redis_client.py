"""The one door to Redis: short timeouts, no silent replays, and our own error when it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from core.errors import ConfigurationError, RedisUnavailable

#: One hash tag, so that all keys live in one slot and scripts may touch any of them.
PREFIX = "{zimg}:"
#: Answers of a server that is there but can not take a command now: full, a replica (or just made one, which ends
#: calls that wait), starting, cut off, out of disk.
REFUSALS = (OutOfMemoryError, ReadOnlyError, BusyLoadingError, MasterDownError, ClusterDownError, TryAgainError)
REFUSING_WORDS = ("OOM", "READONLY", "MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "UNBLOCKED")
PIPELINE_ERROR = " of pipeline caused error: "

SENTINEL_PORT = 26379
TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname", "ssl_certfile", "ssl_keyfile")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """`sentinel://[user:password@]host:port[,host:port…]/db?master_name=NAME`; user and password are the servers'.

    `sentinels://` is the same over TLS, to the sentinels and to the servers, with the `ssl_…` options of `rediss://`.
    """

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    db: int
    username: str | None
    password: str | None
    tls: Mapping[str, Any] | None = None  # redis-py's ssl_… options; None = without TLS


def sentinel_address(url: str) -> SentinelAddress | None:
    """What a sentinel URL names, None for any other URL. Raises ConfigurationError without the master's name."""
    parts = urlsplit(url)
    if parts.scheme not in ("sentinel", "sentinels"):
        return None
    options = dict(parse_qsl(parts.query))
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    master_name = options.get("master_name", "")
    if not master_name or not hosts:
        raise ConfigurationError("REDIS_URL must say which master: sentinel://a:26379,b:26379/0?master_name=NAME")
    return SentinelAddress(
        hosts=tuple(_host_and_port(one) for one in hosts.split(",")),
        master_name=master_name,
        db=int(parts.path.strip("/") or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=_tls_options(options) if parts.scheme == "sentinels" else None,
    )


def _tls_options(options: Mapping[str, str]) -> dict[str, Any]:
    """As redis-py takes them. The certificate and the name in it are checked unless the URL says otherwise."""
    unknown = [name for name in options if name.startswith("ssl_") and name not in TLS_OPTIONS]
    if unknown:
        raise ConfigurationError(f"REDIS_URL: {', '.join(unknown)} is not known; use {', '.join(TLS_OPTIONS)}")
    chosen: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    chosen |= {name: options[name] for name in TLS_OPTIONS if name in options}
    is_checked = str(chosen["ssl_check_hostname"]).lower() not in ("false", "no", "0", "off")
    return chosen | {"ssl_check_hostname": is_checked and chosen["ssl_cert_reqs"] != "none"}


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    return host, int(port or SENTINEL_PORT)


def connect(url: str, *, timeout_seconds: float = 5.0, connections: int = 100) -> redis.Redis:
    """A client for `url` that never repeats a command by itself (redis-py's default does, ten times).

    redis://, rediss:// (TLS; the certificate is checked, `?ssl_ca_certs=FILE` names whose), sentinel:// or
    sentinels:// (the same over TLS). At most `connections` threads use it at once; one more gets RedisUnavailable.
    """
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, 3.0),
        "socket_keepalive": True,
        "health_check_interval": 10,
        "max_connections": connections,
        "retry": Retry(NoBackoff(), 0),
    }
    address = sentinel_address(url)
    if address is None:
        client: redis.Redis = redis.Redis.from_url(url, **options)
        return client
    tls = {"ssl": True, **address.tls} if address.tls is not None else {}
    asking = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": Retry(NoBackoff(), 0), **tls}
    servers = {"db": address.db, "username": address.username, "password": address.password, **options, **tls}
    sentinel = Sentinel(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    master: redis.Redis = sentinel.master_for(address.master_name, redis.Redis, **servers)  # type: ignore[no-untyped-call]
    return master


def require_zimg(client: redis.Redis) -> None:
    """Raise ConfigurationError where this Redis holds nothing of zimg: its books would look clean, its bill empty."""
    with redis_errors():
        if next(iter(client.scan_iter(match=f"{PREFIX}*", count=1000)), None) is None:
            raise ConfigurationError(
                "found no zimg in the Redis that REDIS_URL names. "
                "For the service of `make run` say: make audit, make ledger."
            )


def milliseconds(time_of_server: tuple[int, int]) -> int:
    """The answer of TIME in milliseconds since 1970."""
    seconds, microseconds = time_of_server
    return int(seconds) * 1000 + int(microseconds) // 1000


class _Patience(threading.local):
    """Of this thread: whether its first timeout is its last, and whether it had that one."""

    is_bounded = False
    is_spent = False


_patience = _Patience()


def bound_patience(*, bounded: bool = True) -> None:
    """From here on this thread waits in vain for one timeout at most: what it asks of Redis after it fails at once.

    For a request, which may ask Redis several times for one answer. `bounded=False` ends it.
    """
    _patience.is_bounded, _patience.is_spent = bounded, False


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn trouble with the server into RedisUnavailable; an error of our own making stays what it is."""
    if _patience.is_spent:
        raise RedisUnavailable("Redis did not answer; try again shortly.")
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        _patience.is_spent = _patience.is_bounded and isinstance(error, RedisTimeoutError)
        raise RedisUnavailable(f"Redis did not answer ({type(error).__name__}); try again shortly.") from error
    except ResponseError as error:
        if isinstance(error, OutOfMemoryError) or _said(error).startswith("OOM"):
            raise RedisUnavailable("Redis is full and takes in nothing new; try again shortly.") from error
        if is_refusal(error):
            raise RedisUnavailable("Redis takes no writes now; try again shortly.") from error
        raise


def as_one_step(client: redis.Redis, attempt: Callable[[Any], Result], *names: str) -> Result:
    """What `attempt` answers, with nobody else's change of the keys `names` in between; else it is called again.

    It is given a pipeline: it reads, calls `multi`, and writes.
    """
    with redis_errors():
        made: Any = client.transaction(cast(Any, attempt), *names, value_from_callable=True)
    return cast(Result, made)


def is_refusal(error: ResponseError) -> bool:
    """Whether the server is only unable now, as opposed to our having asked for something wrong."""
    return isinstance(error, REFUSALS) or _said(error).startswith(REFUSING_WORDS)


def _said(error: ResponseError) -> str:
    """The server's words: redis-py puts a pipeline's command before them."""
    return str(error).rpartition(PIPELINE_ERROR)[2]


def call(function: Callable[[], Result], *, tries: int = 3, pause_seconds: float = 0.2) -> Result:
    """Call until it works, at most `tries` times; only for replay-safe calls with the same ids and tokens.

    Raises the last RedisUnavailable.
    """
    for attempt in range(1, tries + 1):
        try:
            return function()
        except RedisUnavailable:
            if attempt == tries:
                raise
            time.sleep(pause_seconds * attempt)
    raise AssertionError("unreachable: tries is at least 1")
