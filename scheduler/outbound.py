"""Requests to addresses that tenants name: never inside our own networks, never elsewhere by a redirect or a name."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from core.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Result = TypeVar("Result")

#: What is routed as IPv6 at all; beside it only NAT64's own prefix, which leads to the IPv4 address at its end.
ROUTED, NAT64 = ipaddress.IPv6Network("2000::/3"), ipaddress.IPv6Network("64:ff9b::/96")


#: A call that its own deadline did not end is given up so much later.
GRACE_SECONDS = 2.0

#: A part of a host's name, as name servers know them, and the longest name.
_LABEL, NAME_MOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)"), 253
_NO_ADDRESS = "the address is not one that can be called"

#: What an attempt's failure is called; the first kind that fits, in the failure or what it was raised from, is told.
REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((ssl.SSLCertVerificationError,), "its certificate is not trusted"),
    ((ssl.SSLError,), "no TLS connection came about"),
    ((socket.gaierror,), "no such host is known to the name servers"),
    ((httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError), _NO_ADDRESS),
    ((TimeoutError, httpx.TimeoutException), "no answer in time"),
    ((httpx.ConnectError, ConnectionRefusedError), "nobody takes the connection there"),
    ((httpx.RemoteProtocolError,), "what answers there is no web server"),
    ((httpx.NetworkError, ConnectionError), "the connection broke off"),
)


class AddressRefused(Exception):
    """Raised when a URL leads to an address that may not be reached."""


class OutboundGuard:
    """Posts to public addresses, and to the hosts and networks inside that the operator allowed."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._networks = [network for network in map(_network, allowed) if network is not None]
        self._hosts = {_as_servers_know(one) for one in allowed if _network(one) is None}

    def check(self, url: str, *, field: str = "url") -> str:
        """The URL if events may go there; raises InvalidRequest naming `field` and why not. Asks no name server."""
        try:
            parts = urlsplit(url)
            port = parts.port if url == url.strip() else 0
            httpx.URL(url)
        except (ValueError, httpx.InvalidURL):  # of the port, of brackets that hold no address, of what is no URL
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.username is not None:
            raise InvalidRequest(f"{field} must be http:// or https:// with a host, without a user", field=field)
        address = _address(parts.hostname)
        if address is None and not _is_name(parts.hostname):
            raise InvalidRequest(f"{field} must be http:// or https:// with a host, without a user", field=field)
        if parts.scheme == "http" and not self._is_allowed(parts.hostname, address):
            raise InvalidRequest(f"{field} must be https:// (http only for hosts the operator allowed)", field=field)
        if address is not None and not self._may_reach(parts.hostname, address):
            raise InvalidRequest(f"{field} leads to an internal address", field=field)
        return url

    def post(self, url: str, body: bytes, headers: dict[str, str], *, seconds: float) -> int:
        """The status of the answer, within `seconds` in all; its body is not read.

        The name is resolved here and the request goes to just that address, so that a name can not change between the
        check and the call; the certificate is checked against the name. Raises AddressRefused, TimeoutError when the
        time is over, or httpx's and the system's errors, or ValueError for a name that is none.
        """
        begun, parts = time.monotonic(), urlsplit(url)
        host = _as_servers_know(parts.hostname or "")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = _within(seconds, lambda: self._resolve(host, port))
        literal = f"[{address}]" if address.version == 6 else str(address)
        target = httpx.URL(url).copy_with(host=literal)
        shown = f"[{host}]" if ":" in host else host
        named = {**headers, "host": shown if parts.port is None else f"{shown}:{parts.port}"}
        left = seconds - (time.monotonic() - begun)
        # In a thread of its own: whoever calls may have an event loop already, beside which no second one runs.
        return _within(left + GRACE_SECONDS, lambda: asyncio.run(_post(target, body, named, host, seconds=left)))

    def _resolve(self, host: str, port: int) -> Address:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        for address in addresses:
            if not self._may_reach(host, address):
                raise AddressRefused(f"{host} leads to an internal address")
        return addresses[0]

    def _may_reach(self, host: str, address: Address) -> bool:
        return self._is_allowed(host, address) or _is_public(address)

    def _is_allowed(self, host: str, address: Address | None) -> bool:
        return _as_servers_know(host) in self._hosts or (
            address is not None
            and any(address in network for network in self._networks if network.version == address.version)
        )


async def _post(target: httpx.URL, body: bytes, headers: dict[str, str], host: str, *, seconds: float) -> int:
    """One deadline over all of it: a timeout of httpx's begins anew with each byte that comes."""
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(verify=_tls(), timeout=seconds, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", target, content=body, headers=headers, extensions={"sni_hostname": host}) as answer,
    ):
        return answer.status_code


def _as_servers_know(host: str) -> str:
    """A name as name servers and HTTP know it: lower case, beyond ASCII in IDNA's form; what is none stays."""
    try:
        return httpx.URL(scheme="http", host=host).raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError):
        return host.lower()


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """What `call` gives or raises; TimeoutError when it takes longer. A name server's silence can not be broken off."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to who waits
            future.set_exception(error)

    threading.Thread(target=work, name="outbound", daemon=True).start()
    return future.result(timeout=seconds)


def reason_of(error: BaseException) -> str:
    """Why a call of `post` did not arrive, for whoever reads its log."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    found = (words for kinds, words in REASONS if any(isinstance(one, kinds) for one in chain))
    return next(found, "it could not be sent")


def _is_name(host: str) -> bool:
    """Whether a host may be called so; names beyond ASCII are looked at as name servers know them."""
    try:
        labels = host.removesuffix(".").encode("idna").decode().lower().split(".")
    except UnicodeError:
        return False
    return len(".".join(labels)) <= NAME_MOST and all(_LABEL.fullmatch(label) for label in labels)


def _is_public(address: Address) -> bool:
    """Reachable by anybody; an IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address in NAT64:
        return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    if address.ipv4_mapped is not None:
        return _is_public(address.ipv4_mapped)
    inside = address.sixtofour
    return address in ROUTED and address.is_global and address.teredo is None and (inside is None or _is_public(inside))


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
