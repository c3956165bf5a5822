"""Pause, drain and resume a lane, a tenant or a worker. What runs goes on in every case."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.errors import InvalidRequest
from core.job import Lane
from core.job_store import JobStore
from core.redis_client import PREFIX, redis_errors
from core.refusals import refusal_while_draining
from core.scripts import Scripts
from scheduler.tenants import check_tenant_name

DRAINING = f"{PREFIX}draining"


class Kind(StrEnum):
    """What may be stopped."""

    LANE = "lane"
    TENANT = "tenant"
    WORKER = "worker"


class Flow(StrEnum):
    """Paused: new jobs are taken in and wait. Draining: none are taken in, what waits is drawn.

    A worker that is paused or draining takes up nothing more; once it holds no job it may be stopped.
    """

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Stop:
    """One lane, tenant or worker that is not open."""

    kind: Kind
    name: str
    flow: Flow


class Traffic:
    """Keeps what is stopped, in Redis. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def set(self, kind: Kind, name: str, flow: Flow) -> None:
        """Make it so; again with the same flow it changes nothing. Raises InvalidRequest for an impossible name."""
        self._check(kind, name)
        is_stopped = flow is Flow.PAUSED or (flow is Flow.DRAINING and kind is Kind.WORKER)
        if flow is Flow.DRAINING:
            Scripts(self._store.redis).run("stop", "draining", f"{kind}:{name}")
        else:
            with redis_errors():
                self._store.redis.srem(DRAINING, f"{kind}:{name}")
        if is_stopped:
            self._store.pause(kind, name)
        else:
            self._store.resume(kind, name)

    def stops(self) -> list[Stop]:
        """All that is not open, by kind and name."""
        with redis_errors():
            draining = {str(one) for one in self._store.redis.smembers(DRAINING)}
        paused = set(self._store.paused())
        return [
            Stop(Kind(kind), name, Flow.DRAINING if entry in draining else Flow.PAUSED)
            for entry in sorted(paused | draining)
            for kind, name in [entry.split(":", 1)]
        ]

    def require_open(self, tenant: str, lane: Lane) -> None:
        """Raises Draining if the tenant or the lane takes in no new work: before a list is read, as a courtesy.

        The decision is submit.lua's, in one step with the rest.
        """
        names = [f"{Kind.LANE}:{lane.value}", f"{Kind.TENANT}:{tenant}"]
        with redis_errors():
            lane_drains, tenant_drains = self._store.redis.smismember(DRAINING, names)
        if lane_drains or tenant_drains:
            raise refusal_while_draining(names[0] if lane_drains else names[1])

    def _check(self, kind: Kind, name: str) -> None:
        if kind is Kind.LANE and name not in set(Lane):
            raise InvalidRequest(f"The lanes are {', '.join(Lane)}.", field="name", code="out_of_range")
        if kind is Kind.TENANT:
            check_tenant_name(name)
