"""A service with sample tenants, jobs, workers and trouble, for the screenshots of the account and the operator's page.

`python -m docs.sample_service` keeps it for a look by hand. Its api and Valkey are real and its own; the figures are
made up, and workers and pictures are records without anything behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import redis

from core.job import Failure, Lane, Lease, Picture, Progress
from core.job_store import JobStore
from core.redis_client import PREFIX, connect
from core.settings import Settings
from core.webhook_store import Attempt, Endpoint, WebhookStore
from core.workers import WorkerInfo
from deploy.local.embedded import valkey_command, valkey_url
from deploy.local.ports import choose_ports
from scheduler.invites import Invites
from scheduler.submission import Submission, Wish
from scheduler.tenants import Tenants

ROOT = Path(__file__).parents[1]
ADMIN_KEY = "sample-admin-key"
GIB = 2**30
WEIGHTS = {"atelier-nord": (3.0, 180, 500), "kaffee-shop": (1.0, 95, 200), "studio-lin": (1.0, 40, 100)}
WORKERS = (("gpu-1-4117-a0c3", 5.46), ("gpu-2-3980-77fe", 5.12))
BEAT_SECONDS = 5.0
PLAN = (
    "strategy z-image, budget 5.80 GiB, weights packed to 11 bits\n"
    "in place 5 blocks, resident 6 (1.71 GiB), of them yielding to the decode 4\n"
    "ring 2 x 0.32 GiB, scratch 0.42 GiB, context 0.49 GiB, fixed parts 0.36 GiB, seats 4\n"
    "peaks encode 4.91 GiB, denoise 5.46 GiB, decode 5.71 GiB"
)
PROMPTS = (
    "A red mug on a white table, morning light",
    "Product shot: stainless steel bottle, 750 ml, matte black",
    "霓虹灯，暗夜雨景，倒影",
    "Mountains in fog, ink wash painting",
    "白底产品图：不锈钢保温杯",
    "An orange cat asleep on a blue sofa",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where the sample service is, and the keys that open it."""

    url: str
    key: str
    admin_key: str = ADMIN_KEY


@contextmanager
def sample_service() -> Iterator[Sample]:
    """The service, filled, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="zimg-sample-") as name, ExitStack() as stack:
        folder, ports = Path(name), choose_ports(("redis", "api"))
        url = valkey_url(ports["redis"])
        stack.enter_context(_running(valkey_command(folder, ports["redis"]), {}, folder))
        client = connect(url)
        _wait(client.ping)
        settings = Settings(redis_url=url, model="Tongyi-MAI/Z-Image-Turbo", min_workers=0)
        store = JobStore(client, settings)
        workers = [_worker(*row) for row in WORKERS]
        key = fill(client, settings, store, workers)
        stack.enter_context(_beating(store, workers))
        environ = {
            "REDIS_URL": url, "ZIMG_PORT": str(ports["api"]), "ZIMG_DATA_DIR": name, "ZIMG_LOG_DIR": name,
            "ZIMG_MODEL": settings.model, "ZIMG_ADMIN_KEY": ADMIN_KEY, "ZIMG_SIGN_UP": "invite",
            "S3_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
        }  # fmt: skip
        stack.enter_context(_running([sys.executable, "-m", "api"], environ, folder))
        address = f"http://127.0.0.1:{ports['api']}"
        _wait(lambda: httpx.get(f"{address}/healthz").raise_for_status())
        yield Sample(url=address, key=key)


def fill(client: redis.Redis, settings: Settings, store: JobStore, workers: list[WorkerInfo]) -> str:
    """Everything that the pages show; the key of the tenant whose account is shown."""
    tenants = Tenants(client, settings)
    keys = [_tenant(client, tenants, *row) for row in WEIGHTS.items()]
    tenants.create_key("old-partner", label="till 2")
    tenants.ban("old-partner", "invoice of October unpaid")
    Invites(client).create(uses=5, label="workshop", daily_units=50)
    for worker in workers:
        store.heartbeat(worker)
    _submit(store, tenants, Submission(store, settings))
    _end(store, _take(store, workers))
    _ride(store, _take(store, workers))
    _fail_delivery(WebhookStore(client))
    client.hset(f"{PREFIX}pace", mapping={"run_ms": "7600", "gap_ms": "1900"})
    return keys[0]


def _tenant(client: redis.Redis, tenants: Tenants, name: str, row: tuple[float, int, int]) -> str:
    weight, usual, daily = row
    tenants.change(name, {"weight": weight, "daily_units": daily, "queued_jobs": 2_000, "running_jobs": 8})
    numbers = random.Random(name)
    today = datetime.now(UTC).date()
    for back in range(1, 30):
        day = today - timedelta(days=back)
        share = 0.25 if day.weekday() >= 5 else 1.0
        units = round(usual * share * numbers.uniform(0.55, 1.45))
        client.hset(f"{PREFIX}use:{name}:{day:%Y%m%d}", mapping={"used": str(units), "reserved": "0"})
    return tenants.create_key(name, label="web shop")[0]


def _worker(name: str, used: float) -> WorkerInfo:
    gauges = {"gpu_memory_used_bytes": used * GIB, "gpu_memory_total_bytes": 8 * GIB}
    return WorkerInfo(
        name=name, slots=4, host=name[:5], model="z-image-turbo", device="cuda:0", version="0.1.0", plan=PLAN,
        started_ms=time.time_ns() // 1_000_000 - 9_000_000, gauges=gauges,
    )  # fmt: skip


@contextmanager
def _beating(store: JobStore, workers: list[WorkerInfo]) -> Iterator[None]:
    """The workers stay alive for as long as the block lasts."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            for worker in workers:
                store.heartbeat(worker)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


def _submit(store: JobStore, tenants: Tenants, submission: Submission) -> None:
    """Jobs of all tenants."""
    shop = tenants.get("atelier-nord")
    store.pause("lane", "batch")
    rows = [
        Wish(prompt=f"Oak shelf, {n} cm, on white", width=1024, height=1024, lane=Lane.BATCH) for n in range(60, 260)
    ]
    submission.submit_many(shop, rows)
    for index in range(15):
        submission.submit(shop, Wish(prompt=PROMPTS[index % 6], width=1024, height=1024))
    for name in ("kaffee-shop", "studio-lin"):
        for index in range(6):
            submission.submit(tenants.get(name), Wish(prompt=PROMPTS[index], width=864, height=1152))


def _take(store: JobStore, workers: list[WorkerInfo]) -> list[Lease]:
    """What is released now, under leases, by turns with the workers."""
    leases = []
    for number, release in enumerate(store.release(10)):
        lease = store.claim(release.job_id, release.epoch, f"token-{number}", workers[number % 2].name)
        leases += [lease] if lease else []
    return leases


def _end(store: JobStore, leases: list[Lease]) -> None:
    """Two die, the others are drawn."""
    for number, lease in enumerate(leases):
        if number in (1, 4):
            reason = ("poison", "The job stopped its worker 3 times while it ran alone.") if number == 1 else (
                "storage_failed", "The picture could not be stored: the bucket answered 503."
            )  # fmt: skip
            store.fail(lease.job_id, lease.token, Failure(code=reason[0], message=reason[1], retryable=False))
        else:
            size = lease.request
            picture = Picture(
                key=f"sample/{lease.job_id}.png", sha256="0" * 64, width=size.width, height=size.height, size_bytes=1
            )
            store.complete(lease.job_id, lease.token, picture)


def _ride(store: JobStore, leases: list[Lease]) -> None:
    """Most ride, at different steps; one is saved, and the last two are next."""
    for number, lease in enumerate(leases[:-2]):
        stage, step = ("upload", 4) if number == 1 else ("denoise", 1 + number % 3)
        store.report_progress(lease.job_id, lease.token, Progress(stage=stage, step=step, steps=4))


def _fail_delivery(hooks: WebhookStore) -> None:
    endpoint = Endpoint(id="wh_sample", tenant="kaffee-shop", url="https://kaffee-shop.example/hooks/zimg")
    hooks.save(endpoint)
    now = time.time_ns() // 1_000_000
    for number, status in enumerate((502, 0)):
        sent = hooks.enqueue(endpoint, {"id": f"evt_{number}", "type": "job.succeeded"})
        attempt = Attempt(at_ms=now, status=status, duration_ms=30, error="" if status else "timed out")
        hooks.record(replace(sent, attempts=(attempt,) * (number + 2), next_ms=now + 1_800_000))


@contextmanager
def _running(command: list[str], environ: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / "sample.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(check: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            check()  # type: ignore[operator]
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """Keep the sample service until Ctrl-C, for a look by hand."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with sample_service() as sample:
        print(json.dumps({"url": sample.url, "key": sample.key, "admin_key": sample.admin_key}), flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
