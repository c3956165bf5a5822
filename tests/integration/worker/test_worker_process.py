"""Whole worker processes: started, killed, stopped, and given every message twice."""

import gc
import hashlib
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.image_store import ImageStore
from core.job import JobState
from core.job_store import JobStore
from core.redis_client import PREFIX, connect
from core.settings import GIB
from tests.fixtures.stack import lives
from tests.integration.worker.conftest import LIMITS, new_job, wait_until
from worker.card import CardMemory
from worker.process import WorkerProcess, server_ms


def submit(store: JobStore, count: int, **job) -> list[str]:
    jobs = [new_job(seed=seed, **job) for seed in range(count)]
    return [one.job_id for one in store.submit_many(jobs, LIMITS)]


def is_running(store: JobStore, job_id: str) -> bool:
    return store.get(job_id).state is JobState.RUNNING


def charges(store: JobStore) -> list[str]:
    return [fields["job"] for _, fields in store.redis.xrange(f"{PREFIX}ledger") if fields["kind"] == "charge"]


def test_jobs_walk_the_whole_way_and_progress_is_told(fleet, settings):
    fleet.start_scheduler()
    fleet.start_worker()

    ids = submit(fleet.store, 6)

    jobs = fleet.await_ends(ids)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}, fleet.logs()
    images = ImageStore(settings)
    for job in jobs:
        with images.open(job.picture.key) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == job.picture.sha256
    assert len({job.picture.sha256 for job in jobs}) == 6
    assert sorted(charges(fleet.store)) == sorted(ids)


@pytest.fixture
def process(settings):
    """A worker in this process, to be started."""
    made = WorkerProcess(settings)
    yield made
    made.close()
    gc.enable()
    gc.unfreeze()


def test_a_worker_that_is_ready_collects_garbage_though_its_start_did_not(process):
    """`python -m worker` imports without collecting; without end, weeks of work would fill the memory."""
    gc.disable()

    process.start()

    assert gc.isenabled()
    assert gc.get_freeze_count(), "what was imported and loaded is looked through no more"


def test_a_workers_start_is_told_by_the_servers_clock(process, fleet, monkeypatch):
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)

    process.start()

    wait_until(fleet.store.live_workers)
    (worker,) = fleet.store.live_workers()
    assert abs(worker.started_ms // 1000 - int(fleet.store.redis.time()[0])) < 300


def test_a_worker_whose_card_stays_over_the_watermark_takes_nothing_in(process, monkeypatch):
    process.start()
    share = 0.95
    process._card = Card(lambda: share)
    guard = process._make_watermark()
    with monkeypatch.context() as patch:
        patch.setattr(process, "_watermark", guard)
        guard.sample(0.0)
        assert process.is_open

        guard.sample(61.0)
        assert not process.admits
        assert not process.is_open

        share = 0.5
        guard.sample(62.0)
        assert process.is_open


class Card:
    """A card of which others use as much as the test says."""

    def __init__(self, share):
        self._share = share

    def memory(self):
        return CardMemory(int(self._share() * 24 * GIB), 24 * GIB)


def test_a_worker_starts_while_redis_is_away_by_its_own_clock():
    assert abs(server_ms(connect("redis://127.0.0.1:1/0")) - time.time() * 1000) < 300_000


def test_jobs_of_a_killed_worker_are_drawn_by_another_and_charged_once(fleet):
    fleet.start_scheduler()
    first = fleet.start_worker()
    ids = submit(fleet.store, 4, size=512, preset="turbo-8")
    wait_until(lambda: fleet.store.get(ids[0]).attempt > 0, why=fleet.logs)

    first.kill()
    first.wait(60)
    fleet.start_worker()

    jobs = fleet.await_ends(ids)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}, fleet.logs()
    assert sorted(charges(fleet.store)) == sorted(ids)


def test_a_worker_that_dies_is_followed_by_a_fork_that_takes_its_jobs_over(fleet):
    fleet.start_scheduler()
    parent = fleet.start_worker()
    (worker,) = psutil.Process(parent.pid).children()
    ids = submit(fleet.store, 4, size=512, preset="turbo-8")
    wait_until(lambda: fleet.store.get(ids[0]).attempt > 0, why=fleet.logs)

    worker.kill()

    jobs = fleet.await_ends(ids)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}, fleet.logs()
    assert sorted(charges(fleet.store)) == sorted(ids)
    (follower,) = psutil.Process(parent.pid).children()
    assert follower.pid != worker.pid
    assert parent.poll() is None
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 0, fleet.logs()
    assert not follower.is_running()


def test_every_message_twice_draws_every_picture_once(fleet):
    fleet.start_worker()
    store = fleet.store
    ids = submit(store, 3)
    releases = []
    wait_until(lambda: releases.extend(store.release(3)) or len(releases) == 3, why=fleet.logs)

    fleet.send([*releases, *releases, *releases])

    jobs = fleet.await_ends(ids)
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    assert sorted(charges(store)) == sorted(ids)


def test_a_stopped_worker_finishes_what_it_can_and_leaves_no_lease_behind(fleet):
    fleet.start_scheduler()
    worker = fleet.start_worker()
    ids = submit(fleet.store, 3, size=512)
    wait_until(lambda: fleet.store.get(ids[0]).attempt > 0, why=fleet.logs)

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    code = worker.wait(60)

    assert code == 0, fleet.logs()
    assert time.monotonic() - begun < 20
    assert fleet.store.live_workers() == []
    assert all(not is_running(fleet.store, job_id) for job_id in ids)
    fleet.start_worker()
    assert {(job.state, job.crashes) for job in fleet.await_ends(ids)} == {(JobState.SUCCEEDED, 0)}


def test_a_worker_whose_grace_is_over_gives_its_jobs_back(fleet):
    fleet.start_scheduler()
    worker = fleet.start_worker(ZIMG_DRAIN_SECONDS="0.1")
    [job_id] = submit(fleet.store, 1, size=1024, preset="turbo-8")
    wait_until(lambda: is_running(fleet.store, job_id), why=fleet.logs)

    worker.send_signal(signal.SIGTERM)
    worker.wait(30)

    job = fleet.store.get(job_id)
    assert not job.state.is_terminal
    assert job.state is not JobState.RUNNING, fleet.logs()
    assert job.attempt == 0


def test_a_worker_says_what_it_is_and_touches_its_progress_file(fleet, settings):
    fleet.start_worker()

    [info] = fleet.store.live_workers()

    assert (info.slots, info.model, info.device) == (2, "zimg-tiny", "cpu")
    file = settings.data_dir / "worker.progress"
    stamp = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns != stamp, seconds=20)


def test_a_worker_that_starts_forgets_pictures_of_jobs_that_are_no_more(fleet, settings):
    [waiting] = submit(fleet.store, 1)
    spool = settings.data_dir / "spool"
    spool.mkdir()
    forgotten, kept = (spool / f"{job_id}.spooled" for job_id in ("0" * 32, waiting))
    for file in (forgotten, kept):
        file.write_bytes(b"a picture, its prompt inside")

    fleet.start_worker()

    wait_until(lambda: not forgotten.exists(), seconds=20, why=fleet.logs)
    assert kept.exists(), "its job still waits to be drawn"


def test_an_idle_worker_ends_at_once(fleet):
    worker = fleet.start_worker(ZIMG_DRAIN_SECONDS="90")
    process = psutil.Process(worker.pid)
    children = process.children(recursive=True)

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(120) == 0
    assert time.monotonic() - begun < 60, "it does not wait for what it would do with jobs"
    assert not [child for child in children if lives(child)]


def handles(process: psutil.Process, number: signal.Signals, how: str = "SigCgt") -> bool:
    """Whether the process has a handler of its own for that signal, or holds it (proc(5): SigCgt, SigBlk)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith(how)).split()[1], 16)
    return bool(caught & 1 << (number - 1))


@pytest.mark.parametrize("has_forked", [False, True], ids=["imports", "loads"])
def test_a_worker_stopped_while_it_still_begins_ends_soon_and_in_order(fleet, has_forked):
    worker = fleet._start([sys.executable, "-m", "worker"], "early.log", {})
    process = psutil.Process(worker.pid)
    if has_forked:
        wait_until(lambda: any(handles(child, signal.SIGTERM) for child in process.children()), why=fleet.logs)
    else:
        wait_until(lambda: handles(process, signal.SIGTERM, "SigBlk"), why=fleet.logs)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(120) == 0, fleet.logs()
    assert not fleet.store.live_workers()


def test_a_model_that_is_not_there_ends_the_start_with_a_sentence(fleet, tmp_path):
    worker = fleet._start([sys.executable, "-m", "worker"], "wrong.log", {"ZIMG_MODEL": str(tmp_path / "nothing")})

    assert worker.wait(90) == 78
    assert "ZIMG_MODEL" in (tmp_path / "wrong.log").read_text()


def test_a_setting_that_can_not_work_ends_the_start_with_a_sentence(fleet, tmp_path):
    worker = fleet._start([sys.executable, "-m", "worker"], "wrong.log", {"ZIMG_WORKER_RESTARTS": "-1"})

    assert worker.wait(60) == 78
    assert (tmp_path / "wrong.log").read_text() == "zimg worker: ZIMG_WORKER_RESTARTS=-1: must be 0 or more\n"
