"""What every answer carries: a request id, security headers, CORS as configured, what is left of its tenant's limits,
and one short log line."""

from __future__ import annotations

import re
import secrets
import time

from flask import Flask, Response, current_app, g, request
from flask_cors import CORS
from werkzeug.exceptions import NotFound

from api.limits import tell_limits
from core.logs import log_request
from core.metrics import HTTP_REQUESTS, HTTP_SECONDS
from core.redis_client import bound_patience

#: What requests are counted under; all else that a client may call a method is one more.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Everything the page needs is served by us; `blob:` is for a picture that the page itself unpacks.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:",
        "connect-src 'self'", "font-src 'self'", "manifest-src 'self'", "form-action 'self'", "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)  # fmt: skip

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: (name in lower case, name, value): an answer is looked through once, where `setdefault` would do so for each of them.
OTHER_HEADERS = tuple((name.lower(), name, value) for name, value in SECURITY_HEADERS.items())
V1_HEADERS = (*OTHER_HEADERS, ("cache-control", "Cache-Control", "no-store"))

#: The last three are sent by OpenAI's own client, in some browsers its User-Agent too (flask-cors takes expressions).
CORS_REQUEST_HEADERS = [
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Prefer", "X-Request-Id",
    r"X-Stainless-.*", r"OpenAI-.*", "User-Agent",
]  # fmt: skip
CORS_EXPOSED_HEADERS = [
    "Location", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id", "X-Zimg-Ignored", "X-Zimg-Job-Id",
    "X-Zimg-Dedup-Of",
    "Idempotency-Replayed", "Preference-Applied", "ETag", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-should-retry",
]  # fmt: skip


def install(app: Flask, cors_origins: tuple[str, ...]) -> None:
    """Hook the above into `app`. Pictures may be used by any page; the API by `cors_origins` only."""
    app.before_request(_start)
    app.before_request(_let_see_that_nothing_is_there)
    resources: dict[str | re.Pattern[str], dict[str, object]] = {
        r"/i/.*": {"origins": "*", "methods": ["GET", "HEAD"], "send_wildcard": True}
    }
    if cors_origins:
        resources[r"/v1/.*"] = {"origins": list(cors_origins)}
    CORS(
        app,
        resources=resources,
        allow_headers=CORS_REQUEST_HEADERS,
        expose_headers=CORS_EXPOSED_HEADERS,
        max_age=600,
        vary_header=True,
    )
    app.teardown_request(lambda _error: bound_patience(bounded=False))
    app.after_request(_finish)
    app.after_request(tell_limits)  # before it: the last one registered comes first


def _start() -> None:
    bound_patience()
    g.started = time.monotonic()
    sent = request.headers.get("X-Request-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else f"req_{secrets.token_hex(12)}"


def _let_see_that_nothing_is_there() -> Response | None:
    """A preflight to an address that is none, answered as elsewhere: else its page is kept from reading our 404."""
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not is_preflight or not request.path.startswith("/v1/") or not isinstance(request.routing_exception, NotFound):
        return None
    return current_app.make_default_options_response()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    wanted = V1_HEADERS if request.path.startswith("/v1/") else OTHER_HEADERS
    present = {name.lower() for name in response.headers.keys()}  # noqa: SIM118 - a list of pairs, no mapping
    response.headers.extend([(name, value) for lowered, name, value in wanted if lowered not in present])
    _count(response)
    return response


def _count(response: Response) -> None:
    route = request.url_rule.rule if request.url_rule else "none"
    request_id, started = g.request_id, g.started
    method = request.method if request.method in METHODS else "other"  # each label that was counted stays in memory

    def finished() -> None:
        seconds = time.monotonic() - started
        HTTP_REQUESTS.labels(method, route, str(response.status_code)).inc()
        if response.mimetype != "text/event-stream":
            HTTP_SECONDS.labels(method, route).observe(seconds)
        log_request(request_id=request_id, seconds=seconds)

    response.call_on_close(finished)
