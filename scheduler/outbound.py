"""Requests to addresses that tenants name: never inside our own networks, never elsewhere by a redirect or a name."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx

from core.errors import InvalidRequest

ANSWER_BYTES_READ = 4_096

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRefused(Exception):
    """Raised when a URL leads to an address that may not be reached."""


class OutboundGuard:
    """Posts to public addresses, and to the hosts and networks inside that the operator allowed."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._networks = [network for network in map(_network, allowed) if network is not None]
        self._hosts = {one.lower() for one in allowed if _network(one) is None}

    def check(self, url: str, *, field: str = "url") -> str:
        """The URL if events may go there; raises InvalidRequest naming `field` and why not. Asks no name server."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # of the port, or of brackets that hold no address
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.username is not None:
            raise InvalidRequest(f"{field} must be http:// or https:// with a host, without a user", field=field)
        address = _address(parts.hostname)
        if parts.scheme == "http" and not self._is_allowed(parts.hostname, address):
            raise InvalidRequest(f"{field} must be https:// (http only for hosts the operator allowed)", field=field)
        if address is not None and not self._may_reach(parts.hostname, address):
            raise InvalidRequest(f"{field} leads to an internal address", field=field)
        return url

    def post(self, url: str, body: bytes, headers: dict[str, str], *, seconds: float) -> int:
        """The status of the answer; its body is not read. Raises AddressRefused, or httpx's and the system's errors.

        The name is resolved here and the request goes to just that address, so that a name can not change between the
        check and the call; the certificate is checked against the name.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = self._resolve(host, parts.port or (443 if parts.scheme == "https" else 80))
        literal = f"[{address}]" if address.version == 6 else str(address)
        target = httpx.URL(url).copy_with(host=literal)
        default_port = parts.port is None
        host_header = parts.hostname if default_port else f"{parts.hostname}:{parts.port}"
        with (
            httpx.Client(timeout=seconds, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST",
                target,
                content=body,
                headers={**headers, "host": host_header or ""},
                extensions={"sni_hostname": host},
            ) as answer,
        ):
            return answer.status_code

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
        return host.lower() in self._hosts or (
            address is not None
            and any(address in network for network in self._networks if network.version == address.version)
        )


def _is_public(address: Address) -> bool:
    """Reachable by anybody; an IPv4 address inside an IPv6 one counts as itself."""
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return address.is_global and not address.is_multicast and (inner is None or _is_public(inner))


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
