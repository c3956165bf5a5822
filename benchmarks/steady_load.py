"""Requests at a steady rate, sent at fixed moments whether or not earlier ones were answered: a stall is seen in full.

Sockets and bytes, no HTTP library: the load shares its cores with the service, so each request must cost it little.
"""

from __future__ import annotations

import gc
import json
import queue
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 30.0
THREADS = 64


class Connections:
    """Kept-alive connections to one server, one for each request that is on its way. Thread-safe."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: queue.LifoQueue[socket.socket] = queue.LifoQueue()

    def status_of(self, request: bytes) -> int:
        """Send a whole request and read its whole answer. Raises OSError where there is none."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(request)
            status = _read_answer(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return status

    def close(self) -> None:
        """Close those that are idle."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def _read_answer(connection: socket.socket) -> int:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _received(connection)
    head = data[:end].lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
    missing = length - (len(data) - end - 4)
    while missing > 0:
        missing -= len(_received(connection))
    return int(head.split(b" ", 2)[1])


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def post(path: str, body: object, key: str = "") -> bytes:
    """A POST request, as bytes."""
    data = json.dumps(body).encode()
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path: str) -> bytes:
    """A GET request, as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


@dataclass
class Taken:
    """What a load met: seconds from each planned moment to its answer, the answers' statuses (0: none came), and how
    late the load itself was to send, in seconds: a machine that is too busy for it shows here."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def send(self, connections: Connections, request: bytes, planned: float) -> None:
        """Send one request and note its answer; a request without an answer took as long as was waited for it."""
        self.late.append(time.monotonic() - planned)
        try:
            status = connections.status_of(request)
        except OSError:
            status = 0
        self.seconds.append(time.monotonic() - planned)
        self.statuses.append(status)


def at_rate(
    connections: Connections,
    request: Callable[[], bytes],
    rate: float,
    seconds: float,
    told: Callable[[float], None] = lambda _passed: None,
) -> Taken:
    """Send `rate` requests a second for `seconds`; `told` hears about once a second how many have passed."""
    taken, count = Taken(), round(rate * seconds)
    with _no_collections(), ThreadPoolExecutor(THREADS) as pool:
        started = time.monotonic() + 0.2
        for number in range(count):
            planned = started + number / rate
            time.sleep(max(0.0, planned - time.monotonic()))
            pool.submit(taken.send, connections, request(), planned)
            if number % max(1, round(rate)) == 0:
                told(number / rate)
    return taken


@contextmanager
def _no_collections() -> Iterator[None]:
    """The load's own garbage collector would be measured as the service's latency."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
