"""Carries one job: claim, draw, encode, upload, complete. Nothing raised here ever reaches Celery."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from core.errors import (
    BlackImage,
    EngineFailure,
    JobFailure,
    LeaseLost,
    OutOfMemory,
    RedisUnavailable,
    StorageFailure,
    StorageUnavailable,
)
from core.image_store import ImageStore, Stored, object_key
from core.job import Failure, GenerationRequest, Lease, Picture
from core.job_store import JobStore
from core.logs import get_logger, log_request
from core.model_profile import ModelProfile
from core.presets import find_preset
from core.redis_client import call
from worker.guards import Trouble, classify, judge
from worker.lease_keeper import GivenBack, HeldLease, LeaseKeeper
from worker.offload import CarouselEnded, TicketCanceled
from worker.pipeline import Engine
from worker.png import NO_MARKING, EncodedPicture, Marking, encode_png
from worker.progress import ProgressReporter
from worker.seats import Seats
from worker.shelf import Shelf
from worker.spool import Spool
from worker.watchdog import EXIT_STICKY

#: Redis may be away for a while at the end of a run: the picture is stored already and only has to be told.
CLAIM_TRIES, END_TRIES = 5, 20
#: A job rides at most so long; the watchdog notices an engine that stands still much sooner.
RIDE_SECONDS = 3_600.0
#: A job's first release; what comes back for any reason is released again, under the next.
FIRST_EPOCH = 1
GIVE_BACK_SECONDS = 1.5

log = get_logger(__name__)


class Left(Exception):
    """Raised inside the executor for a picture that waits on the shelf; its job ends there."""


Outcome = Picture | Failure | GivenBack | LeaseLost | Left


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What an executor works with; `exit` ends the process with a code and a reason."""

    store: JobStore
    images: ImageStore
    engine: Engine
    keeper: LeaseKeeper
    reporter: ProgressReporter
    spool: Spool
    shelf: Shelf
    profile: ModelProfile
    worker: str
    exit: Callable[[int, str], None]
    #: After an out-of-memory error of a ride begun at that time.monotonic(): True if another try makes sense.
    make_room: Callable[[float], bool] = lambda _since: False
    marking: Marking = NO_MARKING
    on_refused: Callable[[], None] = lambda: None  # a claim was in vain, maybe since an operator paused this worker
    queue: str = ""  # of the model that this worker draws with, as in NewJob
    counts: Counter[str] = field(default_factory=Counter)  # black_images, out_of_memory, drawn


class Executor:
    """One per process; any number of threads call `execute`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seats = Seats(parts.store, parts.worker)
        self._draining = threading.Event()

    @property
    def is_draining(self) -> bool:
        """No further job is begun."""
        return self._draining.is_set()

    def execute(self, job_id: str, epoch: int | None) -> None:
        """Run a released job; a duplicate, stale or canceled message is silently nothing."""
        taken_at, token = time.monotonic(), secrets.token_hex(16)
        parts = self._parts
        try:
            lease = call(lambda: parts.store.claim(job_id, epoch, token, parts.worker, parts.queue), tries=CLAIM_TRIES)
        except RedisUnavailable:
            return  # claimed or not: nobody works on it here, so the reaper will queue it again
        except Exception:
            log.exception("claim failed", action="claim", job_id=job_id)
            return
        if lease is not None:
            self._run(lease, taken_at, is_first=epoch == FIRST_EPOCH)
        else:
            parts.on_refused()

    def drain(self, grace_seconds: float) -> None:
        """Begin nothing more; give back what does not finish within the grace. Returns when no lease is held."""
        self._draining.set()
        self._wait_until_idle(grace_seconds)
        self._parts.keeper.stop_all(GivenBack())
        self._wait_until_idle(GIVE_BACK_SECONDS)

    def _wait_until_idle(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._parts.keeper.count and time.monotonic() < deadline:
            time.sleep(0.05)

    def _run(self, lease: Lease, taken_at: float, *, is_first: bool) -> None:
        held = self._parts.keeper.take(lease, taken_at)
        outcome = self._outcome(lease, lambda: self._make(held, is_first=is_first))
        if isinstance(outcome, Left):
            held.asks_seldom = True
            self._shelve(lease)
        else:
            self._finish(held, outcome)
        log_request(request_id=lease.job_id, seconds=time.monotonic() - taken_at)

    def _shelve(self, lease: Lease) -> None:
        """Free the seat. The lease goes on, and the shelf ends the job."""
        try:
            call(lambda: self._parts.store.shelve(lease.job_id, lease.token), tries=END_TRIES)
        except RedisUnavailable:
            log.warning("Redis is away; a waiting picture keeps its seat", action="shelve", job_id=lease.job_id)

    def _end_shelved(self, held: HeldLease, how: Stored | Exception) -> None:
        """The shelf's answer, in one of its threads."""

        def picture() -> Picture:
            if isinstance(how, Exception):
                raise how
            held.clock.uploaded()
            return self._picture(held.lease, how)

        self._finish(held, self._outcome(held.lease, picture))

    def _finish(self, held: HeldLease, outcome: Outcome) -> None:
        try:
            self._end(held, outcome)
        except Exception:
            log.exception("a job's end could not be told", action="end", job_id=held.lease.job_id)
        finally:
            self._parts.keeper.drop(held)
            self._parts.reporter.forget(held.lease)

    def _outcome(self, lease: Lease, make: Callable[[], Picture]) -> Outcome:
        """How it went, as a value."""
        try:
            return make()
        except (GivenBack, LeaseLost, Left) as dropped:
            return dropped
        except JobFailure as failure:
            return failure.as_failure()
        except StorageUnavailable as error:
            return StorageFailure(str(error)).as_failure()
        except BaseException as error:  # Rust's panics are no Exceptions; a lease that nobody ends is renewed for ever
            return self._unforeseen(lease, error)

    def _unforeseen(self, lease: Lease, error: BaseException) -> Failure:
        log.exception("a job failed", action="run", job_id=lease.job_id, error=type(error).__name__)
        if classify(error) is Trouble.STICKY:
            lost = f"the CUDA context is lost: {type(error).__name__}"
            self._parts.exit(EXIT_STICKY, str(error) if isinstance(error, CarouselEnded) else lost)
        return EngineFailure(f"The pipeline failed ({type(error).__name__}).").as_failure()

    def _end(self, held: HeldLease, outcome: Outcome) -> None:
        """Tell Redis; where that is in vain, the lease runs out and the reaper decides."""
        store, lease = self._parts.store, held.lease
        job_id, token = lease.job_id, lease.token
        if isinstance(outcome, LeaseLost | Left):
            return
        try:
            if isinstance(outcome, Picture):
                told = call(lambda: store.complete(job_id, token, outcome, held.clock.seconds()), tries=END_TRIES)
                if told:
                    self._parts.spool.drop(job_id)
                else:
                    log.warning("a late picture was refused", action="complete", job_id=job_id)
                    self._parts.spool.sweep()  # of ended jobs: a later run of this one may count on the file
            elif isinstance(outcome, GivenBack):
                call(lambda: store.give_back(job_id, token), tries=CLAIM_TRIES)
            else:
                state = call(lambda: store.fail(job_id, token, outcome), tries=END_TRIES)
                if state is not None and state.is_terminal:
                    self._parts.spool.drop(job_id)
        except RedisUnavailable:
            log.warning("Redis is away at a job's end; its lease will run out", action="end", job_id=job_id)

    def _make(self, held: HeldLease, *, is_first: bool) -> Picture:
        """Draw and store, unless an earlier run stored already. Raises Left where the storage takes its time."""
        lease = held.lease
        key = object_key(lease.tenant, lease.job_id, lease.created_ms)
        picture = self._parts.spool.find(lease.job_id)
        if picture is None:
            stored = None if is_first else self._already_stored(lease, key)
            if stored is not None:
                return self._picture(lease, stored)
            with self._seats.taken(held):
                picture = self._draw(held)
        held.check()
        steps = find_preset(lease.request.preset).forwards
        self._parts.reporter.for_job(lease)("upload", steps, steps)
        held.clock.upload_begins()
        stored = self._parts.shelf.store(held, key, picture, self._end_shelved)
        if stored is None:
            raise Left
        held.clock.uploaded()
        return self._picture(lease, stored)

    def _picture(self, lease: Lease, stored: Stored) -> Picture:
        key = object_key(lease.tenant, lease.job_id, lease.created_ms)
        return Picture(
            key=key,
            sha256=stored.sha256 or self._hash_of(key),
            width=lease.request.width,
            height=lease.request.height,
            size_bytes=stored.size_bytes,
        )

    def _already_stored(self, lease: Lease, key: str) -> Stored | None:
        """What an earlier run of this job stored. A storage that is away is asked again at the upload."""
        if lease.attempt == 1 and self._parts.shelf.is_behind:
            return None  # most likely nothing, and asking could keep a seat empty
        try:
            return self._parts.images.head(key)
        except (StorageUnavailable, StorageFailure):
            return None

    def _hash_of(self, key: str) -> str:
        """The hash of an object that lost its metadata, from its bytes."""
        with self._parts.images.open(key) as stream:
            return hashlib.sha256(stream.read()).hexdigest()

    def _draw(self, held: HeldLease) -> EncodedPicture:
        """A good picture, encoded; one clean retry after a spoilt one. Raises BlackImage after the second."""
        request = held.lease.request
        for attempt in (1, 2):
            image, finite = self._ride_with_room(held)
            verdict = judge(image, finite=finite)
            if verdict.is_good:
                self._parts.counts["drawn"] += 1
                return encode_png(image, request, self._parts.profile, marking=self._parts.marking)
            self._parts.counts["black_images"] += 1
            log.error("black image", action="guard", job_id=held.lease.job_id, reason=verdict.reason, attempt=attempt)
            self._refresh()
        raise BlackImage("The picture came out black or flat twice; another seed may do better.")

    def _refresh(self) -> None:
        """Engines that carry weights upload the resident ones again, in case those were spoilt."""
        refresh = getattr(self._parts.engine, "refresh", None)
        if refresh is not None:
            refresh()

    def _ride_with_room(self, held: HeldLease) -> tuple[Image.Image, bool]:
        """One ride; after an out-of-memory error one more, if room could be made."""
        asked_at = time.monotonic()
        try:
            return self._ride(held)
        except Exception as error:
            if classify(error) is not Trouble.MEMORY:
                raise
            self._parts.counts["out_of_memory"] += 1
            log.error("out of memory", action="guard", job_id=held.lease.job_id)
        failure = OutOfMemory("The card had no room for this picture.")
        if not self._parts.make_room(max(held.clock.begun or 0.0, asked_at)):
            raise failure
        try:
            return self._ride(held)
        except Exception as error:
            if classify(error) is Trouble.MEMORY:
                raise failure from error
            raise

    def _ride(self, held: HeldLease) -> tuple[Image.Image, bool]:
        lease, request = held.lease, held.lease.request
        held.check()
        on_step = held.clock.listening(self._parts.reporter.for_job(lease))
        try:
            ticket = self._parts.engine.submit(**_order(request), lane=lease.lane.value, alone=lease.alone,
                                               on_step=on_step)  # fmt: skip
            held.when_stopped(ticket.cancel)
            image = ticket.result(timeout=RIDE_SECONDS)
            held.clock.drawn()
        except TicketCanceled:
            held.check()
            raise EngineFailure("The engine was closed.") from None
        except TimeoutError:
            ticket.cancel()
            raise EngineFailure(f"No picture within {RIDE_SECONDS:.0f} s.") from None
        return image, ticket.finite


def _order(request: GenerationRequest) -> dict[str, Any]:
    preset = find_preset(request.preset)
    return {
        "prompt": request.prompt,
        "height": request.height,
        "width": request.width,
        "seed": request.seed,
        "steps": preset.forwards,
        "guidance_scale": preset.guidance_scale,
    }
