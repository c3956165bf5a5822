"""Events of a job: a short capped stream per job for resume, and one wake-up subscription per process."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from core.job import TERMINAL_STATES, Lane
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors

CHANNEL = f"{PREFIX}events"
POLL_SECONDS = 0.2  # how soon a closing hub notices; a message wakes it at once
CLOSE_SECONDS = 2.0
RECONNECT_SECONDS = 0.5
_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_NUMBER_MOST = 2**64 - 1  # of either half, in Redis
_CLOCKS_DIFFER_MS = 86_400_000

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is its stream id (resume after it). Types:

    status {status, queue_position?} · progress {stage, step, steps, value} · output {images} · error {code, message}.
    """

    id: str
    type: str
    data: Mapping[str, Any]


def known_id(told: str) -> str:
    """What somebody says was the last event he saw; "" for what can be no id of ours, such as one of the future."""
    found = _ID.fullmatch(told)
    if found is None or int(found[2] or 0) > _NUMBER_MOST:
        return ""
    return told if int(found[1]) <= time.time_ns() // 1_000_000 + _CLOCKS_DIFFER_MS else ""


class JobEvents:
    """Reads the streams that the scripts write."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def read(self, job_id: str, after_id: str = "") -> list[Event]:
        """Events after `after_id`, oldest first; all that are kept if it is "" or not an id of ours.

        The first event of a list's row is not stored (submit.lua says why): it is told from the job's record.
        Raises RedisUnavailable.
        """
        after_id = known_id(after_id)
        start = f"({after_id}" if after_id else "-"
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xrange(f"{PREFIX}ev:{job_id}", min=start)
            pipeline.hmget(f"{PREFIX}job:{job_id}", ["lane", "created", "state"])
            entries, (lane, created, state) = pipeline.execute()
        found = [
            Event(id=entry_id, type=fields["type"], data=json.loads(fields["data"])) for entry_id, fields in entries
        ]
        if lane != Lane.BATCH or _is_after(start, created) or (not found and state in TERMINAL_STATES):
            return found
        return [Event(id=f"{created}-0", type="status", data={"status": "queued"}), *found]


def _is_after(start: str, created: str) -> bool:
    """Whether somebody who resumes at `start` was told of the job's creation."""
    return start != "-" and int(start[1:].partition("-")[0]) >= int(created)


class Follower:
    """One thread's wait for the events of one job; `EventHub.follow` makes it."""

    def __init__(self, read: Callable[[str], list[Event]], bell: threading.Event, closed: threading.Event) -> None:
        self._read, self._bell, self._closed = read, bell, closed
        bell.set()  # what came before is read at once

    def wait(self, after_id: str, timeout_seconds: float) -> list[Event]:
        """Events after `after_id` as soon as there are any; [] when the time is over. Raises RedisUnavailable."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            is_rung = self._rest(deadline - time.monotonic())
            found = self._read(after_id)  # in the end as well: a message may be lost on its way
            if found or not is_rung or self._closed.is_set():
                return found

    def rest(self, timeout_seconds: float) -> None:
        """Until something may have happened to the job since the last rest, or the time is over. Asks nobody."""
        if not self._closed.is_set():
            self._rest(timeout_seconds)

    def _rest(self, timeout_seconds: float) -> bool:
        is_rung = self._bell.wait(max(0.0, timeout_seconds))
        self._bell.clear()
        return is_rung


class EventHub:
    """Lets many threads wait for events of many jobs with one subscription. Starts its thread at the first wait."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._events = JobEvents(client)
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def wait(self, job_id: str, after_id: str, timeout_seconds: float) -> list[Event]:
        """Events after `after_id` as soon as there are any; [] when the time is over. Raises RedisUnavailable."""
        with self.follow(job_id) as follower:
            return follower.wait(after_id, timeout_seconds)

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Follower]:
        """Hears of each event of a job for the length of a block: between two waits none is missed."""
        bell = threading.Event()
        self._enter(job_id, bell)
        try:
            yield Follower(lambda after_id: self._events.read(job_id, after_id), bell, self._closed)
        finally:
            self._leave(job_id, bell)

    def close(self) -> None:
        """End the subscription and every wait."""
        self._closed.set()
        self._ring_all()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_SECONDS)

    def _enter(self, job_id: str, bell: threading.Event) -> None:
        with self._lock:
            self._waiters[job_id].add(bell)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._listen, name="event-hub", daemon=True)
                self._thread.start()

    def _leave(self, job_id: str, bell: threading.Event) -> None:
        with self._lock:
            bells = self._waiters[job_id]
            bells.discard(bell)
            if not bells:
                del self._waiters[job_id]

    def _ring(self, job_id: str) -> None:
        with self._lock:
            for bell in self._waiters.get(job_id, ()):
                bell.set()

    def _ring_all(self) -> None:
        with self._lock:
            for bells in self._waiters.values():
                for bell in bells:
                    bell.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._redis.pubsub() as subscription:  # type: ignore[no-untyped-call]
                    self._follow(subscription)
            except (RedisError, OSError) as error:
                log.warning("events: subscription lost", action="resubscribe", error=type(error).__name__)
                self._ring_all()  # waiters learn of the outage from their own read
                self._closed.wait(RECONNECT_SECONDS)

    def _follow(self, subscription: Any) -> None:
        subscription.subscribe(CHANNEL)
        while not self._closed.is_set():
            message = subscription.get_message(timeout=POLL_SECONDS)
            if message is None:
                continue
            if message["type"] == "subscribe":
                self._ring_all()  # whatever was published before is in the streams
            elif message["type"] == "message":
                self._ring(str(message["data"]))
