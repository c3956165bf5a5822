"""gunicorn's thread worker with an end to patience: a request that does not come in holds no thread for ever.

gunicorn hands a connection to a thread at its first byte and then waits for the rest as long as it takes. Here the head
has `request_seconds` and the body four times as long; what an answer left unread of it, `request_seconds` more. Where
half of all threads wait for requests, the one that waits longest is given up at once, so that threads for probes and
for whole requests always remain.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from gunicorn.http.errors import (
    ConfigurationProblem,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.util import write_nonblock

from api import unread
from api.pacing_worker import PacingWorker
from core.logs import get_logger
from core.settings import Settings

TOO_LARGE = (LimitRequestLine, LimitRequestHeaders)
OURS = (ConfigurationProblem, InvalidResponseHeader, InvalidResponseHeaderName)  # faults of the service itself
BODY_TIMES = 4  # a body has so many times as long as a head
REST_BYTES_MOST = 16 * 1024 * 1024 + 1  # more than the largest body that is allowed (batches.py, nginx)
REST_PART_BYTES = 64 * 1024
SEND_SECONDS = 30  # a client that takes nothing of its answer for so long is given up

log = get_logger(__name__)


class Reading:
    """Connections whose requests are being read, those that began first in front. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._deadlines: dict[Any, float] = {}
        self._lock = threading.Lock()

    def begin(self, conn: Any, deadline: float) -> None:
        """Count a connection until `deadline`; where there are too many, the one that began first is given up."""
        with self._lock:
            self._deadlines.pop(conn, None)
            self._deadlines[conn] = deadline
            oldest = next(iter(self._deadlines)) if len(self._deadlines) > self._most else None
        if oldest is not None:
            give_up(oldest)

    def end(self, conn: Any) -> None:
        """Its request is here, whole, or it is gone."""
        with self._lock:
            self._deadlines.pop(conn, None)

    def give_up_late(self, now: float) -> None:
        """Give up all that are past their deadlines."""
        with self._lock:
            late = [conn for conn, deadline in self._deadlines.items() if deadline <= now]
        for conn in late:
            give_up(conn)


def give_up(conn: Any) -> None:
    """Wake the thread that waits for this connection: it reads the end of it."""
    with contextlib.suppress(OSError):
        conn.sock.shutdown(socket.SHUT_RDWR)


class WatchedBody:
    """A request's body that says when it has been read to its end (`wsgi.input`)."""

    def __init__(self, body: Any, length: int | None, ended: Callable[[], None]) -> None:
        self._body, self._left, self._ended = body, length, ended
        self.has_ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def __iter__(self) -> Any:
        return iter(self.readline, b"")

    def read(self, size: int | None = None) -> bytes:
        return self._seen(self._body.read(size), size)

    def readline(self, size: int | None = None) -> bytes:
        return self._seen(self._body.readline(size), size)

    def readlines(self, size: int | None = None) -> list[bytes]:
        return list(self)

    def _seen(self, data: bytes, size: int | None) -> bytes:
        if self._left is not None:
            self._left -= len(data)
        if (not data and size != 0) or (self._left is not None and self._left <= 0):
            self.has_ended = True
            self._ended()
        return data


class BoundedWorker(PacingWorker):
    """Threads serve requests; they don't wait for clients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = Settings.from_env()
        self._head_seconds = settings.request_seconds
        self.reading = Reading(max(1, settings.api_threads // 2))

    def handle(self, conn: Any) -> Any:
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self.reading.begin(conn, time.monotonic() + self._head_seconds)
        try:
            return super().handle(conn)
        finally:
            self.reading.end(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        length = body_length(req.headers)
        if length == 0:
            self.reading.end(conn)
        else:
            self.reading.begin(conn, time.monotonic() + BODY_TIMES * self._head_seconds)
            req.body = WatchedBody(req.body, length, lambda: self.reading.end(conn))
        is_kept = super().handle_request(req, conn)
        return (length == 0 or req.body.has_ended or self._take_rest(req.body, conn)) and is_kept

    def _take_rest(self, body: WatchedBody, conn: Any) -> bool:
        """Take what an answer left unread of its request, and throw it away; False where that is not all of it.

        Closed upon unread bytes, a connection is reset: who still sends, nginx too, would never see the answer.
        """
        self.reading.begin(conn, time.monotonic() + self._head_seconds)
        left = REST_BYTES_MOST
        with contextlib.suppress(ParseException):  # broken chunks, of a request that has its answer
            while left > 0 and not body.failed:
                part = body.read(REST_PART_BYTES)
                if not part:
                    return True
                left -= len(part)
        return False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What is no HTTP request is refused as a problem, which repeats nothing of it; gunicorn answers the rest."""
        if not isinstance(exc, ParseException) or isinstance(exc, OURS):
            super().handle_error(req, client, addr, exc)
            return
        log.warning("no HTTP request", action="refuse", kind=type(exc).__name__)
        with contextlib.suppress(OSError):
            write_nonblock(client, unread.answer(is_too_large=isinstance(exc, TOO_LARGE), limits=self.cfg))

    def murder_pending(self) -> None:
        """Called once a second by the main loop."""
        super().murder_pending()
        self.reading.give_up_late(time.monotonic())


def body_length(headers: list[tuple[str, str]]) -> int | None:
    """Bytes of the body, 0 without one, None where only its end will tell. gunicorn has refused bad ones already."""
    names = {name.upper(): value for name, value in headers}
    if "TRANSFER-ENCODING" in names:
        return None
    told = names.get("CONTENT-LENGTH", "0").strip()
    return int(told) if told.isascii() and told.isdigit() else None
