"""The api on a real Valkey and a real S3, and a worker played through the job store."""

from __future__ import annotations

import hashlib
import io
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis
from flask.testing import FlaskClient
from flask_openapi.openapi import OpenAPI
from PIL import Image

from api.app import create_app
from api.context import Services
from api.ops import service_registry
from api.parts import build_services
from core.image_store import BRIEF, ImageStore, object_key
from core.job import Failure, Lease, LeaseStatus, Picture, Progress
from core.job_store import JobStore
from core.redis_client import PREFIX
from core.settings import Settings
from core.workers import WorkerInfo
from tests.fixtures.redis import RedisServer, free_port
from tests.fixtures.warm import web_python
from tests.warm_python import WarmCommand, WarmProcess

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 60.0
START_SECONDS = 120.0  # one api serves a whole session of tests: a slow start must not fail them all
MODEL = "Tongyi-MAI/Z-Image-Turbo"  # the api reads its profile only


def eventually(check: Callable[[], object], *, seconds: float = WAIT_SECONDS) -> object:
    """The first true answer of `check`; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def use_up(parts: Services, tenant: str = "local") -> None:
    """As if the tenant had drawn its one picture of the day already."""
    parts.tenants.change(tenant, {"daily_units": 1})
    seconds, _ = parts.redis.time()  # type: ignore[misc]
    parts.redis.hset(f"{PREFIX}use:{tenant}:{datetime.fromtimestamp(seconds, UTC):%Y%m%d}", "used", 1)


def draw_png(width: int, height: int, seed: int) -> bytes:
    """A PNG that follows from its seed."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (width, height), tuple(rng.randrange(256) for _ in range(3)))
    picture.paste(tuple(rng.randrange(256) for _ in range(3)), (0, 0, width // 2, height // 3))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@dataclass
class PlayedWorker:
    """Does what a worker does, by the job store's own methods, one step at a time."""

    store: JobStore
    images: ImageStore
    name: str = field(default_factory=lambda: f"played-{secrets.token_hex(4)}")

    def alive(self, slots: int = 8) -> None:
        self.store.heartbeat(WorkerInfo(name=self.name, slots=slots, model="z-image-turbo", device="test"))

    def claim(self) -> list[Lease]:
        """Everything that is released now, taken under leases."""
        self.alive()
        taken = []
        for release in self.store.release(100):
            lease = self.store.claim(release.job_id, release.epoch, secrets.token_hex(8), self.name)
            if lease is not None:
                taken.append(lease)
        return taken

    def step(self, lease: Lease, step: int, steps: int = 4) -> None:
        self.store.report_progress(lease.job_id, lease.token, Progress(stage="denoise", step=step, steps=steps))

    def finish(self, lease: Lease) -> bytes:
        """Draw, store, complete; the picture's bytes."""
        request = lease.request
        return self.keep(lease, draw_png(request.width, request.height, request.seed))

    def keep(self, lease: Lease, png: bytes) -> bytes:
        """Store this picture as the job's and complete it."""
        request = lease.request
        sha256 = hashlib.sha256(png).hexdigest()
        key = object_key(lease.tenant, lease.job_id, lease.created_ms)
        self.images.put(key, png, sha256)
        picture = Picture(key=key, sha256=sha256, width=request.width, height=request.height, size_bytes=len(png))
        assert self.store.complete(lease.job_id, lease.token, picture)
        return png

    def fail(self, lease: Lease, code: str = "generation_failed", *, retryable: bool = False) -> None:
        self.store.fail(lease.job_id, lease.token, Failure(code=code, message="It did not work.", retryable=retryable))

    def is_wanted(self, lease: Lease) -> bool:
        return self.store.renew([(lease.job_id, lease.token)])[0] is LeaseStatus.HELD

    def draw_all(self) -> dict[str, bytes]:
        """Draw everything that waits; job id → picture."""
        drawn: dict[str, bytes] = {}
        while leases := self.claim():
            drawn |= {lease.job_id: self.finish(lease) for lease in leases}
        return drawn

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Draws in a thread whatever comes, until the block ends."""
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                self.draw_all()
                stop.wait(0.02)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=60)


@pytest.fixture(scope="session")
def storage_environment(s3_environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The S3 server of the session, its credentials where boto3 looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment.items():
            patch.setenv(name, value)
        yield s3_environment


@pytest.fixture
def settings(valkey_server: RedisServer, storage_environment: Mapping[str, str], tmp_path: Path) -> Settings:
    return Settings(
        model=MODEL,
        redis_url=valkey_server.url,
        s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"],
        data_dir=tmp_path,
        log_dir=str(tmp_path),
        sync_wait_seconds=10,
        api_redis_timeout_seconds=15.0,  # on a busy machine a list of ten thousand rows takes a while
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """The bucket of the session, as an api process reaches it."""

    images: ImageStore
    brief: ImageStore


@pytest.fixture(scope="session")
def stores(storage_environment: Mapping[str, str]) -> Stores:
    """Made once: clients of S3 keep nothing of a test, and making them takes longer than most tests."""
    settings = Settings(s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"])
    made = Stores(ImageStore(settings), ImageStore(settings, BRIEF))
    made.images.ensure_bucket()
    return made


@pytest.fixture
def parts(settings: Settings, valkey: redis.Redis, stores: Stores) -> Iterator[Services]:
    """The parts of an api on an empty Redis; no key needed, as on a laptop."""
    made = build_services(settings, images=stores.images, brief_images=stores.brief)
    yield made
    made.hub.close()
    made.redis.close()


_applications: dict[str, OpenAPI] = {}


def application(name: str, parts: Services) -> OpenAPI:
    """The application around these parts. Of each name there is one, whose parts are exchanged: its routes and its
    document are no test's own, and making them takes longer than most tests."""
    if name not in _applications:
        _applications[name] = create_app(parts)
    made = _applications[name]
    made.extensions |= {"zimg": parts, "zimg-registry": service_registry(parts)}
    return made


@pytest.fixture
def http(parts: Services) -> FlaskClient:
    """A client of the api in this process."""
    return application("without keys", parts).test_client()


@pytest.fixture
def keyed(parts: Services) -> FlaskClient:
    """A client of an api that is bound to all addresses, with an admin key: keys are required."""
    made = replace(parts, settings=replace(parts.settings, host="0.0.0.0", admin_key="the-operators-own-key"))
    return application("with keys", made).test_client()


@pytest.fixture
def worker(parts: Services) -> PlayedWorker:
    played = PlayedWorker(parts.jobs, parts.images)
    played.alive()
    return played


@dataclass
class LiveApi:
    """An api process under gunicorn, as in production, but forked from a warm Python."""

    port: int
    environ: Mapping[str, str]
    folder: Path
    process: WarmProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = web_python().start("api", {**os.environ, **self.environ}, self.folder / "api.log")
        eventually(self._answers, seconds=START_SECONDS)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "api.log").read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None


@contextmanager
def live_api(settings: Settings, folder: Path, **more: str) -> Iterator[LiveApi]:
    port = free_port()
    environ = {
        "REDIS_URL": settings.redis_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "ZIMG_MODEL": MODEL,
        "ZIMG_PORT": str(port),
        "ZIMG_DATA_DIR": str(folder),
        "ZIMG_LOG_DIR": str(folder),
        **more,
    }
    api = LiveApi(port, environ, folder)
    try:
        api.start()
        yield api
    finally:
        api.stop()


@pytest.fixture(scope="session")
def live_process(
    valkey_server: RedisServer, storage_environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveApi]:
    settings = Settings(
        model=MODEL, redis_url=valkey_server.url, s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"]
    )
    with live_api(settings, tmp_path_factory.mktemp("api"), ZIMG_SYNC_WAIT_SECONDS="10") as api:
        yield api


@pytest.fixture
def live(live_process: LiveApi, parts: Services) -> LiveApi:
    """An api process of the session, on the same Redis and S3 as `parts`, which are empty."""
    return live_process


@pytest.fixture
def command(live: LiveApi, tmp_path: Path) -> Callable[..., WarmCommand]:
    """Starts `zimg` in an empty folder against the live api, forked from a warm Python."""

    def start(*arguments: str, **environ: str) -> WarmCommand:
        fixed = {"ZIMG_URL": live.url, "LC_ALL": "C.UTF-8"}
        return web_python().command("client", {**os.environ, **fixed, **environ}, tmp_path, arguments)

    return start


def ended(process: WarmCommand, data: bytes = b"") -> tuple[int | None, str, str]:
    """Its exit code, and what it said on both outputs."""
    out, err = process.communicate(data, timeout=60)
    return process.returncode, out.decode(), err.decode()
