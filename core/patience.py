"""How long to wait for room in a full queue: until what must go first has been released."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from core.crowd import LANE_WEIGHTS, Crowds
from core.job import NewJob
from core.look import Start, TenantLimits, start_from
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts

RETRY_AFTER_MOST = 300
#: Told where nobody can know it: what waits is paused, or no picture was ever measured.
UNKNOWN_SECONDS = 60
#: Of a job that waited when it was looked for, and waits no more.
RELEASED = Start(0.0, None)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds until a full queue has so many places more, 1 to RETRY_AFTER_MOST; UNKNOWN_SECONDS if nobody can know.

    Raises RedisUnavailable on connection trouble.
    """

    redis: redis.Redis
    scripts: Scripts
    crowds: Crowds
    live_ms: int

    def for_own_places(self, places: int, job: NewJob, limits: TenantLimits) -> int:
        """Until so many of the tenant's waiting jobs have been released, whichever lanes and models they are of."""
        queues = self._own_queues(job.tenant, places)
        if not queues:  # a list that is coming in keeps the room: by the tenant's share of the service
            weight = limits.weight * LANE_WEIGHTS[job.lane]
            between = self.crowds.of(job.queue).work_between_turns(job.tenant, weight, _work_of(job))
            return _told(self._gap_ms(job.queue) * places * between / 1000)
        known = [(length, start) for length, start in queues if start is not None]
        if sum(length for length, _ in known) < min(places, sum(length for length, _ in queues)):
            return UNKNOWN_SECONDS
        alone = [start.seconds for length, start in known if length >= places]
        return _told(min(alone) if alone else max(start.seconds for _, start in known))

    def _own_queues(self, tenant: str, places: int) -> list[tuple[int, Start | None]]:
        """Of each of a tenant's queues its length, and when it will have given so many places (or all it can)."""
        with redis_errors():
            models = ["", *(f"@{name}" for name in map(str, self.redis.smembers(f"{PREFIX}models")))]
            pipeline = self.redis.pipeline(transaction=False)
            for queue in (f"{PREFIX}tq:{tenant}|{lane}{model}" for model in models for lane in LANE_WEIGHTS):
                pipeline.zcard(queue)
                pipeline.zrange(queue, places - 1, places - 1)
                pipeline.zrange(queue, -1, -1)
            answers = pipeline.execute()
        told = zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        found = [(int(length), [*ids, *last][0]) for length, ids, last in told if length]
        return list(zip((length for length, _ in found), self._starts(job_id for _, job_id in found), strict=True))

    def _starts(self, ids: Iterable[str]) -> list[Start | None]:
        places = self.scripts.run_all([("place", (job_id, self.live_ms)) for job_id in ids])
        return [start_from(place, self.crowds) if place else RELEASED for place in places]

    def for_any_places(self, places: int, job: NewJob) -> int:
        """Until so many jobs like this one have been released, whoever's."""
        start = self._first_start(job.queue)
        if start is None:
            return UNKNOWN_SECONDS
        gap_ms = self._gap_ms(job.queue) if start.gap_ms is None else start.gap_ms
        return _told(start.seconds + gap_ms * (places - 1) * _work_of(job) / 1000)

    def _first_start(self, model: str) -> Start | None:
        """When the next of all jobs that wait for a model is released; None: nobody knows."""
        with redis_errors():
            paused = self.redis.smembers(f"{PREFIX}paused")
            for head in self.crowds.of(model).heads:
                tenant, _, lane = head.entity.removesuffix(f"@{model}").rpartition("|")
                if head.jobs and not {f"tenant:{tenant}", f"lane:{lane}"} & paused:
                    ids = [str(one) for one in self.redis.zrange(f"{PREFIX}tq:{head.entity}", 0, 0)]
                    return self._starts(ids)[0] if ids else RELEASED
        return None

    def _gap_ms(self, model: str) -> float:
        """How long a model's workers take for a unit of work at the measured pace."""
        with redis_errors():
            return float(self.redis.hget(f"{PREFIX}pace@{model}" if model else f"{PREFIX}pace", "gap_ms") or 0)


def _told(seconds: float) -> int:
    return min(RETRY_AFTER_MOST, max(1, math.ceil(seconds)))


def _work_of(job: NewJob) -> float:
    return job.work or job.cost_units
