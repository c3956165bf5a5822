"""Tells tenants what became of their jobs, by the Standard Webhooks specification.

Every job that ends writes one entry to the ledger, in the script that ends it. Two consumer groups read the ledger, one
for registered endpoints and one for the URLs of requests: no end is missed, any number of schedulers share the work,
and a release that does not know such URLs takes none of their ends away. Events become deliveries in Redis, which
survive restarts and are tried again over three days.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from core.errors import RedisUnavailable
from core.job import Job, JobState
from core.job_store import BatchCounts, JobStore
from core.redis_client import redis_errors
from core.settings import Settings
from core.webhook_store import Endpoint, WebhookStore
from scheduler.ended_jobs import EndedJobs
from scheduler.outbound import OutboundGuard
from scheduler.webhook_calls import Calls

PERIOD_SECONDS = 0.5
TOLD_AT_ONCE = 200  # ends of jobs, before calls are begun
ROUNDS_MOST = 50  # of one turn, while so much has ended
ADOPT_SECONDS = 60.0  # how often it looks for what a scheduler of the release before put on its way

_TYPE_OF_STATE = {JobState.SUCCEEDED: "job.succeeded", JobState.DEAD: "job.failed", JobState.CANCELED: "job.canceled"}


class Webhooks:
    """Reads ends of jobs and sends what is due; `turn` is called over and over, and waits for no receiver."""

    def __init__(
        self, client: redis.Redis, store: JobStore, settings: Settings, stop: threading.Event | None = None
    ) -> None:
        self._redis = client
        self._jobs = store
        self._hooks = WebhookStore(client)
        self._calls = Calls(self._hooks, OutboundGuard(settings.webhook_allow), stop or threading.Event())
        self._settings = settings
        self._consumer = f"{socket.gethostname()}-{id(self):x}"
        self._ended: dict[bool, EndedJobs] = {}  # of requests or not -> what its consumer group reads
        self._adopt_at = 0.0  # monotonic time
        self._turning = threading.Lock()

    def turn(self) -> None:
        """One round. Raises RedisUnavailable, and what stopped a call that nothing should stop."""
        with self._turning:
            for _ in range(ROUNDS_MOST):
                registered = self._fan_out(self._tell_registered, of_requests=False)
                named = self._fan_out(self._tell_named, of_requests=True)
                self._adopt()
                self._calls.start_due()
                if max(registered, named) < TOLD_AT_ONCE:
                    return

    def wait(self, *, seconds: float) -> bool:
        """Whether all calls were over, and nothing more was due, within that time."""
        return self._calls.wait(seconds=seconds)

    def _adopt(self) -> None:
        if time.monotonic() >= self._adopt_at:
            self._hooks.adopt()
            self._adopt_at = time.monotonic() + ADOPT_SECONDS

    def _now(self) -> int:
        """Seconds by the server's clock, as a job's own end is told."""
        with redis_errors():
            seconds, _ = self._redis.time()
        return int(seconds)

    def _base_url(self, job: Job) -> str:
        """Where its links lead: as the operator says, else as the request that made the job reached us."""
        return (self._settings.public_base_url or job.base_url or self._settings.own_url).rstrip("/")

    # From ends of jobs to deliveries

    def _fan_out(self, tell: Callable[[Sequence[Endpoint], Job], None], *, of_requests: bool) -> int:
        """Take ends of jobs from the group for such endpoints, `tell` each to its tenant's endpoints; how many."""
        if of_requests not in self._ended:
            group = self._hooks.ensure_group(of_requests=of_requests)
            self._ended[of_requests] = EndedJobs(self._redis, group, self._consumer)
        ended = self._ended[of_requests]
        ended.read()
        entries = ended.next(TOLD_AT_ONCE)
        known: dict[str, list[Endpoint]] = {}
        for entry_id, fields in entries:
            try:
                self._tell_end(fields, known, tell, of_requests=of_requests)
            except RedisUnavailable:
                raise
            except Exception as error:  # one entry is one tenant's; all others wait behind it
                self._hooks.put_aside("ended_job", f"{entry_id} {fields.get('job', '')}", error)
        ended.done(entries)
        return len(entries)

    def _tell_end(
        self,
        fields: Mapping[str, str],
        known: dict[str, list[Endpoint]],
        tell: Callable[[Sequence[Endpoint], Job], None],
        *,
        of_requests: bool,
    ) -> None:
        """One entry of the ledger; `known` keeps the endpoints of tenants that were looked up."""
        tenant = fields.get("tenant", "")
        if tenant and tenant not in known:
            known[tenant] = self._hooks.endpoints(tenant)
        if any(one.is_for_requests is of_requests for one in known.get(tenant, ())):
            job = self._jobs.get(fields["job"])
            if job is not None and job.state in _TYPE_OF_STATE:
                tell(known[tenant], job)

    def _tell_registered(self, endpoints: Sequence[Endpoint], job: Job) -> None:
        events = [job_event(job, self._base_url(job))]
        counts = self._jobs.get_batch(job.batch_id) if job.batch_id else None
        if counts is not None and counts.is_complete:
            events.append(batch_event(counts, self._base_url(job), self._now()))
        for event in events:
            for endpoint in endpoints:
                if not endpoint.is_for_requests and endpoint.wants(event["type"]):
                    self._hooks.enqueue(endpoint, event)

    def _tell_named(self, endpoints: Sequence[Endpoint], job: Job) -> None:
        """The job's own end to the URL that its request named; an endpoint of that URL signs, and is told once."""
        if not job.webhook_url:
            return
        event = job_event(job, self._base_url(job))
        same = next((one for one in endpoints if one.url == job.webhook_url and not one.disabled), None)
        if same is not None:
            self._hooks.enqueue(same, event)
            return
        named = next((one for one in endpoints if one.is_for_requests), None)
        if named is not None and named.wants(event["type"]):
            self._hooks.enqueue(named, event, url=job.webhook_url)


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


def batch_event(counts: BatchCounts, base_url: str, moment: int) -> dict[str, Any]:
    """`batch.completed`, or `failed` or `cancelled` (OpenAI's spelling) where no picture came of it."""
    kind = {"completed": "batch.completed", "failed": "batch.failed", "canceled": "batch.cancelled"}[counts.ending]
    data = {
        "id": counts.id,
        "object": "batch",
        "request_counts": {
            "total": counts.total,
            "completed": counts.succeeded,
            "failed": counts.dead,
            "canceled": counts.canceled,
        },
        "manifest_url": f"{base_url}/v1/batches/{counts.id}/manifest.csv",
    }
    # Another event when it is complete another time: rows that were missing came, or dead ones were tried again.
    event_id = f"evt_{counts.id}_{counts.total}" + (f"_{counts.again}" if counts.again else "")
    return _event(kind, event_id, moment, data)


def check_event(endpoint_id: str, moment: int) -> dict[str, Any]:
    """What a test call sends: shaped like a real event, of a type of its own, and each time another one."""
    event_id = f"evt_test_{endpoint_id}_{moment}_{secrets.token_hex(4)}"
    return _event("webhook.test", event_id, moment, {"id": endpoint_id, "object": "webhook"})


def _event(kind: str, event_id: str, created_at: int, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": event_id, "object": "event", "created_at": created_at, "type": kind, "data": dict(data)}
