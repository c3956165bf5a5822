"""Receiving zimg's webhooks: the signature's check, and a small receiver for a developer's own machine."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

#: Standard Webhooks' own tolerance: an older delivery may be somebody's recording.
TOLERANCE_SECONDS = 300
BODY_BYTES_MOST = 1 << 20
READ_SECONDS, FORWARD_SECONDS = 10.0, 15.0
#: What a forwarded delivery keeps, so that the receiver behind can verify it too.
FORWARDED = ("webhook-id", "webhook-timestamp", "webhook-signature", "content-type")


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
    """Why a delivery is not to be trusted, "" if it is. `headers` have lower-case names; `now` is seconds."""
    message_id, told = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not (told.isascii() and told.isdigit()):
        return "it carries no webhook-id or webhook-timestamp"
    if abs(now - int(told[:12])) > TOLERANCE_SECONDS:
        return "its timestamp is more than five minutes off"
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return "the secret is not whsec_ and base64"
    wanted = base64.b64encode(hmac.new(key, f"{message_id}.{told}.".encode() + body, hashlib.sha256).digest())
    sent = [one.removeprefix("v1,") for one in headers.get("webhook-signature", "").split() if one.startswith("v1,")]
    if not any(hmac.compare_digest(wanted, one.encode()) for one in sent):
        return "its signature does not match"
    return ""


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery: its event, what was wrong with it ("" = verified), and what the receiver behind it answered.

    `forwarded` is None where nothing was forwarded, 0 where nobody answered.
    """

    id: str
    event: Mapping[str, Any]
    problem: str
    forwarded: int | None = None


@dataclass(slots=True)
class Receiver:
    """An HTTP server that takes deliveries, verifies them, hands them on, and tells `seen` of each.

    The service is answered as the receiver behind answered, so that its retries and its 410 work through it; without
    one 204. What does not verify is answered 401, what can not be forwarded 502.
    """

    seen: Callable[[Received], None]
    forward: str = ""
    secret: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    clock: Callable[[], float] = field(kw_only=True)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> int:
        """Listen; the port. Raises OSError where it is taken."""
        self._server = _Server((self.host, self.port), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="webhooks", daemon=True).start()
        return self._server.server_port

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """Deal with a delivery; the status to answer."""
        problem = verify(self.secret, headers, body, now=self.clock())
        event = _event(body)
        if not event and not problem:
            problem = "its body is no JSON object"
        forwarded = self._forward(headers, body) if self.forward and not problem else None
        self.seen(Received(headers.get("webhook-id", ""), event, problem, forwarded))
        if problem:
            return 401
        return 204 if forwarded is None else forwarded or 502

    def _forward(self, headers: Mapping[str, str], body: bytes) -> int:
        kept = {name: headers[name] for name in FORWARDED if name in headers}
        try:
            return httpx.post(self.forward, content=body, headers=kept, timeout=FORWARD_SECONDS).status_code
        except (httpx.HTTPError, httpx.InvalidURL):
            return 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(body)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > BODY_BYTES_MOST:
                self._answer(413)
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(receiver.take(headers, self.rfile.read(int(length))))

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing: `seen` does."""

    return Handler
