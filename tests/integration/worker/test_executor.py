"""One job through the executor, with everything real around it."""

import hashlib
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from core.image_store import ImageStore, object_key
from core.job import JobState
from core.job_store import JobStore, WorkerInfo
from core.redis_client import connect
from tests.integration.worker.conftest import new_job, wait_until
from worker.heartbeat import Heartbeat
from worker.lease_keeper import HeldLease
from worker.offload import CarouselEnded


class CountingEngine:
    """Passes on to a real engine, counts, and lets a test hold or spoil a ride."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.submits = 0
        self.refreshed = 0
        self.errors: list[Exception] = []
        self.spoilt = 0
        self.first_step = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def refresh(self) -> None:
        self.refreshed += 1

    def submit(self, *, on_step, **order):
        self.submits += 1
        if self.errors:
            raise self.errors.pop(0)

        def seen_on_step(stage, step, steps):
            on_step(stage, step, steps)
            self.first_step.set()

        ticket = HeldTicket(self._engine.submit(on_step=seen_on_step, **order), self.go_on)
        if self.spoilt:
            self.spoilt -= 1
            return SpoiltTicket(ticket)
        return ticket


class HeldTicket:
    """A ticket whose picture is handed out only when the test says so."""

    def __init__(self, ticket, go_on: threading.Event) -> None:
        self._ticket, self._go_on = ticket, go_on

    @property
    def finite(self) -> bool:
        return self._ticket.finite

    def result(self, timeout=None):
        assert self._go_on.wait(30)
        return self._ticket.result(timeout)

    def cancel(self) -> None:
        self._ticket.cancel()


class SpoiltTicket:
    """A ticket whose picture comes out black, as after an overflow."""

    def __init__(self, ticket) -> None:
        self._ticket = ticket
        self.finite = True

    def result(self, timeout=None):
        return Image.new("RGB", self._ticket.result(timeout).size)

    def cancel(self) -> None:
        self._ticket.cancel()


@pytest.fixture
def counted(bench):
    """The bench with a counting engine."""
    return bench.remade(engine=CountingEngine(bench.parts.engine))


def in_thread(function, *args) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def test_a_released_job_ends_succeeded_with_its_picture_in_the_bucket(bench):
    release = bench.submit(new_job(prompt="霓虹灯+暗夜雨景", size=256))

    job = bench.execute(release)

    png = bench.png(job)
    assert job.state is JobState.SUCCEEDED
    assert job.picture.sha256 == hashlib.sha256(png).hexdigest()
    assert job.picture.size_bytes == len(png)
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (256, 256)
        assert image.text["prompt"] == "霓虹灯+暗夜雨景"
        assert image.text["seed"] == "1"


def test_each_stage_of_a_picture_is_measured(bench):
    bench.execute(bench.submit(new_job(size=256)))

    stages = bench.store.tallies().stages

    assert sorted(stages) == ["decode", "denoise", "png", "queue", "text", "upload"]
    assert {times.up_to[-1] for times in stages.values()} == {1}
    assert stages["denoise"].seconds > 0


def test_the_same_request_and_seed_give_the_same_bytes_whoever_rides_along(bench):
    lonely = bench.png(bench.execute(bench.submit()))
    twin, other = bench.submit(new_job()), bench.submit(new_job(prompt="a blue cat", seed=9, size=320))

    with ThreadPoolExecutor(2) as pool:
        twin_job, other_job = pool.map(bench.execute, (twin, other))

    assert bench.png(twin_job) == lonely
    assert bench.png(other_job) != lonely


def test_a_duplicate_message_is_nothing(counted):
    release = counted.submit()
    counted.execute(release)

    counted.execute(release)

    assert counted.parts.engine.submits == 1


def test_a_message_of_an_unknown_job_is_nothing(counted):
    counted.executor.execute("f" * 32, 1)

    assert counted.parts.engine.submits == 0


def test_a_picture_that_an_earlier_run_stored_is_not_drawn_again(counted):
    job = new_job()
    release = counted.submit(job)
    stored = counted.job(job.id)
    png = b"what the first worker stored before it left"
    sha256 = hashlib.sha256(png).hexdigest()
    assert counted.store.claim(job.id, release.epoch, "first", "another worker")
    counted.images.put(object_key("acme", job.id, stored.created_ms), png, sha256)
    assert counted.store.give_back(job.id, "first")
    [again] = counted.store.release(1)

    ended = counted.execute(again)

    assert counted.parts.engine.submits == 0
    assert (ended.state, ended.picture.sha256) == (JobState.SUCCEEDED, sha256)


class AskedStore(ImageStore):
    """Counts the looks for what an earlier run stored."""

    heads = 0

    def head(self, key):
        self.heads += 1
        return super().head(key)


def test_a_first_run_does_not_wait_for_the_storage_before_it_draws(bench, settings):
    """There is nothing of an earlier run; asking took some milliseconds of each picture."""
    asked = AskedStore(settings)
    looking = bench.remade(images=asked)

    ended = looking.execute(looking.submit())

    assert ended.state is JobState.SUCCEEDED
    assert asked.heads == 0


def test_a_picture_stored_by_another_run_meanwhile_is_the_one_recorded(counted):
    job = new_job()
    release = counted.submit(job)
    counted.parts.engine.go_on.clear()
    thread = in_thread(counted.execute, release)
    assert counted.parts.engine.first_step.wait(30)
    png = b"the other run was faster"
    counted.images.put(object_key("acme", job.id, counted.job(job.id).created_ms), png, hashlib.sha256(png).hexdigest())

    counted.parts.engine.go_on.set()
    thread.join(60)

    assert counted.job(job.id).picture.sha256 == hashlib.sha256(png).hexdigest()
    assert counted.png(counted.job(job.id)) == png


def test_a_cancel_in_the_middle_ends_the_ride_and_stores_nothing(counted):
    release = counted.submit()
    engine = counted.parts.engine
    engine.go_on.clear()
    thread = in_thread(counted.execute, release)
    assert engine.first_step.wait(30)

    counted.store.cancel(release.job_id)
    counted.parts.keeper.renew_all()
    engine.go_on.set()
    thread.join(60)

    job = counted.job(release.job_id)
    assert job.state is JobState.CANCELED
    assert counted.images.head(object_key("acme", job.id, job.created_ms)) is None
    wait_until(lambda: engine.in_flight == 0)


def test_a_lost_lease_drops_the_work_and_the_other_run_ends_the_job(counted):
    release = counted.submit()
    engine = counted.parts.engine
    engine.go_on.clear()
    thread = in_thread(counted.execute, release)
    assert engine.first_step.wait(30)
    lost = counted.store.get(release.job_id)

    token = counted.store.redis.hget(f"{{zimg}}:job:{lost.id}", "token")
    assert counted.store.give_back(lost.id, token)
    counted.parts.keeper.renew_all()
    engine.go_on.set()
    thread.join(60)

    assert counted.job(lost.id).state is JobState.QUEUED
    [again] = counted.store.release(1)
    assert counted.execute(again).state is JobState.SUCCEEDED


def test_progress_is_the_engines_own(counted):
    release = counted.submit()
    engine = counted.parts.engine
    engine.go_on.clear()
    thread = in_thread(counted.execute, release)

    progress = wait_until(lambda: counted.job(release.job_id).progress)

    assert progress.steps == 4
    assert progress.stage in {"encode", "denoise", "decode"}
    engine.go_on.set()
    thread.join(60)


def test_an_exception_of_the_engine_lets_the_job_be_tried_again(counted):
    release = counted.submit()
    counted.parts.engine.errors.append(RuntimeError("something broke"))

    job = counted.execute(release)

    assert job.state is JobState.RETRY
    assert job.failure.code == "engine_failed"


def test_after_a_black_picture_the_weights_are_refreshed_and_the_retry_is_taken(counted):
    release = counted.submit()
    counted.parts.engine.spoilt = 1

    job = counted.execute(release)

    assert job.state is JobState.SUCCEEDED
    assert counted.parts.engine.refreshed == 1
    assert counted.parts.counts["black_images"] == 1


def test_two_black_pictures_are_a_black_image_and_nothing_is_stored(counted):
    release = counted.submit()
    counted.parts.engine.spoilt = 2

    job = counted.execute(release)

    assert (job.state, job.failure.code) == (JobState.RETRY, "black_image")
    assert counted.images.head(object_key("acme", job.id, job.created_ms)) is None


def test_after_an_out_of_memory_error_room_is_made_and_the_ride_repeated(counted):
    rooms: list[float] = []
    begun = time.monotonic()
    made = counted.remade(make_room=lambda since: rooms.append(since) or True)
    release = made.submit()
    made.parts.engine.errors.append(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))

    job = made.execute(release)

    assert job.state is JobState.SUCCEEDED
    assert len(rooms) == 1
    assert rooms[0] >= begun, "when the ride began"


def test_without_room_the_job_waits_for_another_try(counted):
    release = counted.submit()
    counted.parts.engine.errors.append(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))

    job = counted.execute(release)

    assert (job.state, job.failure.code) == (JobState.RETRY, "out_of_memory")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            "the CUDA context is lost: RuntimeError",
        ),
        (CarouselEnded("the carousel ended: RuntimeError: no such block"), "no such block"),
        (CarouselEnded("the carousel ended: RuntimeError: CUDA error: out of memory"), "the carousel ended"),
    ],
    ids=["lost context", "ended engine", "ended for want of memory"],
)
def test_what_only_a_new_process_helps_against_ends_this_one_with_its_reason(counted, error, told):
    release = counted.submit()
    counted.parts.engine.errors.append(error)

    counted.execute(release)

    [(code, reason)] = counted.exits
    assert code == 71
    assert told in reason


class Panic(BaseException):
    """As a panic of Rust's in a tokenizer: no Exception."""


def test_what_is_no_exception_ends_the_job_and_its_lease_too(counted):
    """The lease was renewed for as long as the worker lived, with nobody at work."""
    release = counted.submit()
    counted.parts.engine.errors.append(Panic("index out of bounds"))

    job = counted.execute(release)

    assert job.failure.code == "engine_failed"
    assert counted.parts.keeper.count == 0


def test_a_worker_whose_lease_was_not_renewed_in_time_stores_nothing(bench, settings):
    job = new_job()
    bench.submit(job)
    [lease] = [bench.store.claim(job.id, bench.job(job.id).epoch, "t" * 32, "frozen")]

    held = HeldLease(
        lease, settings.lease_seconds, time.monotonic() - settings.lease_seconds - 1
    )  # and no keeper renews
    outcome = bench.executor._outcome(lease, lambda: bench.executor._make(held, is_first=True))

    assert type(outcome).__name__ == "LeaseLost"
    assert bench.images.head(object_key("acme", job.id, bench.job(job.id).created_ms)) is None


def test_a_drain_gives_back_what_does_not_finish_in_time_without_costing_an_attempt(counted):
    release = counted.submit()
    engine = counted.parts.engine
    engine.go_on.clear()
    thread = in_thread(counted.execute, release)
    assert engine.first_step.wait(30)

    drain = in_thread(counted.executor.drain, 0.1)
    wait_until(lambda: counted.parts.keeper.is_stopping)
    engine.go_on.set()
    thread.join(30)
    drain.join(30)

    job = counted.job(release.job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


def test_a_job_whose_claim_is_in_the_air_when_a_drain_ends_is_given_back(counted):
    began, may_answer = threading.Event(), threading.Event()

    class SlowStore(JobStore):
        def claim(self, *given):
            lease = super().claim(*given)
            began.set()
            assert may_answer.wait(60)
            return lease

    here = counted.remade(store=SlowStore(connect(counted.settings.redis_url), counted.settings))
    release = here.submit()
    thread = threading.Thread(target=here.execute, args=(release,), daemon=True)
    thread.start()
    assert began.wait(60)
    here.executor.drain(0.0)

    may_answer.set()
    thread.join(60)

    job = here.job(release.job_id)
    assert (job.state, job.attempt, job.alone) == (JobState.QUEUED, 0, False)
    assert here.parts.engine.submits == 0


def test_a_worker_that_is_stopped_before_it_beats_says_goodbye(bench):
    info = WorkerInfo(name="early", slots=1, started_ms=1)
    heartbeat = Heartbeat(bench.store, info, progress_file=bench.settings.data_dir / "p", slots=lambda: 1, gauges=dict)

    heartbeat.close()

    assert "early" not in {worker.name for worker in bench.store.live_workers()}


def test_a_drain_lets_a_job_finish_within_the_grace(counted):
    release = counted.submit()
    thread = in_thread(counted.execute, release)
    assert counted.parts.engine.first_step.wait(30)

    counted.executor.drain(60)

    thread.join(30)
    assert counted.job(release.job_id).state is JobState.SUCCEEDED
