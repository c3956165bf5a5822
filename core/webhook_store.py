"""Webhook endpoints and deliveries in Redis: what the api shows and the scheduler sends."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

import redis
from redis.exceptions import ResponseError

from core.aside import put_aside
from core.job_record import UNREADABLE
from core.redis_client import PREFIX, as_one_step, redis_errors
from core.webhook_due import OF_REQUESTS, DueLanes, key_of
from core.webhook_log import KEPT_SECONDS, LOGGED_MOST, DeliveryLog
from core.webhook_records import (
    REQUEST,
    SECRETS_MOST,
    Attempt,
    Delivery,
    Endpoint,
    Secret,
    attempt_from,
    delivery_from,
    endpoint_from,
    to_json,
)

__all__ = ["LOGGED_MOST", "SECRETS_MOST", "Attempt", "Delivery", "Endpoint", "Secret"]

EVENT_TYPES = (
    "job.succeeded", "job.failed", "job.canceled", "batch.completed", "batch.failed", "batch.cancelled",
)  # fmt: skip
SECRET_BYTES = 32
REMOVED_AT_ONCE = 500  # deliveries of an endpoint, so that no call holds the server for long
FAILURES_MOST = 500  # of all tenants, for the operator
LEDGER, GROUP = f"{PREFIX}ledger", "webhooks"

Kept = TypeVar("Kept")


def new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def delivery_id(endpoint_id: str, event_id: str) -> str:
    """The same for the same event and endpoint, so that an event that is seen twice is sent once."""
    return "whd_" + hashlib.sha256(f"{endpoint_id}|{event_id}".encode()).hexdigest()[:32]


def request_endpoint_id(tenant: str) -> str:
    """The id of a tenant's endpoint for what its requests name."""
    return "wh_" + hashlib.sha256(f"{REQUEST}|{tenant}".encode()).hexdigest()[:24]


class WebhookStore:
    """Endpoints by tenant; deliveries by when they are due. Raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._due = DueLanes(client)
        self._log = DeliveryLog(client)

    # Endpoints

    def save(self, endpoint: Endpoint, *, most: int | None = None) -> bool:
        """Make a registered endpoint; False where its tenant has `most` already, and then nothing is made."""
        listed = f"{PREFIX}hooks:{endpoint.tenant}"

        def attempt(pipeline: Any) -> bool:
            has_room = most is None or pipeline.zcard(listed) < most
            pipeline.multi()
            if has_room:
                pipeline.set(key_of("hook", False, endpoint.id), to_json(endpoint))
                pipeline.zadd(listed, {endpoint.id: endpoint.created_ms})
            return bool(has_room)

        return as_one_step(self._redis, attempt, listed)

    def change(self, endpoint: Endpoint, how: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """Change an endpoint as it stands by now, whoever else changes it; None if it was removed meanwhile.

        `how` is called again where another change came first.
        """
        name = key_of("hook", endpoint.is_for_requests, endpoint.id)

        def attempt(pipeline: Any) -> Endpoint | None:
            stored = pipeline.get(name)
            changed = None if stored is None else how(endpoint_from(json.loads(stored)))
            pipeline.multi()
            if changed is not None:
                pipeline.set(name, to_json(changed))
            return changed

        return as_one_step(self._redis, attempt, name)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint, or None if it is unknown or can not be read."""
        return self._find("hook", endpoint_id, endpoint_from, aside="endpoint")

    def _find(self, kind: str, wanted: str, made_of: Callable[[Any], Kept], *, aside: str) -> Kept | None:
        with redis_errors():
            found = self._redis.mget([key_of(kind, of_requests, wanted) for of_requests in (False, True)])
        stored = next((str(one) for one in found if one is not None), None)
        try:
            return None if stored is None else made_of(json.loads(stored))
        except UNREADABLE as error:
            put_aside(self._redis, aside, wanted, error)
            return None

    def put_aside(self, kind: str, name: str, error: Exception) -> None:
        """As core.aside.put_aside."""
        put_aside(self._redis, kind, name, error)

    def endpoints(self, tenant: str) -> list[Endpoint]:
        """The tenant's endpoints, oldest first; behind them the one for what its requests name, if there is one."""
        with redis_errors():
            ids = [str(one) for one in self._redis.zrange(f"{PREFIX}hooks:{tenant}", 0, -1)]
        wanted = dict.fromkeys([*ids, request_endpoint_id(tenant)])
        return [found for found in map(self.endpoint, wanted) if found is not None]

    def for_requests(self, tenant: str) -> Endpoint:
        """The tenant's endpoint for what its requests name, made when first asked for; two callers get the same."""
        wanted = request_endpoint_id(tenant)
        if (found := self.endpoint(wanted)) is not None:
            return found
        made = Endpoint(
            id=wanted, tenant=tenant, url="", secrets=(Secret(value=new_secret()),), created_ms=now_ms(), source=REQUEST
        )
        self.ensure_group(of_requests=True)  # before the first job that names a URL, so that no end is missed
        with redis_errors():
            self._redis.set(key_of("hook", True, wanted), to_json(made), nx=True)
        return self.endpoint(wanted) or made

    def ensure_group(self, *, of_requests: bool) -> str:
        """The name of the ledger's consumer group for such endpoints; from the first call on it misses no end."""
        group = f"{OF_REQUESTS if of_requests else ''}{GROUP}"
        with redis_errors():
            try:
                self._redis.xgroup_create(LEDGER, group, id="$", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):  # another process made it
                    raise
        return group

    def remove(self, endpoint: Endpoint) -> None:
        """Forget an endpoint with its deliveries; what its log no longer has is dropped when due or looked at."""
        of_requests, ids = endpoint.is_for_requests, self._log.forget(endpoint.id)
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.delete(key_of("hook", of_requests, endpoint.id))
            pipeline.zrem(f"{PREFIX}hooks:{endpoint.tenant}", endpoint.id)
            pipeline.execute()
        for at in range(0, len(ids), REMOVED_AT_ONCE):
            page = ids[at : at + REMOVED_AT_ONCE]
            with redis_errors():
                self._redis.delete(*(key_of("delivery", of_requests, sent) for sent in page))
                self._redis.zrem(key_of("hook_failures", of_requests), *page)
            self._due.drop(page)

    def disable(self, endpoint: Endpoint, reason: str) -> None:
        """Turn an endpoint off, unless it has another URL by now; its owner turns it on again."""
        self.change(endpoint, lambda now: replace(now, disabled=reason) if now.url == endpoint.url else now)

    # Deliveries

    def enqueue(self, endpoint: Endpoint, event: Mapping[str, Any], *, url: str = "") -> Delivery:
        """Put an event on its way, to `url` if the endpoint has none; again with the same event it changes nothing."""
        delivery = Delivery(
            id=delivery_id(endpoint.id, event["id"]),
            endpoint_id=endpoint.id,
            tenant=endpoint.tenant,
            event_id=event["id"],
            type=event["type"],
            body=json.dumps(event, ensure_ascii=False, separators=(",", ":")),
            created_ms=now_ms(),
            url=url,
        )
        name = key_of("delivery", bool(url), delivery.id)
        with redis_errors():
            is_new = self._redis.set(name, to_json(delivery), nx=True, ex=KEPT_SECONDS)
        if is_new:
            self._log.add(endpoint.id, delivery.id, delivery.created_ms)
        found = delivery if is_new else self.delivery(delivery.id)
        if found is not None and found.state == "pending":
            self._due.put(found.id, found.lane, found.next_ms or found.created_ms, is_new=True)
        return delivery

    def delivery(self, wanted: str) -> Delivery | None:
        """The delivery, or None if it is unknown, too old, or can not be read."""
        return self._find("delivery", wanted, delivery_from, aside="delivery")

    def deliveries(
        self, endpoint_id: str, *, limit: int = 50, after: str | None = None, failed: bool = False
    ) -> list[Delivery]:
        """The endpoint's deliveries, newest first, behind the one named `after`; `failed`: those given up alone."""
        found: list[Delivery] = []
        while len(found) < limit:  # a record may have ended before its line of the log
            ids = self._log.page(endpoint_id, after=after, limit=limit - len(found), failed=failed)
            if not ids:
                break
            found += [one for one in map(self.delivery, ids) if one is not None]
            after = ids[-1]
        return found

    def all_attempts(self, delivery: Delivery) -> tuple[Attempt, ...]:
        """Those of the delivery, behind those from before it was sent again, oldest first."""
        earlier = tuple(attempt_from(json.loads(one)) for one in self._log.earlier(delivery.id))
        return (*earlier, *delivery.attempts)

    def resend(self, delivery: Delivery) -> Delivery:
        """Put a delivery on its way again at once, with all its tries; what an attempt right now comes to stands."""
        last = delivery.attempts[-1:]
        again = replace(delivery, state="pending", next_ms=0, attempts=last, uncounted=len(last))
        of_requests = bool(delivery.url)
        with redis_errors():
            name = key_of("delivery", of_requests, delivery.id)
            if not self._redis.set(name, to_json(again), ex=KEPT_SECONDS, xx=True):
                return again
        self._log.keep_earlier(delivery.id, [json.dumps(asdict(one)) for one in delivery.attempts[:-1]])
        self._log.is_no_failure(delivery.endpoint_id, delivery.id)
        self._due.hurry(delivery.id, delivery.lane, now_ms())
        return again

    # Taking turns

    def adopt(self) -> None:
        """Take over what the release before put on its way."""
        self._due.adopt(self._lane)

    def _lane(self, wanted: str) -> str | None:
        found = self.delivery(wanted)
        return None if found is None or found.state != "pending" else found.lane

    def due_lanes(self) -> list[str]:
        """Lanes in which something may be due, the one that has waited longest first."""
        return self._due.lanes()

    def take(self, lane: str, most: int) -> list[Delivery]:
        """Deliveries of a lane that are due, each taken by one caller only, for as long as one attempt may take."""
        taken = []
        for wanted in self._due.take(lane, most):
            found = self.delivery(wanted)
            if found is None or found.state != "pending":
                self._due.drop([wanted])
            else:
                taken.append(found)
        return taken

    def record(self, delivery: Delivery) -> None:
        """Keep what an attempt came to, and when the next is due; not of a delivery that was removed meanwhile."""
        with redis_errors():
            name = key_of("delivery", bool(delivery.url), delivery.id)
            is_kept = bool(self._redis.set(name, to_json(delivery), ex=KEPT_SECONDS, xx=True))
        if is_kept:
            self._note_failure(delivery)
        if is_kept and delivery.state == "pending":
            self._due.put(delivery.id, delivery.lane, delivery.next_ms)
        else:
            self._due.drop([delivery.id])

    def count_attempt(self, outcome: str) -> None:
        """One more attempt of the whole service that ended so (core.metrics.WEBHOOK_OUTCOMES)."""
        with redis_errors():
            self._redis.hincrby(f"{PREFIX}hook_attempts", outcome, 1)

    def _note_failure(self, delivery: Delivery) -> None:
        """Keep the delivery among the failures until it arrives."""
        if delivery.state == "failed":
            self._log.add(delivery.endpoint_id, delivery.id, delivery.created_ms, failed=True)
        with redis_errors():
            self._keep_failure(delivery)

    def _keep_failure(self, delivery: Delivery) -> None:
        pipeline, failures = self._redis.pipeline(transaction=True), key_of("hook_failures", bool(delivery.url))
        if delivery.state == "delivered" or not delivery.attempts:
            pipeline.zrem(failures, delivery.id)
        else:
            pipeline.zadd(failures, {delivery.id: delivery.attempts[-1].at_ms})
            pipeline.zremrangebyrank(failures, 0, -FAILURES_MOST - 1)
        pipeline.execute()

    def failures(self, *, limit: int = 50) -> list[Delivery]:
        """Deliveries of all tenants whose last attempt failed, the latest first, tried again or given up.

        Those whose record or endpoint is gone are forgotten here.
        """
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for of_requests in (False, True):
                pipeline.zrevrange(key_of("hook_failures", of_requests), 0, limit - 1, withscores=True)
            latest = sorted((one for part in pipeline.execute() for one in part), key=lambda one: -one[1])
        ids = [str(wanted) for wanted, _ in latest[:limit]]
        found = {sent: self.delivery(sent) for sent in ids}
        known = {one.endpoint_id: self.endpoint(one.endpoint_id) for one in found.values() if one is not None}
        shown = [one for one in found.values() if one is not None and known[one.endpoint_id] is not None]
        self._forget_failures(set(ids) - {one.id for one in shown})
        return shown

    def _forget_failures(self, ids: Collection[str]) -> None:
        if not ids:
            return
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=True)
            for of_requests in (False, True):
                pipeline.zrem(key_of("hook_failures", of_requests), *ids)
            pipeline.execute()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
