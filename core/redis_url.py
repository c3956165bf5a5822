"""Whether a REDIS_URL can be read, told without quoting it: where it can not, any part may be one of its password."""

from __future__ import annotations

from urllib.parse import urlsplit

from core.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")


def check_redis_url(url: str) -> None:
    """Raise ConfigurationError, which says what to write, unless `url` can be read."""
    try:
        is_readable = _is_readable(url)
    except ValueError:  # its words quote what stands where the port should
        is_readable = False
    if not is_readable:
        raise ConfigurationError(
            "REDIS_URL can not be read (it is not shown, for its password's sake). Write redis://:PASSWORD@HOST:6379/0 "
            "with a password of letters and digits (openssl rand -hex 24), or each other character of it as %XX."
        )


def _is_readable(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return False
    # The @ behind a password lies here where the password itself holds one of / ? #
    if parts.fragment or "@" in parts.path + parts.query:
        return False
    if parts.scheme == "unix":
        return True
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return all(_has_good_port(host) for host in hosts) and (parts.path.strip("/") or "0").isdecimal()


def _has_good_port(host: str) -> bool:
    """Whether the port is one, if there is any; raises ValueError for what is no number."""
    return urlsplit(f"//{host}").port != 0
