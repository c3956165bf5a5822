"""Calls receivers: many at once, few of one tenant, and none waits for another's answer.

A thread that is free takes what is due next, of the lane (core/webhook_due.py) that has waited longest. A slow receiver
holds no more than its lane's calls, and its tenant's; each call ends at its deadline. Beside its own process's calls it
knows only of the claims in Redis, so that several schedulers together make as many times more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx

from core.errors import RedisUnavailable
from core.logs import get_logger
from core.webhook_due import group_of
from core.webhook_store import Attempt, Delivery, Endpoint, WebhookStore, now_ms
from scheduler.outbound import AddressRefused, OutboundGuard, reason_of

#: At once: in all; to one address; of one tenant to its endpoints, and as many to the URLs of its requests.
CALLS_MOST, OF_LANE_MOST, OF_GROUP_MOST = 64, 2, 4
ATTEMPT_SECONDS = 20.0  # from the name's resolution to the answer's head
#: The specification's own schedule, over three days in all. The first try is at once.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)

#: How the error of an attempt to an address that may not be reached begins.
BLOCKED = "not allowed"
#: Of an event that waited when its endpoint was turned off.
NOT_TRIED = "not tried: the endpoint is off"
#: Why an endpoint is off that wants no more events.
OFF_SINCE_GONE = "it answered 410 Gone"

log = get_logger(__name__)


class Calls:
    """The calls of one process. Thread-safe; begins none after `stop` is set."""

    def __init__(self, hooks: WebhookStore, guard: OutboundGuard, stop: threading.Event) -> None:
        self._hooks = hooks
        self._guard = guard
        self._stop = stop
        self._pool = ThreadPoolExecutor(CALLS_MOST, thread_name_prefix="webhook")
        self._changed = threading.Condition(threading.RLock())
        self._of_lane: Counter[str] = Counter()
        self._of_group: Counter[tuple[str, bool]] = Counter()
        self._failure: Exception | None = None

    def start_due(self) -> None:
        """Begin what is due, as far as there is room. Raises RedisUnavailable, and what a call ended with before."""
        with self._changed:
            failure, self._failure = self._failure, None  # said once: the next turn is a new try
            if failure is not None:
                raise failure
            if self._stop.is_set() or self._of_lane.total() >= CALLS_MOST:
                return
            for lane in self._hooks.due_lanes():
                if (room := self._room(lane)) > 0:
                    for delivery in self._hooks.take(lane, room):
                        self._begin(lane, delivery)

    def wait(self, *, seconds: float) -> bool:
        """Whether all calls were over, and nothing more was due, within that time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._of_lane.total(), timeout=seconds)

    def _room(self, lane: str) -> int:
        of_group = OF_GROUP_MOST - self._of_group[group_of(lane)]
        return min(CALLS_MOST - self._of_lane.total(), OF_LANE_MOST - self._of_lane[lane], of_group)

    def _begin(self, lane: str, delivery: Delivery) -> None:
        self._of_lane[lane] += 1
        self._of_group[group_of(lane)] += 1
        self._pool.submit(self._run, lane, delivery)

    def _run(self, lane: str, delivery: Delivery) -> None:
        try:
            self._guarded(lambda: self._deliver_or_put_aside(delivery))
        finally:
            with self._changed:
                self._of_lane -= Counter([lane])
                self._of_group -= Counter([group_of(lane)])
                self._guarded(self.start_due)
                self._changed.notify_all()

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do it; without Redis the claim runs out and another turn tries again; else the next turn raises it."""
        try:
            work()
        except RedisUnavailable as error:
            log.warning("redis away", action="webhook", error=str(error))
        except Exception as error:  # raised by the next turn
            self._failure = error

    def _deliver_or_put_aside(self, delivery: Delivery) -> None:
        """One that can not be sent (a secret that is none) fails alone."""
        try:
            self._deliver(delivery)
        except RedisUnavailable:
            raise
        except Exception as error:
            self._hooks.put_aside("delivery", delivery.id, error)
            self._hooks.record(replace(delivery, state="failed"))

    def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._hooks.endpoint(delivery.endpoint_id)
        if endpoint is None or endpoint.disabled:
            off = Attempt(at_ms=now_ms(), status=0, duration_ms=0, error=NOT_TRIED)
            self._hooks.record(replace(delivery, state="failed", attempts=(*delivery.attempts, off)))
            return
        attempt = self._try(endpoint, delivery)
        self._hooks.count_attempt(outcome_of(attempt))
        kept = self._hooks.delivery(delivery.id) or delivery  # sent again meanwhile, it has its tries and history anew
        self._hooks.record(after_attempt(replace(kept, attempts=(*kept.attempts, attempt))))
        if attempt.status == httpx.codes.GONE and not endpoint.is_for_requests:  # one URL of many is gone
            self._hooks.disable(endpoint, OFF_SINCE_GONE)
        if attempt.error or attempt.status >= 300:
            log.info("webhook not delivered", action="webhook", delivery=delivery.id, status=attempt.status)

    def _try(self, endpoint: Endpoint, delivery: Delivery) -> Attempt:
        begun = time.monotonic()
        status, error = 0, ""
        try:
            status = self._guard.post(
                delivery.url or endpoint.url,
                delivery.body.encode(),
                signed_headers(endpoint, delivery, int(time.time())),
                seconds=ATTEMPT_SECONDS,
            )
        except AddressRefused as refused:
            error = f"{BLOCKED}: {refused}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as failed:  # ValueError: a name that is none
            error = reason_of(failed)
        return Attempt(at_ms=now_ms(), status=status, duration_ms=round((time.monotonic() - begun) * 1000), error=error)


def outcome_of(attempt: Attempt) -> str:
    """As core.metrics.WEBHOOK_OUTCOMES names it. Pure."""
    if attempt.status == 0:
        return "blocked" if attempt.error.startswith(BLOCKED) else "unreachable"
    if attempt.status == httpx.codes.GONE:
        return "gone"
    return "delivered" if attempt.status < 300 else "rejected"


def after_attempt(delivery: Delivery) -> Delivery:
    """Delivered after a 2xx; else pending until the next try, or failed after the last one or a 410. Pure."""
    last = delivery.attempts[-1]
    if 200 <= last.status < 300:
        return replace(delivery, state="delivered")
    if last.status == httpx.codes.GONE or delivery.tries > len(RETRY_SECONDS):
        return replace(delivery, state="failed")
    return replace(delivery, next_ms=last.at_ms + RETRY_SECONDS[delivery.tries - 1] * 1000)


def signed_headers(endpoint: Endpoint, delivery: Delivery, timestamp: int) -> dict[str, str]:
    """The specification's three headers, with a signature for each secret that is in force."""
    content = f"{delivery.event_id}.{timestamp}.{delivery.body}".encode()
    signatures = [sign(secret.value, content) for secret in endpoint.secrets if secret.signs(now_ms())]
    return {
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        "content-type": "application/json",
        "user-agent": "zimg-webhooks/1",
    }


def sign(secret: str, content: bytes) -> str:
    """HMAC-SHA256 under the bytes that the secret encodes, in base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
