"""A worker's parts in this process, and whole worker processes, on a real Valkey, a real S3 and the tiny model."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from core.broker import make_celery, publish
from core.image_store import ImageStore
from core.job import GenerationRequest, Job, Lane, NewJob, Release
from core.job_store import JobStore, TenantLimits, WorkerInfo
from core.redis_client import connect
from core.settings import GIB, Settings
from models import tiny
from tests.fixtures.redis import RedisServer
from tests.warm_python import WarmProcess, WarmPython, warm_python
from worker.executor import Executor, Parts
from worker.lease_keeper import LeaseKeeper
from worker.pipeline import LoadedModel, load_model, make_engine
from worker.progress import ProgressReporter
from worker.shelf import Room, Shelf
from worker.spool import Spool

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 90.0
LIMITS = TenantLimits(
    daily_units=100_000, burst_per_second=1000, burst=10_000, queued_jobs=10_000, running_jobs=1_000, weight=1.0
)


def wait_until(check: Callable[[], Any], *, seconds: float = WAIT_SECONDS, why: Callable[[], str] = str) -> Any:
    """The first true answer of `check`; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {seconds} s. {why()}")


def new_job(prompt: str = "a red mug", seed: int = 1, size: int = 256, preset: str = "turbo") -> NewJob:
    request = GenerationRequest(prompt=prompt, width=size, height=size, seed=seed, preset=preset, model="zimg-tiny")
    return NewJob(id=secrets.token_hex(16), tenant="acme", lane=Lane.INTERACTIVE, request=request)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.save(folder)
    return folder


@pytest.fixture
def settings(
    tiny_model: Path,
    valkey: redis.Redis,
    valkey_server: RedisServer,
    s3_environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Settings:
    """Settings on empty servers."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return Settings(
        model=str(tiny_model),
        device="cpu",
        cpu_dtype="float32",
        redis_url=valkey_server.url,
        s3_endpoint_url=s3_environment["S3_ENDPOINT_URL"],
        data_dir=tmp_path,
        log_dir=str(tmp_path),
        lease_seconds=12.0,  # tests end one by its score: none runs out while a busy machine stands still
        concurrency=2,
    )


@pytest.fixture(scope="session")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(Settings(model=str(tiny_model), device="cpu", cpu_dtype="float32"))


@pytest.fixture(scope="session", params=["plain", "carousel"])
def engine(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Any]:
    """Either engine: what the worker promises holds on both."""
    settings = Settings(model=str(tiny_model), device="cpu", cpu_dtype="float32", engine=request.param, concurrency=2)
    made = make_engine(settings, load_model(settings))
    yield made
    made.close()


@dataclass
class Bench:
    """An executor and what it works with, driven by hand: no Celery, no scheduler."""

    settings: Settings
    store: JobStore
    images: ImageStore
    parts: Parts
    executor: Executor
    exits: list[tuple[int, str]] = field(default_factory=list)

    def submit(self, job: NewJob | None = None) -> Release:
        """Submit and release one job."""
        job = job or new_job()
        self.store.submit(job, LIMITS)
        self.alive()
        [release] = self.store.release(1)
        assert release.job_id == job.id
        return release

    def alive(self) -> None:
        self.store.heartbeat(WorkerInfo(name=self.parts.worker, slots=8, started_ms=1))

    def execute(self, release: Release) -> Job:
        self.executor.execute(release.job_id, release.epoch)
        return self.job(release.job_id)

    def job(self, job_id: str) -> Job:
        found = self.store.get(job_id)
        assert found is not None
        return found

    def png(self, job: Job) -> bytes:
        assert job.picture is not None
        with self.images.open(job.picture.key) as stream:
            return stream.read()

    def remade(self, **changes: Any) -> Bench:
        """The same bench with other parts."""
        parts = replace(self.parts, **changes)
        return Bench(self.settings, self.store, self.images, parts, Executor(parts), self.exits)


@pytest.fixture
def bench(settings: Settings, engine: Any, model: LoadedModel, tmp_path: Path) -> Iterator[Bench]:
    def new_store() -> JobStore:
        return JobStore(connect(settings.redis_url), settings)

    images = ImageStore(settings)
    images.ensure_bucket()
    keeper = LeaseKeeper(new_store(), settings.lease_seconds)
    reporter = ProgressReporter(new_store(), period_seconds=0.01)
    exits: list[tuple[int, str]] = []
    spool = Spool(tmp_path / "spool")
    shelf = Shelf(images, spool, Room(folder=tmp_path, most_bytes=GIB, free_disk_bytes=0), wait_seconds=30.0)
    parts = Parts(
        store=new_store(),
        images=images,
        engine=engine,
        keeper=keeper,
        reporter=reporter,
        spool=spool,
        shelf=shelf,
        profile=model.profile,
        worker="bench",
        exit=lambda code, reason: exits.append((code, reason)),
    )
    keeper.start()
    reporter.start()
    shelf.start()
    yield Bench(settings, new_store(), images, parts, Executor(parts), exits)
    shelf.close()
    reporter.close()
    keeper.close()


@dataclass
class WorkerFleet:
    """Worker and scheduler processes, as in production; all gone after `close`."""

    settings: Settings
    environ: Mapping[str, str]
    folder: Path
    python: WarmPython
    processes: list[subprocess.Popen[bytes] | WarmProcess] = field(default_factory=list)

    @property
    def store(self) -> JobStore:
        return JobStore(connect(self.settings.redis_url), self.settings)

    def start_worker(self, **more: str) -> WarmProcess:
        """Returns when it has said ready."""
        store = self.store
        before = self._names(store)  # a killed worker counts as live for a while
        log = self.folder / f"worker{len(self.processes)}.log"
        process = self.python.start("worker", {**os.environ, **self.environ, **more}, log)
        self.processes.append(process)
        wait_until(lambda: self._names(store) - before or process.poll() is not None, why=self.logs, seconds=120)
        assert process.poll() is None, self.logs()
        return process

    @staticmethod
    def _names(store: JobStore) -> set[str]:
        return {worker.name for worker in store.live_workers()}

    def start_scheduler(self) -> None:
        environ = {**os.environ, **self.environ}
        self.processes.append(self.python.start("scheduler", environ, self.folder / "scheduler.log"))

    def send(self, releases: Sequence[Release]) -> None:
        """Publish messages without a scheduler."""
        assert publish(make_celery(self.settings), releases) == len(releases)

    def await_ends(self, ids: Sequence[str]) -> list[Job]:
        def ended() -> list[Job]:
            jobs = [job for job in self.store.get_many(ids) if job is not None]
            return jobs if all(job.state.is_terminal for job in jobs) else []

        return wait_until(ended, why=self.logs)

    def logs(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(timeout=60)

    def _start(self, command: list[str], log: str, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        environ = {**os.environ, **self.environ, **more}
        with (self.folder / log).open("ab") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out)
        self.processes.append(process)
        return process


@pytest.fixture(scope="session")
def python() -> Iterator[WarmPython]:
    with warm_python() as started:
        yield started


@pytest.fixture
def fleet(
    settings: Settings, s3_environment: Mapping[str, str], tmp_path: Path, python: WarmPython
) -> Iterator[WorkerFleet]:
    environ = {
        **s3_environment,
        "ZIMG_MODEL": settings.model,
        "ZIMG_DEVICE": "cpu",
        "ZIMG_CPU_DTYPE": "float32",
        "ZIMG_LEASE_SECONDS": "3",
        "ZIMG_CLAIM_SECONDS": "5",  # messages that a killed worker had taken are sent again soon
        "ZIMG_CONCURRENCY": "2",
        "ZIMG_DRAIN_SECONDS": "8",
        "ZIMG_DATA_DIR": str(tmp_path),
        "ZIMG_LOG_DIR": str(tmp_path),
        "REDIS_URL": settings.redis_url,
    }
    made = WorkerFleet(settings, environ, tmp_path, python)
    yield made
    made.close()
