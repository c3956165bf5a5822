"""A receiver of webhooks, and what the tests of webhooks do with it."""

import contextlib
import secrets
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from api.app import create_app
from scheduler.webhooks import Webhooks

INTERNAL = [
    "https://127.0.0.1/x", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://100.64.0.1/",
    "https://[64:ff9b::a9fe:a9fe]/", "https://[64:ff9b:1::7f00:1]/", "https://[fec0::1]/", "https://[::7f00:1]/",
    "https://[2002:a9fe:a9fe::1]/", "https://[2001:0:4136:e378:8000:63bf:5601:5601]/", "https://[::ffff:0:7f00:1]/",
]  # fmt: skip
WRONG = [
    "ftp://example.com/", "http://example.com/", "example.com", "https://", "https://user:pw@example.com/",
    "https://a:0/", "file:///etc/passwd", "https://exa mple.com/", "https://a..b/", "https://exa\nmple.com/", "https://-a.example/",
    "https://a_\u0000.example/", "https://.example/", "https://a%20b.example/", f"https://{'a' * 64}.example/", " https://a.example/",
]  # fmt: skip


class Receiver:
    """A customer's server: keeps what it was sent, and answers with the next of `answers`, then 204."""

    def __init__(self):
        self.calls, self.answers, self.headers_sent = [], [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.calls.append((self.path, dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                for name, value in outer.headers_sent.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/hook"


class Dripping:
    """A customer's server that takes every call and never ends its answer: one byte of a header now and then."""

    def __init__(self, first=b"HTTP/1.1 200 OK\r\nX-Drip: ", *, pause_seconds=0.1):
        self._first, self._pause_seconds = first, pause_seconds
        self.connections, self._is_closed = [], False
        self._listening = socket.create_server(("0.0.0.0", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/slow"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self._is_closed:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection):
        try:
            connection.recv(65536)
            connection.sendall(self._first)
            while not self._is_closed:
                connection.sendall(b"a")
                time.sleep(self._pause_seconds)
        except OSError:
            return

    def close(self):
        self._is_closed = True
        for one in (*self.connections, self._listening):
            for step in (lambda one=one: one.shutdown(socket.SHUT_RDWR), one.close):
                with contextlib.suppress(OSError):
                    step()


@pytest.fixture(name="dripping")
def dripping_fixture():
    made = Dripping()
    yield made
    made.close()


@pytest.fixture(name="receiver")
def receiver_fixture():
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture(name="allowing")
def allowing_fixture(parts):
    """Parts whose webhooks may reach this machine."""
    return replace(parts, settings=replace(parts.settings, webhook_allow=("127.0.0.0/8",)))


@pytest.fixture(name="http")
def http_fixture(allowing):
    return create_app(allowing).test_client()


@pytest.fixture(name="sender")
def sender_fixture(allowing):
    stop = threading.Event()
    made = Webhooks(allowing.redis, allowing.jobs, allowing.settings, stop)
    turn(made)
    yield made
    stop.set()
    assert made.wait(seconds=30)


def add(http, url, **more):
    answer = http.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json


def draw(http, worker, **more):
    own = {"Idempotency-Key": secrets.token_hex(8)}
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256", **more}, headers=own).json
    worker.draw_all()
    return job


def turn(sender):
    """One round, and the end of all calls that it began."""
    sender.turn()
    assert sender.wait(seconds=30)


def make_due(valkey):
    """As if the wait until the next try were over."""
    names = ("{zimg}:hook_due", "{zimg}:request_hook_due", "{zimg}:hook_lanes", *valkey.keys("{zimg}:hook_lane:*"))
    for due in names:
        for wanted in valkey.zrange(due, 0, -1):
            valkey.zadd(due, {wanted: 0})


def verified(secret, call):
    _, headers, body = call
    return Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
