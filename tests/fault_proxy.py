"""Proxies that a test can hurt: one for any TCP service (cut, freeze, slow, hold answers), one that speaks enough HTTP
to play an S3 with a bad day."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.fixtures.redis import free_port

CHUNK = 65_536
TICK_SECONDS = 0.05


class TcpProxy:
    """Forwards to 127.0.0.1:`port`; every fault works on open connections too."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=128)
        self._listener.settimeout(TICK_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self.frozen = False  # nothing moves in either direction, and nobody is told
        self.holds_answers = False  # requests arrive, answers do not come back
        self.refuses = False  # every connection is closed at once
        self.upload_bytes_per_second = 0.0  # 0 = as fast as it goes
        self.holds_after = b""  # set: answers are held from the moment on that a request holds these bytes
        self.cuts_before = b""  # set: what a request holds before these bytes goes through, then its connection is cut
        self.meanwhile: Callable[[], object] | None = None  # done there instead, and then the rest goes through
        self.uploaded = 0  # bytes from clients, over all connections
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close everything that is open."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets |= {client, server}
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_upload: bool) -> None:
        source.settimeout(TICK_SECONDS)
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                if self.frozen or (self.holds_answers and not is_upload):
                    time.sleep(TICK_SECONDS)
                    continue
                try:
                    data = source.recv(1024 if is_upload and self.upload_bytes_per_second else CHUNK)
                except TimeoutError:
                    continue
                if not data:
                    break
                while (self.frozen or (self.holds_answers and not is_upload)) and not self._closed.is_set():
                    time.sleep(TICK_SECONDS)
                if is_upload:
                    if self.holds_after and self.holds_after in data:
                        self.holds_answers = True
                    self.uploaded += len(data)
                    if self.upload_bytes_per_second:
                        time.sleep(len(data) / self.upload_bytes_per_second)
                passing, *cut = data.split(self.cuts_before, 1) if is_upload and self.cuts_before else [data]
                sink.settimeout(5)
                sink.sendall(passing)
                if cut and self.meanwhile is None:
                    break
                if cut and self.meanwhile:
                    self.meanwhile()
                    sink.sendall(self.cuts_before + cut[0])
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._sockets.discard(one)


@contextmanager
def tcp_proxy(port: int) -> Iterator[TcpProxy]:
    proxy = TcpProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


class S3Proxy:
    """Forwards HTTP to an S3 at `endpoint`, unless told to answer with a fault of its own. Seeded.

    Host and body go on unchanged, so the client's signature stays right.
    """

    def __init__(self, endpoint: str, seed: int = 0) -> None:
        self.server = urlsplit(endpoint).netloc
        self.rng = random.Random(seed)
        self.share_of_errors = 0.0  # 503 for this share of all calls
        self.latency_seconds = 0.0  # before each answer
        self.slow_close_seconds = 0.0  # the connection stays open for so long after the answer
        self.conflicts_per_key = 0  # 409 to that many puts of each key
        self.lost_answers_per_key = 0  # that many puts of each key are carried out, and their answer is lost
        self.down = False
        self.counts: Counter[str] = Counter()  # PUT of one key, and each fault by its name
        self._httpd = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"
        threading.Thread(target=self._httpd.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_any(self) -> None:
                proxy.answer(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_any  # noqa: N815

        return Handler

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        if self.down:
            self.counts["refused"] += 1
            call.close_connection = True
            call.connection.shutdown(socket.SHUT_RDWR)
            return
        body = call.rfile.read(int(call.headers.get("Content-Length") or 0))
        is_put = call.command == "PUT" and call.path.count("/") > 2
        self.counts[call.command] += 1
        time.sleep(self.latency_seconds)
        if self.rng.random() < self.share_of_errors:
            self._say(call, 503, "SlowDown")
        elif is_put and self._once_more(call.path, "409", self.conflicts_per_key):
            self._say(call, 409, "ConditionalRequestConflict")
        else:
            self._forward(call, body, loses=is_put and self._once_more(call.path, "lost", self.lost_answers_per_key))

    def _once_more(self, path: str, kind: str, most: int) -> bool:
        if self.counts[f"{kind} {path}"] >= most:
            return False
        self.counts[f"{kind} {path}"] += 1
        return True

    def _say(self, call: BaseHTTPRequestHandler, status: int, code: str) -> None:
        self.counts[str(status)] += 1
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a bad day</Message></Error>".encode()
        call.send_response(status)
        call.send_header("Content-Type", "application/xml")
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        if call.command != "HEAD":
            call.wfile.write(body)

    def _forward(self, call: BaseHTTPRequestHandler, body: bytes, *, loses: bool) -> None:
        onward = http.client.HTTPConnection(self.server, timeout=30)
        try:
            onward.putrequest(call.command, call.path, skip_host=True, skip_accept_encoding=True)
            for name, value in call.headers.items():
                onward.putheader(name, value)
            onward.endheaders(body or None)
            answer = onward.getresponse()
            data = answer.read()
        except OSError:
            call.close_connection = True
            return
        finally:
            onward.close()
        self.counts[f"{call.command} {answer.status}"] += 1
        if loses:
            self.counts["lost"] += 1
            call.close_connection = True
            return
        call.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                call.send_header(name, value)
        length = answer.getheader("Content-Length") if call.command == "HEAD" else str(len(data))
        call.send_header("Content-Length", length or "0")
        call.end_headers()
        call.wfile.write(data if call.command != "HEAD" else b"")
        call.wfile.flush()
        if self.slow_close_seconds:
            call.close_connection = True
            time.sleep(self.slow_close_seconds)


@contextmanager
def s3_proxy(endpoint: str, seed: int = 0) -> Iterator[S3Proxy]:
    proxy = S3Proxy(endpoint, seed)
    try:
        yield proxy
    finally:
        proxy.close()
