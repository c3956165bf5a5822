"""One service, several models: how full each one's queue is, how fast, and when its workers were heard of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import redis

from core.redis_client import PREFIX, redis_errors
from core.workers import WorkerInfo

#: Of running jobs, and of those that wait for a retry, so many are looked at; more count to the default model.
LOOKED_AT_MOST = 2_000
#: Nothing draws yet: what a worker's start takes, added to every ETA while none lives.
WORKER_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDepth:
    """How full the queue of one model is, and its pace."""

    waiting: int = 0  # in its queue, or until a retry
    paused: int = 0  # of these: in its queue, and held back by a pause of their tenant or lane
    released: int = 0
    running: int = 0
    workers: int = 0
    worker_slots: int = 0
    run_seconds: float = 0.0  # mean time of a run
    gap_seconds: float = 0.0  # mean time between two ends while busy, per unit of work

    @property
    def outstanding(self) -> int:
        """Accepted and not yet ended."""
        return self.waiting + self.released + self.running

    @property
    def runnable(self) -> int:
        """What workers are wanted for: those that wait and may start, and those that are with workers."""
        return max(0, self.outstanding - self.paused)


def model_depths(
    client: redis.Redis, waits: Mapping[str, tuple[int, int]], workers: Iterable[WorkerInfo]
) -> dict[str, ModelDepth]:
    """By model, as in NewJob.queue; `waits` (waiting.lua's) begins with "", the default. Raises RedisUnavailable."""
    models = list(waits)
    own = {model: [one for one in workers if one.queue == model] for model in models}
    with redis_errors():
        pipeline = client.pipeline(transaction=False)
        for name in ("retry", "lease"):
            pipeline.zcard(PREFIX + name)
        for model in models:
            suffix = f"@{model}" if model else ""
            pipeline.zcard(f"{PREFIX}rel{suffix}")
            pipeline.hgetall(f"{PREFIX}pace{suffix}")
        retrying, running, *rest = pipeline.execute()
        of_models = [_models_of(client, name) if models[1:] else Counter() for name in ("retry", "lease")]
    retries, runs = _split(retrying, of_models[0]), _split(running, of_models[1])
    return {
        model: ModelDepth(
            waiting=waits[model][0] + retries[model],
            paused=waits[model][1],
            released=released,
            running=runs[model],
            workers=len(own[model]),
            worker_slots=sum(one.slots for one in own[model]),
            run_seconds=float(pace.get("run_ms", 0)) / 1000,
            gap_seconds=float(pace.get("gap_ms", 0)) / 1000,
        )
        for model, released, pace in zip(models, rest[::2], rest[1::2], strict=True)
    }


#: A time so far ahead was noted before the server's clock was set back.
CLOCK_SECONDS = 2
#: When a worker of each model was heard of last, in ms; it outlives them all.
HEARD = f"{PREFIX}heard"


def worker_silence_seconds(client: redis.Redis, queue: str) -> float:
    """How long ago a worker of the model was heard of last, its goodbye included, by the server's clock.

    Where none ever was, the time counts from the first look. While Redis was down nobody could be heard of, so that it
    is never longer than Redis is up.
    """
    with redis_errors():
        now_seconds, _ = client.time()
        beats: list[tuple[str, float]] = client.zrange(  # type: ignore[assignment]
            f"{PREFIX}workers", 0, -1, withscores=True
        )
        pipeline = client.pipeline(transaction=False)
        pipeline.hget(HEARD, queue)
        for name, _ in beats:
            pipeline.hget(f"{PREFIX}worker:{name}", "queue")
        heard, *queues = pipeline.execute()
        now_ms = int(now_seconds) * 1000
        own = [beat for (_, beat), of in zip(beats, queues, strict=True) if (of or "") == queue]
        if (heard is None and not own) or float(heard or 0) > now_ms + CLOCK_SECONDS * 1000:
            client.hset(HEARD, queue, now_ms)
            return 0.0
        up_seconds = _up_seconds(client)
    return max(0.0, min((now_ms - max(float(heard or 0), *own, 0.0)) / 1000, up_seconds))


def _up_seconds(client: redis.Redis) -> float:
    """How long Redis is up; for ever where it is not told."""
    try:
        return float(client.info("server")["uptime_in_seconds"])
    except (redis.ResponseError, KeyError):
        return math.inf


def eta_seconds(work: float, pace: tuple[float, float] | None, slots: int, wait_ms: float) -> float | None:
    """Seconds until a job ends with `work` (its own, that before it and in flight) at a `pace` of (gap, run) ms.

    `wait_ms`: what it waits at least, for jobs of its own tenant to end or for its next try.
    """
    if pace is None:
        return None
    gap_ms, run_ms = pace
    start_seconds = 0.0 if slots else WORKER_START_SECONDS
    return round(max(run_ms + wait_ms, work * gap_ms) / 1000 + start_seconds, 1)


def _split(all_models: int, further: Counter[str]) -> Counter[str]:
    """The default model has what no further one has."""
    return Counter({**further, "": all_models - further.total()})


def _models_of(client: redis.Redis, name: str) -> Counter[str]:
    """Jobs of further models in a sorted set of job ids."""
    pipeline = client.pipeline(transaction=False)
    for job_id in map(str, client.zrange(PREFIX + name, 0, LOOKED_AT_MOST - 1)):
        pipeline.hget(f"{PREFIX}job:{job_id}", "model")
    return Counter(model for model in pipeline.execute() if model)
