"""Every metric that zimg exports: name, help, labels; the unit is in the name (Prometheus' base units).

The api's `/metrics` also shows what Redis knows of the whole service (queue depth, workers, outcomes), read anew at
each scrape by `ServiceCollector`, so that any api process answers the same and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from core import __version__
from core.aside import ASIDE_KINDS

REGISTRY = CollectorRegistry(auto_describe=True)

BUILD = Info("zimg_build", "Version of this process.", registry=REGISTRY)
BUILD.info({"version": __version__})

HTTP_REQUESTS = Counter("zimg_http_requests", "Requests answered.", ("method", "route", "code"), registry=REGISTRY)
HTTP_SECONDS = Histogram(
    "zimg_http_request_duration_seconds",
    "Time to the end of the answer, event streams left out.",
    ("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
    registry=REGISTRY,
)


#: Where a job's time goes: waiting for a worker, then as the worker that drew it measured.
STAGES = ("queue", "text", "denoise", "decode", "png", "upload")
#: How an attempt to deliver an event may end: taken, answered otherwise, answered 410, no answer, address not allowed.
WEBHOOK_OUTCOMES = ("delivered", "rejected", "gone", "unreachable", "blocked")

#: What an audit compares: jobs with their places, counters with the queues, usage with the ledger, one entry for a job;
#: and what it finds and no repair decides.
AUDIT_KINDS = ("place", "counter", "usage", "settled_twice", "unclear")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReading:
    """A histogram: (upper bound in seconds as text, jobs up to it), `+Inf` last; seconds in all."""

    buckets: Sequence[tuple[str, float]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReading:
    """How much work one model has, and the seats of its workers."""

    outstanding: int = 0
    paused: int = 0  # of these: waiting, and held back by a pause
    runnable: int = 0  # the others
    worker_slots: int = 0
    seconds_per_picture: float = 0.0  # between two ends while busy, of a unit of work


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReading:
    """One look at the whole service, as Redis knows it."""

    waiting: Mapping[str, int] = field(default_factory=dict)  # lane -> jobs queued or waiting for a retry
    released: int = 0
    running: int = 0
    oldest_waiting_seconds: float = 0.0
    dead_letters: int = 0
    workers: int = 0
    worker_slots: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)  # succeeded, dead, canceled -> jobs since ever
    dedup_hits: int = 0
    webhook_attempts: Mapping[str, int] = field(default_factory=dict)  # one of WEBHOOK_OUTCOMES -> attempts since ever
    put_aside: Mapping[str, int] = field(default_factory=dict)  # one of core.aside.ASIDE_KINDS -> how often
    stages: Mapping[str, StageReading] = field(default_factory=dict)  # one of STAGES
    audit: Mapping[str, int] = field(default_factory=dict)  # one of AUDIT_KINDS -> differences found last
    audited_ms: int = 0  # server time of the last audit; 0 = none yet
    models: Mapping[str, ModelReading] = field(default_factory=dict)  # id of the model
    worker_gauges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # worker -> gauge name -> value
    redis_used_bytes: int = 0
    redis_most_bytes: int = 0  # 0 = unknown


#: Told for each model, whatever waits for it: an autoscaler takes no scale-down from a metric that is missing.
MODEL_GAUGES: Mapping[str, tuple[str, Callable[[ModelReading], float]]] = {
    "zimg_jobs_outstanding": ("Accepted jobs of the model not yet ended.", lambda one: one.outstanding),
    "zimg_jobs_paused": ("Of these, jobs that wait while an operator pauses tenant or lane.", lambda one: one.paused),
    "zimg_jobs_runnable": (
        "Of these, the others, those with workers included: scale the model's workers on this.",
        lambda one: one.runnable,
    ),
    "zimg_model_slots": ("Jobs that the model's live workers may carry.", lambda one: one.worker_slots),
    "zimg_model_seconds_per_picture": (
        "Mean time between two ends while busy, for a unit of work.",
        lambda one: one.seconds_per_picture,
    ),
}

#: What a worker may report in its heartbeat, and the help of the gauge that shows it.
WORKER_GAUGES = {
    "gpu_memory_used_bytes": "GPU memory in use on the worker's card, by all processes.",
    "gpu_memory_total_bytes": "GPU memory of the worker's card.",
    "gpu_memory_reserved_bytes": "GPU memory that the worker's allocator holds.",
    "gpu_memory_working_bytes": "GPU memory of what rides now, resident weights left out: it falls to 0 when idle.",
    "jobs_in_flight": "Jobs that ride in the worker's engine.",
    "black_images_total": "Pictures that the guard refused since the worker started.",
    "out_of_memory_total": "Times that the card had no room since the worker started.",
    "backlog_pictures": "Finished pictures that wait on the worker's disk for the storage.",
    "backlog_bytes": "Bytes of the pictures that wait for the storage.",
    "backlog_full": "1 while the worker draws nothing more, since too much waits for the storage.",
    "vram_watermark_total": "Times that the card was over the watermark since the worker started.",
    "warm_up_owed": "1 while a restarted worker, which takes jobs, still rides its warm-up behind them.",
    "packing_failed": "1 while weights travel as they are, since unpacking them failed its check on the worker's card.",
}


class ServiceCollector(Collector):
    """Turns a ServiceReading, taken at each scrape, into metrics; a failed reading shows `zimg_redis_up 0` alone."""

    def __init__(self, read: Callable[[], ServiceReading | None]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        reading = self._read()
        yield GaugeMetricFamily("zimg_redis_up", "1 while Redis answers.", value=1.0 if reading else 0.0)
        if reading is None:
            return
        yield from _memory_metrics(reading)
        yield from _queue_metrics(reading)
        yield from _tally_metrics(reading)
        yield from _worker_metrics(reading)


def _memory_metrics(reading: ServiceReading) -> Iterator[Metric]:
    if reading.redis_most_bytes:
        used = "Memory of Redis in use: at the most it takes in nothing new."
        yield GaugeMetricFamily("zimg_redis_memory_used_bytes", used, value=reading.redis_used_bytes)
        most = "Memory that Redis may use: its maxmemory, or all of its machine."
        yield GaugeMetricFamily("zimg_redis_memory_max_bytes", most, value=reading.redis_most_bytes)


def _queue_metrics(reading: ServiceReading) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("zimg_jobs_waiting", "Jobs that wait in Redis.", labels=("lane",))
    for lane, count in reading.waiting.items():
        waiting.add_metric((lane,), count)
    yield waiting
    yield GaugeMetricFamily("zimg_jobs_released", "Jobs on the way to a worker.", value=reading.released)
    yield GaugeMetricFamily("zimg_jobs_running", "Jobs that a worker holds.", value=reading.running)
    yield from _model_metrics(reading.models)
    yield GaugeMetricFamily(
        "zimg_queue_oldest_job_age_seconds", "Age of the job that waits longest.", value=reading.oldest_waiting_seconds
    )
    yield GaugeMetricFamily("zimg_dead_letters", "Dead jobs kept for a person.", value=reading.dead_letters)
    outcomes = CounterMetricFamily("zimg_jobs", "Jobs ended.", labels=("outcome",))
    for outcome, count in reading.outcomes.items():
        outcomes.add_metric((outcome,), count)
    yield outcomes


def _model_metrics(models: Mapping[str, ModelReading]) -> Iterator[Metric]:
    for name, (text, value_of) in MODEL_GAUGES.items():
        family = GaugeMetricFamily(name, text, labels=("model",))
        for model, one in models.items():
            family.add_metric((model,), value_of(one))
        yield family


def _tally_metrics(reading: ServiceReading) -> Iterator[Metric]:
    yield CounterMetricFamily("zimg_dedup_hits", "Jobs that share another job's picture.", value=reading.dedup_hits)
    attempts = CounterMetricFamily("zimg_webhook_attempts", "Attempts to deliver an event.", labels=("outcome",))
    for outcome in WEBHOOK_OUTCOMES:
        attempts.add_metric((outcome,), reading.webhook_attempts.get(outcome, 0))
    yield attempts
    aside = CounterMetricFamily("zimg_put_aside", "What could not be read and was passed over.", labels=("kind",))
    for kind in ASIDE_KINDS:
        aside.add_metric((kind,), reading.put_aside.get(kind, 0))
    yield aside
    text = "Time of a job in a stage: queue as it is claimed first, the others of pictures that succeeded."
    seconds = HistogramMetricFamily("zimg_job_seconds", text, labels=("stage",))
    for stage in STAGES:
        if (times := reading.stages.get(stage)) is not None:
            seconds.add_metric((stage,), times.buckets, times.seconds)
    yield seconds
    if reading.audited_ms:
        differences = GaugeMetricFamily("zimg_audit_differences", "Found by the last audit.", labels=("kind",))
        for kind in AUDIT_KINDS:
            differences.add_metric((kind,), reading.audit.get(kind, 0))
        yield differences
        when = "When the last audit ended, by the clock of Redis."
        yield GaugeMetricFamily("zimg_audit_timestamp_seconds", when, value=reading.audited_ms / 1000)


def _worker_metrics(reading: ServiceReading) -> Iterator[Metric]:
    yield GaugeMetricFamily("zimg_workers", "Workers that live.", value=reading.workers)
    yield GaugeMetricFamily("zimg_worker_slots", "Jobs that all live workers may carry.", value=reading.worker_slots)
    for name, text in WORKER_GAUGES.items():
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(f"zimg_{name.removesuffix('_total')}", text, labels=("worker",))
        for worker, gauges in reading.worker_gauges.items():
            if name in gauges:
                family.add_metric((worker,), gauges[name])
        yield family
