"""How long to wait for room in a full queue: until what must go first has been released."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from core.crowd import LANE_WEIGHTS, Crowds
from core.job import Lane, NewJob
from core.look import Start, TenantLimits, start_from
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts

RETRY_AFTER_MOST = 300
#: Told where nobody can know it: what waits is paused, or no picture was ever measured.
UNKNOWN_SECONDS = 60
#: Of a job that waited when it was looked for, and waits no more.
RELEASED = Start(0.0, None)


@dataclass(frozen=True, slots=True)
class _Queue:
    """One of a tenant's queues, as far as it makes the places free that are asked for.

    `marks`: the job that frees the last of the stored places; before it the first one, where more are to come.
    """

    model: str
    stored: int
    to_come: int  # rows of lists, beyond what is stored
    marks: tuple[str, ...]
    is_paused: bool  # what is to come; of what is stored its starts say it


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
        """Until so many of the tenant's waiting jobs have been released, whichever lanes and models they are of.

        Rows of a list that are still to come have their places already, and free them behind those that came.
        """
        queues = self._own_queues(job.tenant, places)
        starts = iter(self._starts(job_id for queue in queues for job_id in queue.marks))
        told = [
            (queue.stored + queue.to_come, self._seconds(queue, [next(starts) for _ in queue.marks], job, limits))
            for queue in queues
        ]
        known = [(many, seconds) for many, seconds in told if seconds is not None]
        if sum(many for many, _ in known) < min(places, sum(many for many, _ in told)):
            return UNKNOWN_SECONDS
        alone = [seconds for many, seconds in known if many >= places]
        return _told(min(alone) if alone else max((seconds for _, seconds in known), default=0.0))

    def _own_queues(self, tenant: str, places: int) -> list[_Queue]:
        """Each of a tenant's queues in which something waits or is to come."""
        with redis_errors():
            paused = self.redis.smembers(f"{PREFIX}paused")
            to_come = self._to_come(tenant)
            models = ["", *map(str, self.redis.smembers(f"{PREFIX}models"))]
            names = [(model, lane) for model in models for lane in LANE_WEIGHTS]
            pipeline = self.redis.pipeline(transaction=False)
            for model, lane in names:
                queue = f"{PREFIX}tq:{tenant}|{lane}{f'@{model}' if model else ''}"
                pipeline.zcard(queue)
                for at in (0, places - 1, -1):
                    pipeline.zrange(queue, at, at)
            answers = iter(pipeline.execute())
        is_paused = bool({f"tenant:{tenant}", f"lane:{Lane.BATCH}"} & paused)
        found = []
        for model, lane in names:
            stored, first, wanted, last = (next(answers) for _ in range(4))
            more = max(0, min(places - stored, to_come[model])) if lane is Lane.BATCH else 0
            marks = [*(first if more else ()), *(wanted or last)]
            found.append(_Queue(model, stored, more, tuple(map(str, marks)), is_paused=is_paused))
        return [queue for queue in found if queue.stored or queue.to_come]

    def _to_come(self, tenant: str) -> Counter[str]:
        """Rows of a tenant's lists that are coming in and are not stored yet, by model."""
        pipeline = self.redis.pipeline(transaction=False)
        for name in map(str, self.redis.zrange(f"{PREFIX}holds", 0, -1)):
            pipeline.hmget(f"{PREFIX}hold:{name}", ["tenant", "jobs", "model"])
        found: Counter[str] = Counter()
        for owner, jobs, model in pipeline.execute():
            found[model or ""] += int(jobs or 0) if owner == tenant else 0
        return found

    def _seconds(self, queue: _Queue, marks: list[Start | None], job: NewJob, limits: TenantLimits) -> float | None:
        """Until a queue has given its places, of which `marks` are starts; None: nobody knows."""
        known = [start.seconds for start in marks if start is not None]
        if len(known) < len(marks) or (not marks and queue.is_paused):
            return None
        last = known[-1] if known else 0.0
        if not queue.to_come:
            return last
        between = (last - known[0]) / (queue.stored - 1) if queue.stored > 1 else 0.0
        if between <= 0:  # too few wait to tell the pace of the next ones by: by the tenant's share of the service
            weight = limits.weight * LANE_WEIGHTS[Lane.BATCH]
            share = self.crowds.of(queue.model).work_between_turns(job.tenant, weight, _work_of(job))
            between = self._gap_ms(queue.model) * share / 1000
        return last + queue.to_come * between if between else None

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
