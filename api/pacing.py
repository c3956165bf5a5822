"""How fast one address may be served, decided before a byte of its request is read.

An address above its rate is not refused but made to wait: its connection is simply not read from until its turn comes,
which costs nothing. So a flood is slowed to the rate, however many connections it opens, and a short burst passes.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from functools import lru_cache

ADDRESSES_KEPT = 10_000
#: What a wrong key costs of an address's rate, on top of its request.
STRIKE_COST = 9
#: Groups that sent a wrong key, as request threads tell them and the worker's main thread reads them.
STRIKES: deque[str] = deque(maxlen=ADDRESSES_KEPT)


@lru_cache(maxsize=ADDRESSES_KEPT)
def group_of(address: str) -> str:
    """Who is counted together: one IPv4 address, or the /64 that an IPv6 customer is given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class TrustedProxies:
    """The addresses whose X-Forwarded-For is believed, and which are never paced: they speak for many."""

    def __init__(self, networks: Sequence[str]) -> None:
        """Raises ValueError for what is neither an address nor a network."""
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self.holds = lru_cache(maxsize=4_096)(self._holds)

    def _holds(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return address == ""  # a Unix socket: only a proxy of ours reaches it
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(mapped in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """Who asks: the nearest address of X-Forwarded-For that is not a proxy of ours, or the peer itself."""
        hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
        while self.holds(peer) and hops:
            peer = hops.pop()
        return peer


class Pacer:
    """Generic cell rate per address. Not thread-safe: gunicorn's main thread alone asks. Bounded in memory."""

    def __init__(self, *, per_second: float, burst: int, connections: int) -> None:
        """At most `connections` open ones, and `per_second` requests after `burst` at once; 0 a second = no limit."""
        self._emission = 1 / per_second if per_second > 0 else 0.0
        self._tolerance = burst * self._emission
        self._connections = connections
        self._open: Counter[str] = Counter()
        self._due: OrderedDict[str, float] = OrderedDict()  # group -> when its next request would be on time

    def opens(self, group: str) -> bool:
        """Count a new connection; False if there are too many, and it must be closed at once."""
        if self._emission and self._open[group] >= self._connections:
            return False
        self._open[group] += 1
        return True

    def closed(self, group: str) -> None:
        """One connection fewer."""
        self._open[group] -= 1
        if self._open[group] <= 0:
            del self._open[group]

    def wait_seconds(self, group: str, now: float) -> float:
        """Count one request; how long it has to wait, 0 for none."""
        if not self._emission:
            return 0.0
        due = self._count(group, now, 1)
        return max(0.0, due - now - self._tolerance)

    def strike(self, group: str, now: float) -> None:
        """A wrong key: the address waits longer before its next request."""
        if self._emission:
            self._count(group, now, STRIKE_COST)

    def _count(self, group: str, now: float, cost: int) -> float:
        """When the request was due; `cost` emissions are taken."""
        due = max(self._due.pop(group, now), now)
        self._due[group] = due + cost * self._emission
        if len(self._due) > ADDRESSES_KEPT:
            self._due.popitem(last=False)
        return due
