"""A receiver of webhooks, and what the tests of webhooks do with it."""

import secrets
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from api.app import create_app
from scheduler.webhooks import Webhooks

INTERNAL = [
    "https://127.0.0.1/x", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://100.64.0.1/",
]  # fmt: skip
WRONG = [
    "ftp://example.com/", "http://example.com/", "example.com", "https://", "https://user:pw@example.com/",
    "https://a:0/", "file:///etc/passwd",
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
    made = Webhooks(allowing.redis, allowing.jobs, allowing.settings)
    made.turn()
    return made


def add(http, url, **more):
    answer = http.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json


def draw(http, worker, **more):
    own = {"Idempotency-Key": secrets.token_hex(8)}
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256", **more}, headers=own).json
    worker.draw_all()
    return job


def make_due(valkey):
    """As if the wait until the next try were over."""
    for due in ("{zimg}:hook_due", "{zimg}:request_hook_due"):
        for wanted in valkey.zrange(due, 0, -1):
            valkey.zadd(due, {wanted: 0})


def verified(secret, call):
    _, headers, body = call
    return Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
