"""gunicorn's thread worker, with one address after another: see pacing.py. A new connection takes no thread until it
has sent something."""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import socket
import time
from collections import deque
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.workers.gthread import TConn, ThreadWorker

from api.pacing import STRIKES, Pacer, TrustedProxies, group_of
from core.settings import Settings

#: Connections above an address's number are not closed at once, or it would open them anew at once; so many in all.
PARKED_SECONDS, PARKED_MOST = 5.0, 500
#: Who was answered has so long to hang up; an answer would be lost on the way where bytes still come in after a close.
ENDING_SECONDS, ENDING_MOST = 2.0, 500
TURN_SECONDS = 0.005  # connections whose turn comes at nearly the same time are taken up together


class PacedConn(TConn):  # type: ignore[misc]
    """A connection that knows whom it is counted with ("" = nobody)."""

    group = ""
    pacer: Pacer | None = None
    ending: deque[tuple[float, socket.socket]] | None = None

    def close(self, graceful: bool = False) -> None:
        """Nothing more is sent. A graceful end goes on in `ending`: the main thread waits for no client to hang up."""
        if self.group and self.pacer is not None:
            self.pacer.closed(self.group)
            self.group = ""
        if graceful and self.ending is not None:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
                self.ending.append((time.monotonic() + ENDING_SECONDS, self.sock))
                return
        super().close()


class PacingWorker(ThreadWorker):  # type: ignore[misc]
    """Reads from a connection when its address's turn comes. All of it runs in the main thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = Settings.from_env()
        self.proxies = TrustedProxies(settings.trusted_proxies)
        self.pacer = Pacer(
            per_second=settings.address_per_second,
            burst=settings.address_burst,
            connections=settings.address_connections,
        )
        self.held: list[tuple[float, int, PacedConn]] = []
        self.parked: deque[tuple[float, socket.socket]] = deque()
        self.ending: deque[tuple[float, socket.socket]] = deque()
        self._order = itertools.count()

    def accept(self, listener: Any) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        peer = str(address[0]) if isinstance(address, tuple) else ""
        group = "" if self.proxies.holds(peer) else group_of(peer)
        if group and not self.pacer.opens(group):
            self._park(sock)
            return
        conn = PacedConn(self.cfg, sock, address, listener.getsockname())
        conn.group, conn.pacer, conn.ending = group, self.pacer, self.ending
        self.nr_conns += 1
        if group:
            self._await_data(conn)
        else:
            super().enqueue_req(conn)

    def _park(self, sock: socket.socket) -> None:
        self.parked.append((time.monotonic() + PARKED_SECONDS, sock))
        if len(self.parked) > PARKED_MOST:
            self.parked.popleft()[1].close()

    def _await_data(self, conn: PacedConn) -> None:
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def enqueue_req(self, conn: PacedConn) -> None:
        now = time.monotonic()
        seconds = self.pacer.wait_seconds(conn.group, now) if conn.group else 0.0
        if seconds:
            heapq.heappush(self.held, (now + seconds, next(self._order), conn))
        else:
            super().enqueue_req(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        if self.held:
            timeout = min(timeout, max(TURN_SECONDS, self.held[0][0] - time.monotonic()))
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        while STRIKES:
            self.pacer.strike(STRIKES.popleft(), now)
        while self.parked and (self.parked[0][0] <= now or not self.alive):
            self.parked.popleft()[1].close()
        while self.ending and (self.ending[0][0] <= now or len(self.ending) > ENDING_MOST):
            self.ending.popleft()[1].close()
        while self.held and (self.held[0][0] <= now or not self.alive):
            super().enqueue_req(heapq.heappop(self.held)[2])
