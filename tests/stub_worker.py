"""A Celery worker whose pictures are made of nothing: the real lease, claim, seats and completion, no engine and no S3.

`celery -A tests.stub_worker worker --pool threads`. Environment: REDIS_URL and zimg's other settings; STUB_SECONDS is
the time of one run; STUB_PNG_BYTES, if set, is the size of a picture that is put into S3; STUB_FOLDER, if set, takes
one file for each picture (created once, as on S3 with If-None-Match), a line in `begun` as each run begins, one in
`runs` as it ends, one in `answers` for each result: job, token, and 1 if it was taken.
STUB_DIE_AT names a point (claimed, stored, completed) where the first process ends that comes there. A
prompt that begins with `poison` ends the process, one with `fail` fails for ever. As in a real worker a
job's first word to the storage takes its time, so that jobs come to their seats in another order than their claims.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from celery.exceptions import Reject
from celery.signals import worker_ready, worker_shutdown

from core.broker import SPARE_THREADS, TASK, make_celery
from core.errors import LeaseLost, RedisUnavailable
from core.image_store import ImageStore
from core.job import Failure, Lease, LeaseStatus, Picture
from core.job_store import JobStore, WorkerInfo
from core.redis_client import call, connect
from core.settings import Settings
from worker.intake import HESITATE_SECONDS, Intake, add_tap
from worker.lease_keeper import HeldLease
from worker.seats import Seats

SETTINGS = Settings.from_env()
SECONDS = float(os.environ.get("STUB_SECONDS", "0"))
PNG_BYTES = int(os.environ.get("STUB_PNG_BYTES", "0"))
FOLDER = os.environ.get("STUB_FOLDER", "")
MOST_HEAD_SECONDS = 0.01
NAME = f"stub-{os.getpid()}-{secrets.token_hex(4)}"
STARTED_MS = time.time_ns() // 1_000_000

app = make_celery(SETTINGS)
store = JobStore(connect(SETTINGS.redis_url), SETTINGS)
intake = Intake(JobStore(connect(SETTINGS.redis_url), SETTINGS), NAME)
add_tap(app, "", lambda: intake.is_open)
images = ImageStore(SETTINGS) if PNG_BYTES else None
held: dict[str, HeldLease] = {}
seats = Seats(store, NAME)
stopping = threading.Event()


@worker_ready.connect
def begin(**_: Any) -> None:
    threading.Thread(target=keep_leases, daemon=True).start()
    intake.start()


@worker_shutdown.connect
def end(**_: Any) -> None:
    stopping.set()
    with contextlib.suppress(RedisUnavailable):
        store.forget_worker(NAME)


def keep_leases() -> None:
    """Heartbeat and renew at a sixth of the lease, whatever happens to Redis in between."""
    keeper = JobStore(connect(SETTINGS.redis_url), SETTINGS)
    slots = app.conf.worker_concurrency - SPARE_THREADS
    while not stopping.is_set():
        with contextlib.suppress(RedisUnavailable):
            keeper.heartbeat(WorkerInfo(name=NAME, slots=slots, started_ms=STARTED_MS))
            sent_at, leases = time.monotonic(), list(held.values())
            answers = keeper.renew([(one.lease.job_id, one.lease.token) for one in leases])
            for one, status in zip(leases, answers, strict=True):
                if status is LeaseStatus.HELD:
                    one.renewed(sent_at)
                else:
                    one.stop(LeaseLost("It was taken back, or canceled."))
                    held.pop(one.lease.job_id, None)
        stopping.wait(SETTINGS.lease_seconds / 6)


@app.task(name=TASK)
def generate(job_id: str, epoch: int | None = None, *_: Any, **__: Any) -> None:
    if not intake.is_open:
        stopping.wait(HESITATE_SECONDS)
        raise Reject("paused", requeue=True)
    taken_at, token = time.monotonic(), secrets.token_hex(8)
    with contextlib.suppress(RedisUnavailable):
        lease = call(lambda: store.claim(job_id, epoch, token, NAME), tries=5)
        if lease is not None:
            run(HeldLease(lease, SETTINGS.lease_seconds, taken_at))
        else:
            intake.look()


def perhaps_die(point: str) -> None:
    """Once for all workers of a test: the first one dies."""
    if os.environ.get("STUB_DIE_AT") == point:
        with contextlib.suppress(FileExistsError):
            (Path(FOLDER) / "died").open("x").close()
            os._exit(70)


def run(mine: HeldLease) -> None:
    lease = mine.lease
    held[lease.job_id] = mine
    try:
        stopping.wait(random.uniform(0.0, MOST_HEAD_SECONDS))
        with seats.taken(mine):
            picture = ride(lease)
        if picture is None:
            failure = Failure(code="engine_failed", message="The stub fails as it was told.", retryable=True)
            call(lambda: store.fail(lease.job_id, lease.token, failure), tries=20)
            return
        perhaps_die("stored")
        is_taken = call(lambda: store.complete(lease.job_id, lease.token, picture), tries=20)
        note("answers", f"{lease.job_id} {lease.token} {int(is_taken)}")
        perhaps_die("completed")
    except LeaseLost:
        pass  # somebody else has it
    finally:
        held.pop(lease.job_id, None)


def ride(lease: Lease) -> Picture | None:
    """None: it failed."""
    if lease.request.prompt.startswith("poison"):
        os._exit(70)
    if lease.request.prompt.startswith("fail"):
        return None
    perhaps_die("claimed")
    return draw(lease)


def note(name: str, line: str) -> None:
    """One line for the test's checker; other workers append to the same file."""
    if FOLDER:
        with (Path(FOLDER) / name).open("a") as file:
            file.write(f"{line}\n")


def put(path: Path, data: bytes) -> None:
    """The whole object or none, and the first one stays: as S3 does it, also if this process is killed."""
    part = path.with_suffix(f".{secrets.token_hex(4)}.part")
    part.write_bytes(data)
    with contextlib.suppress(FileExistsError):
        os.link(part, path)
    part.unlink()


def draw(lease: Lease) -> Picture:
    """ "Generation" and "upload"."""
    key, data = f"{lease.tenant}/{lease.job_id}.png", lease.job_id.encode()
    if images is not None:
        data = random.Random(lease.job_id).randbytes(PNG_BYTES)  # the same at each run, as an engine's
    sha256 = hashlib.sha256(data).hexdigest()
    picture = Picture(key=key, sha256=sha256, width=1, height=1, size_bytes=len(data))
    if images is not None:
        images.put(key, data, sha256)
    if FOLDER and (Path(FOLDER) / f"{lease.job_id}.png").exists():
        return picture
    note("begun", lease.job_id)
    if SECONDS:
        time.sleep(SECONDS)
    if FOLDER:
        put(Path(FOLDER) / f"{lease.job_id}.png", data)
        note("runs", f"{lease.job_id} {lease.attempt} {int(lease.alone)}")
    return picture
