"""How long to wait for room in a full queue: until what must go first has been released."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from core.crowd import LANE_WEIGHTS, Crowds
from core.job import NewJob
from core.look import TenantLimits, start_from
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts

RETRY_AFTER_MOST = 300
#: Told where nobody can know it: what waits is paused, or no picture was ever measured.
UNKNOWN_SECONDS = 60


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
            return _told(self._seconds_for(places * between, job.queue))
        known = [(length, start) for length, start in queues if start is not None]
        if sum(length for length, _ in known) < min(places, sum(length for length, _ in queues)):
            return UNKNOWN_SECONDS
        alone = [start for length, start in known if length >= places]
        return _told(min(alone) if alone else max(start for _, start in known))

    def _own_queues(self, tenant: str, places: int) -> list[tuple[int, float | None]]:
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

    def _starts(self, ids: Iterable[str]) -> list[float | None]:
        places = self.scripts.run_all([("place", (job_id, self.live_ms)) for job_id in ids])
        return [start_from(place, self.crowds) if place else 0.0 for place in places]  # else it was released meanwhile

    def for_any_places(self, places: int, job: NewJob) -> int:
        """Until so many jobs like this one have been released, whoever's."""
        start = self._first_start(job.queue)
        if start is None:
            return UNKNOWN_SECONDS
        return _told(start + self._seconds_for((places - 1) * _work_of(job), job.queue))

    def _first_start(self, model: str) -> float | None:
        """When the next of all jobs that wait for a model is released; None: nobody knows."""
        with redis_errors():
            paused = self.redis.smembers(f"{PREFIX}paused")
            for head in self.crowds.of(model).heads:
                tenant, _, lane = head.entity.removesuffix(f"@{model}").rpartition("|")
                if head.jobs and not {f"tenant:{tenant}", f"lane:{lane}"} & paused:
                    ids = [str(one) for one in self.redis.zrange(f"{PREFIX}tq:{head.entity}", 0, 0)]
                    return self._starts(ids)[0] if ids else 0.0
        return None

    def _seconds_for(self, work: float, model: str) -> float:
        """How long a model's workers take for so much work at the measured pace."""
        with redis_errors():
            gap_ms = self.redis.hget(f"{PREFIX}pace@{model}" if model else f"{PREFIX}pace", "gap_ms")
        return float(gap_ms or 0) * work / 1000


def _told(seconds: float) -> int:
    return min(RETRY_AFTER_MOST, max(1, math.ceil(seconds)))


def _work_of(job: NewJob) -> float:
    return job.work or job.cost_units
