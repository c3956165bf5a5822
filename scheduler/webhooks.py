"""Tells tenants what became of their jobs, by the Standard Webhooks specification.

Every job that ends writes one entry to the ledger, in the script that ends it. Two consumer groups read the ledger, one
for registered endpoints and one for the URLs of requests: no end is missed, any number of schedulers share the work,
and a release that does not know such URLs takes none of their ends away. Events become deliveries in Redis, which
survive restarts and are tried again over three days.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import redis

from core.job import Job, JobState
from core.job_store import BatchCounts, JobStore
from core.logs import get_logger
from core.redis_client import redis_errors
from core.settings import Settings
from core.webhook_store import LEDGER, Attempt, Delivery, Endpoint, WebhookStore, now_ms
from scheduler.outbound import AddressRefused, OutboundGuard

PERIOD_SECONDS = 0.5
READ_AT_ONCE, SENT_AT_ONCE, THREADS = 200, 32, 8
#: An entry that a killed scheduler had read is read again by another after this.
ABANDONED_MS = 60_000
ATTEMPT_SECONDS = 20.0
#: The specification's own schedule, over three days in all. The first try is at once.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)

_TYPE_OF_STATE = {JobState.SUCCEEDED: "job.succeeded", JobState.DEAD: "job.failed", JobState.CANCELED: "job.canceled"}

#: How the error of an attempt to an address that may not be reached begins.
BLOCKED = "not allowed"

log = get_logger(__name__)


class Webhooks:
    """Reads ends of jobs and sends what is due; `turn` is called over and over."""

    def __init__(self, client: redis.Redis, store: JobStore, settings: Settings) -> None:
        self._redis = client
        self._jobs = store
        self._hooks = WebhookStore(client)
        self._guard = OutboundGuard(settings.webhook_allow)
        self._base_url = settings.public_base_url.rstrip("/") or f"http://{settings.host}:{settings.port}"
        self._consumer = f"{socket.gethostname()}-{id(self):x}"
        self._groups: dict[bool, str] = {}  # of requests or not -> the consumer group, once it is there

    def turn(self) -> None:
        """One round. Raises RedisUnavailable."""
        self._fan_out(self._tell_registered, of_requests=False)
        self._fan_out(self._tell_named, of_requests=True)
        due = self._hooks.take_due(SENT_AT_ONCE)
        if due:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(self._deliver, due))

    # From ends of jobs to deliveries

    def _fan_out(self, tell: Callable[[Sequence[Endpoint], Job], None], *, of_requests: bool) -> None:
        """Read ends of jobs in the group for such endpoints, and `tell` each to its tenant's endpoints."""
        if of_requests not in self._groups:
            self._groups[of_requests] = self._hooks.ensure_group(of_requests=of_requests)
        group = self._groups[of_requests]
        with redis_errors():
            abandoned = self._redis.xautoclaim(LEDGER, group, self._consumer, ABANDONED_MS, count=READ_AT_ONCE)[1]
            fresh: Any = self._redis.xreadgroup(group, self._consumer, {LEDGER: ">"}, count=READ_AT_ONCE)
        entries = [*abandoned, *(fresh[0][1] if fresh else ())]
        endpoints: dict[str, list[Endpoint]] = {}
        for _, fields in entries:
            tenant = fields.get("tenant", "") if fields else ""
            if tenant and tenant not in endpoints:
                endpoints[tenant] = self._hooks.endpoints(tenant)
            if any(one.is_for_requests is of_requests for one in endpoints.get(tenant, ())):
                job = self._jobs.get(fields["job"])
                if job is not None and job.state in _TYPE_OF_STATE:
                    tell(endpoints[tenant], job)
        if entries:
            with redis_errors():
                self._redis.xack(LEDGER, group, *[entry_id for entry_id, _ in entries])

    def _tell_registered(self, endpoints: Sequence[Endpoint], job: Job) -> None:
        events = [job_event(job, self._base_url)]
        if job.batch_id and (counts := self._jobs.get_batch(job.batch_id)) is not None and counts.open == 0:
            events.append(batch_event(counts, self._base_url))
        for event in events:
            for endpoint in endpoints:
                if not endpoint.is_for_requests and endpoint.wants(event["type"]):
                    self._hooks.enqueue(endpoint, event)

    def _tell_named(self, endpoints: Sequence[Endpoint], job: Job) -> None:
        """The job's own end to the URL that its request named; an endpoint of that URL signs, and is told once."""
        if not job.webhook_url:
            return
        event = job_event(job, self._base_url)
        same = next((one for one in endpoints if one.url == job.webhook_url and not one.disabled), None)
        if same is not None:
            self._hooks.enqueue(same, event)
            return
        named = next((one for one in endpoints if one.is_for_requests), None)
        if named is not None and named.wants(event["type"]):
            self._hooks.enqueue(named, event, url=job.webhook_url)

    # From deliveries to requests

    def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._hooks.endpoint(delivery.endpoint_id)
        if endpoint is None or endpoint.disabled:
            self._hooks.record(replace(delivery, state="failed"))
            return
        attempt = self._try(endpoint, delivery)
        self._hooks.count_attempt(outcome_of(attempt))
        tried = replace(delivery, attempts=(*delivery.attempts, attempt))
        self._hooks.record(after_attempt(tried))
        if attempt.status == httpx.codes.GONE and not endpoint.is_for_requests:  # one URL of many is gone
            self._hooks.disable(endpoint, "it answered 410 Gone")
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
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as failed:
            error = type(failed).__name__
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
    if last.status == httpx.codes.GONE or len(delivery.attempts) > len(RETRY_SECONDS):
        return replace(delivery, state="failed")
    return replace(delivery, next_ms=last.at_ms + RETRY_SECONDS[len(delivery.attempts) - 1] * 1000)


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


def job_event(job: Job, base_url: str) -> dict[str, Any]:
    """`job.succeeded`, `job.failed` or `job.canceled`, in the form of OpenAI's events."""
    data: dict[str, Any] = {
        "id": job.id,
        "object": "job",
        "status": _TYPE_OF_STATE[job.state].removeprefix("job."),
        "seed": job.request.seed,
        "metadata": dict(job.metadata),
        "batch": job.batch_id or None,
        "images": [],
        "error": None,
    }
    if job.picture is not None:
        picture = job.picture
        url = f"{base_url}/i/{job.id}.png"
        data["images"] = [{"url": url, "sha256": picture.sha256, "width": picture.width, "height": picture.height}]
    if job.failure is not None and job.state is JobState.DEAD:
        data["error"] = {"code": job.failure.code, "message": job.failure.message}
    return _event(_TYPE_OF_STATE[job.state], f"evt_{job.id}", job.finished_ms // 1000, data)


def batch_event(counts: BatchCounts, base_url: str) -> dict[str, Any]:
    """`batch.completed`, or `failed` or `cancelled` (OpenAI's spelling) where no picture came of it."""
    kind = "batch.completed" if counts.succeeded else ("batch.failed" if counts.dead else "batch.cancelled")
    data = {
        "id": counts.id,
        "object": "batch",
        "request_counts": {"total": counts.total, "completed": counts.succeeded, "failed": counts.dead},
        "manifest_url": f"{base_url}/v1/batches/{counts.id}/manifest.csv",
    }
    return _event(kind, f"evt_{counts.id}", int(time.time()), data)


def check_event(endpoint_id: str, moment: int) -> dict[str, Any]:
    """What the test call sends: shaped like a real event, of a type of its own."""
    return _event("webhook.test", f"evt_test_{endpoint_id}_{moment}", moment, {"id": endpoint_id, "object": "webhook"})


def _event(kind: str, event_id: str, created_at: int, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": event_id, "object": "event", "created_at": created_at, "type": kind, "data": dict(data)}
