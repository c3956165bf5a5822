"""A caller's wish becomes a stored job, in one step with deduplication, quota and its place in the queue."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import Forbidden, NoWorker
from core.job import GenerationRequest, Job, Lane, NewJob, Priority
from core.job_store import JobStore, Submitted
from core.look import Look
from core.model_profile import ModelProfile, further_profiles, read_profile
from core.model_queues import worker_silence_seconds
from core.presets import Preset, find_preset
from core.settings import Settings
from scheduler.fingerprint import derive_seed, fingerprint_of
from scheduler.reuse import Reuse
from scheduler.tenants import Tenant

SEED_LIMIT = 1 << 32  # exclusive
#: One unit of work: four forwards of a 1024 x 1024 picture. Fair shares and ETAs are counted in it.
USUAL_PIXEL_FORWARDS = 1024 * 1024 * 4
DOUBLE_CLICK_SECONDS = 2.0
NO_WORKER_SECONDS = 120.0
NOBODY_KNOWS_SECONDS = 60  # until an operator has started a worker
LOOK_FOR_WORKERS_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller asks for, checked for form, before defaults. `seed` None = a fresh picture, never an old one."""

    prompt: str
    width: int
    height: int
    seed: int | None = None
    model: str = ""  # the id of a model of this service; "" = the default one
    preset: str = ""  # "" = the tenant's, else the service's
    lane: Lane = Lane.INTERACTIVE
    metadata: Mapping[str, Any] = field(default_factory=dict)
    batch_id: str = ""
    job_id: str = ""  # "" = a new one; a row of a list has its own, so that the list sent again is the same jobs
    idempotency_key: str = ""
    body_hash: str = ""
    repeat_key: str = ""  # a hash of the whole call, for a double click; "" = never merged
    priority: Priority = Priority.NORMAL
    webhook_url: str = ""
    base_url: str = ""  # as in core.job.NewJob
    retention_seconds: int = 0
    variation: str = ""


def work_of(width: int, height: int, preset: Preset) -> float:
    """How much work a picture is; 1 = a usual one."""
    return round(width * height * preset.forwards / USUAL_PIXEL_FORWARDS, 4)


class Submission:
    """The door into the queue. Thread-safe."""

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        profile: ModelProfile | None = None,
        reuse: Reuse | None = None,  # None: a finished picture is shared without a look at its object
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._profile = profile or read_profile(settings.model)
        self._reuse = reuse
        self._label = _label_of(settings)
        self._further = {one.id: one for one in further_profiles(settings)}
        self._clock, self._begun = clock, clock()
        self._workers_seen_until: dict[str, float] = {}  # model, as in NewJob.queue -> monotonic time

    @property
    def reuse(self) -> Reuse | None:
        """What looks for the objects of finished pictures."""
        return self._reuse

    def fingerprint_now(self, job: Job) -> str:
        """Of a job that is tried again: by today's model and label. "" where nobody chose its seed."""
        if not job.fingerprint:
            return ""
        revision = self._further.get(job.request.model, self._profile).revision
        return fingerprint_of(job.tenant, job.request, find_preset(job.request.preset), revision, self._label)

    def submit(self, tenant: Tenant, wish: Wish) -> Submitted:
        """Store one job; see `submit_many`."""
        return self.submit_many(tenant, [wish])[0]

    def submit_pictures(self, tenant: Tenant, wish: Wish, count: int) -> list[Submitted]:
        """Store `count` jobs of one wish, all or none, their seeds derived from the first; the key covers them all."""
        jobs = self._pictures(tenant, wish, count)
        self._check(tenant, jobs)
        return self._store.submit_many(jobs, tenant.limits)

    def submit_and_look(self, tenant: Tenant, wish: Wish, count: int) -> tuple[list[Submitted], Look]:
        """As `submit_pictures`; and how these jobs stand, for an answer that tells of them at once."""
        jobs = self._pictures(tenant, wish, count)
        self._check(tenant, jobs)
        return self._store.submit_and_look(jobs, tenant.limits)

    def _pictures(self, tenant: Tenant, wish: Wish, count: int) -> list[NewJob]:
        first = wish.seed if wish.seed is not None else draw_seed()
        return [
            self._job(
                tenant,
                wish,
                derive_seed(first, index),
                idempotency_key=_numbered(wish.idempotency_key, index),
                repeat_key=_numbered(wish.repeat_key, index),
            )
            for index in range(count)
        ]

    def submit_many(
        self, tenant: Tenant, wishes: Sequence[Wish], before_next: Callable[[], None] = lambda: None
    ) -> list[Submitted]:
        """Store a job for each wish, all or none, in their order.

        Raises Forbidden (a lane that is not the tenant's), IdempotencyMismatch, RateLimited, QuotaExceeded, QueueFull,
        Overloaded, NoWorker or RedisUnavailable; then nothing was stored and nothing charged, except that a list of
        more than core.long_list.ROWS_AT_ONCE may be stored in part at RedisUnavailable, or at what `before_next` raises
        (JobStore.submit_many): the same call stores the rest.
        """
        jobs = [
            self._job(
                tenant,
                wish,
                draw_seed() if wish.seed is None else wish.seed,
                idempotency_key=wish.idempotency_key,
                repeat_key=wish.repeat_key,
            )
            for wish in wishes
        ]
        self._check(tenant, jobs)
        return self._store.submit_many(jobs, tenant.limits, before_next)

    def _check(self, tenant: Tenant, jobs: Sequence[NewJob]) -> None:
        try:
            self._require_way(tenant, jobs)
        except (Forbidden, NoWorker):
            if not self._store.has_stored(jobs):  # what was taken before is answered as it was then
                raise
        if self._reuse is not None:
            self._reuse.check(jobs)

    def _require_way(self, tenant: Tenant, jobs: Sequence[NewJob]) -> None:
        """Refuse new work that could not be drawn."""
        for job in jobs:
            if job.lane not in tenant.lanes:
                raise Forbidden(f"This key may not use the {job.lane.value} lane.")
        for queue in {job.queue for job in jobs}:
            self._require_worker(queue)

    def _job(self, tenant: Tenant, wish: Wish, seed: int, *, idempotency_key: str, repeat_key: str) -> NewJob:
        profile = self._further.get(wish.model, self._profile)
        preset = find_preset(wish.preset or tenant.preset or self._settings.preset)
        request = GenerationRequest(
            prompt=wish.prompt,
            width=wish.width,
            height=wish.height,
            seed=seed,
            preset=preset.name,
            model=profile.id,
            variation=wish.variation,
        )
        is_batch = wish.lane is Lane.BATCH
        deadline = self._settings.batch_deadline_seconds if is_batch else self._settings.interactive_deadline_seconds
        explicit = wish.seed is not None
        return NewJob(
            id=wish.job_id or secrets.token_hex(16),
            tenant=tenant.name,
            lane=wish.lane,
            request=request,
            fingerprint=fingerprint_of(tenant.name, request, preset, profile.revision, self._label) if explicit else "",
            idempotency_key=idempotency_key,
            body_hash=wish.body_hash,
            repeat_key=repeat_key,
            repeat_seconds=DOUBLE_CLICK_SECONDS,
            cost_units=1,
            work=work_of(wish.width, wish.height, preset),
            deadline_seconds=deadline,
            max_attempts=self._settings.max_attempts,
            priority=wish.priority,
            webhook_url=wish.webhook_url,
            base_url=wish.base_url,
            batch_id=wish.batch_id,
            metadata=wish.metadata,
            retention_seconds=wish.retention_seconds,
            queue=profile.id if profile.id in self._further else "",
        )

    def _require_worker(self, queue: str) -> None:
        """Refuse where workers are required and the model's last was heard of long ago.

        After a start of the service, or of Redis, workers get as long to be heard of.
        """
        now = self._clock()
        if self._settings.min_workers < 1 or now < self._workers_seen_until.get(queue, 0.0):
            return
        if min(worker_silence_seconds(self._store.redis, queue), now - self._begun) > NO_WORKER_SECONDS:
            raise NoWorker(
                "No worker of this model has been alive for two minutes; the operator must start one.",
                retry_after_seconds=NOBODY_KNOWS_SECONDS,
            )
        self._workers_seen_until[queue] = now + LOOK_FOR_WORKERS_SECONDS


def _label_of(settings: Settings) -> str:
    """What GB 45438-2025 has this service write into each picture; "" where it is not asked to."""
    if settings.aigc_label == "on":
        return f"visible, {settings.aigc_producer}"
    return settings.aigc_producer and f"implicit, {settings.aigc_producer}"


def _numbered(key: str, index: int) -> str:
    """The key of the `index`-th picture of one call: none that a client's own key can be."""
    own = key.replace("#", "##")
    return f"{own}#{index}" if key and index else own


def draw_seed() -> int:
    """A seed for a caller who gave none."""
    return secrets.randbelow(SEED_LIMIT)
