"""Free TCP ports on this machine, chosen once per data folder and kept there."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Below the range from which the kernel takes ports for outgoing connections, and 10,000 more still is a port:
#: SeaweedFS derives some of its ports that way.
PORT_RANGE = range(20_000, 32_000)
_TRIES = 2_000


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody could listen there now; connections that are still closing don't count."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose_ports(names: Iterable[str], *, offsets: Sequence[int] = (0,)) -> dict[str, int]:
    """A free port for each name; `offsets` are distances from it that must be free as well. Raises OSError if none."""
    chosen: dict[str, int] = {}
    taken: set[int] = set()
    for name in names:
        for port in random.sample(PORT_RANGE, k=min(_TRIES, len(PORT_RANGE))):
            family = {port + offset for offset in offsets}
            if not family & taken and all(map(is_free, family)):
                chosen[name] = port
                taken |= family
                break
        else:
            raise OSError(f"no free port between {PORT_RANGE.start} and {PORT_RANGE.stop}")
    return chosen


def kept_ports(path: Path, names: Sequence[str], *, offsets: Sequence[int] = (0,)) -> dict[str, int]:
    """The ports in the JSON file `path`, as long as all are there and free; else new ones, written there."""
    ports = _read(path)
    if set(names) <= set(ports) and all(is_free(ports[name] + offset) for name in names for offset in offsets):
        return {name: ports[name] for name in names}
    ports = choose_ports(names, offsets=offsets)
    path.write_text(json.dumps(ports, indent=2) + "\n")
    return ports


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text())
        return {str(name): int(port) for name, port in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # missing or damaged: new ports are as good as the old ones
