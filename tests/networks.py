"""Hosts of their own for workers: network namespaces joined to this one by a cable that a test can pull, or, where the
machine does not permit those, a TCP proxy for each worker that can be frozen."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.fault_proxy import TcpProxy
from tests.fixtures.redis import RedisServer
from tests.fixtures.tools import ADMIN_PATH


class Host(Protocol):
    """Where one worker lives: how to start it there, and by which address it finds Redis."""

    @property
    def inside(self) -> Sequence[str]: ...

    @property
    def redis_url(self) -> str: ...

    def cut_off(self) -> None:
        """No packet passes any more, and nobody is told."""

    def join_again(self) -> None: ...

    def close(self) -> None: ...


def ip(*arguments: str) -> None:
    """iproute2's command; raises CalledProcessError or FileNotFoundError where that is not permitted or not there."""
    environ = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{ADMIN_PATH}"}
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10, env=environ)


def permits_namespaces() -> bool:
    name = f"zimg{secrets.token_hex(3)}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@dataclass
class Namespace:
    """A network namespace with one cable to this one, in the address range kept for benchmarks (RFC 2544)."""

    server: RedisServer
    number: int
    name: str = field(default_factory=lambda: f"zimg{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        octet = secrets.randbelow(250) + 2
        self._here, there = f"198.18.{octet}.{4 * self.number + 1}", f"198.18.{octet}.{4 * self.number + 2}"
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("addr", "add", f"{self._here}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        for command in (["addr", "add", f"{there}/30", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            ip("-n", self.name, *command)
        ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def address(self) -> str:
        """Of this side, where Redis must listen."""
        return self._here

    @property
    def inside(self) -> Sequence[str]:
        return ["ip", "netns", "exec", self.name]

    @property
    def redis_url(self) -> str:
        return f"redis://{self._here}:{self.server.port}/0"

    def cut_off(self) -> None:
        ip("link", "set", self.name, "down")

    def join_again(self) -> None:
        ip("link", "set", self.name, "up")

    def close(self) -> None:
        for command in (["link", "del", self.name], ["netns", "del", self.name]):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                ip(*command)


@dataclass
class Proxied:
    """The same network, but everything between a worker and Redis goes through a proxy."""

    server: RedisServer

    def __post_init__(self) -> None:
        self._proxy = TcpProxy(self.server.port)

    @property
    def inside(self) -> Sequence[str]:
        return []

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self._proxy.port}/0"

    def cut_off(self) -> None:
        self._proxy.frozen = True

    def join_again(self) -> None:
        self._proxy.frozen = False

    def close(self) -> None:
        self._proxy.close()
