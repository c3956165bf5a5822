"""Who is to blame for a worker's end: lives of real executors, claimed at once, behind a storage that answers unevenly.

A process dies as the kernel kills it: from one moment on none of its threads says another word to Redis.
"""

from __future__ import annotations

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from PIL import Image

from core.errors import StorageUnavailable
from core.image_store import Stored
from core.job import JobState, Lane, NewJob
from core.job_store import JobStore
from core.redis_client import PREFIX, connect
from core.settings import GIB, Settings
from models import tiny
from tests.integration.worker.conftest import LIMITS, new_job
from tests.queue_kit import Kit
from worker.executor import Executor, Parts
from worker.lease_keeper import LeaseKeeper
from worker.pipeline import load_model
from worker.progress import ProgressReporter
from worker.shelf import Room, Shelf
from worker.spool import Spool

SEATS = 4
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


class Killed(BaseException):
    """What a thread meets instead of its next word to the outside."""


@dataclass
class Life:
    """Of one process."""

    over: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self.over.is_set():
            raise Killed

    def wait(self, seconds: float) -> None:
        self.over.wait(seconds)
        self.check()


class MortalStore(JobStore):
    """The store of a process that may be dead."""

    def __init__(self, client: redis.Redis, settings: Settings, life: Life) -> None:
        super().__init__(client, settings)
        run = self._scripts.run

        def run_if_alive(name: str, *arguments: Any) -> Any:
            life.check()
            return run(name, *arguments)

        self._scripts.run = run_if_alive  # type: ignore[method-assign]


class Objects:
    """A bucket whose HEAD takes 5 to 40 ms, and longer for one job."""

    def __init__(self, life: Life, rng: random.Random, slow: str) -> None:
        self._life, self._rng, self._slow = life, rng, slow

    def head(self, key: str) -> None:
        self._life.wait(0.2 if self._slow and self._slow in key else self._rng.uniform(0.005, 0.040))

    def put(self, _key: str, png: bytes, sha256: str) -> Stored:
        if self._life.over.is_set():
            raise StorageUnavailable("nobody asks any more")
        return Stored(sha256, len(png))


@dataclass
class Seated:
    """One order at the engine."""

    engine: Seats4
    prompt: str
    lane: str
    alone: bool
    finite: bool = True

    def cancel(self) -> None:
        pass

    def result(self, timeout: float | None = None) -> Image.Image:
        return self.engine.ride(self)


class Seats4:
    """Seats as the carousel does: interactive orders first, one that must be alone by itself."""

    progress_stamp = 0.0

    def __init__(self, life: Life) -> None:
        self._life, self._turn = life, threading.Condition()
        self._line: list[Seated] = []
        self._riding: list[Seated] = []

    @property
    def in_flight(self) -> int:
        return len(self._line) + len(self._riding)

    def submit(self, *, prompt: str, lane: str, alone: bool, **_: Any) -> Seated:
        order = Seated(self, prompt, lane, alone)
        with self._turn:
            self._line.append(order)
            self._turn.notify_all()
        return order

    def ride(self, order: Seated) -> Image.Image:
        with self._turn:
            self._turn.wait_for(lambda: self._life.over.is_set() or self._next() is order)
            self._life.check()
            self._line.remove(order)
            self._riding.append(order)
            self._turn.notify_all()
        if order.prompt.startswith("poison"):
            self._life.over.set()
        self._life.over.wait(0.003)
        with self._turn:
            self._riding.remove(order)
            self._turn.notify_all()
        self._life.check()
        return PICTURE

    def _next(self) -> Seated | None:
        first = min(self._line, key=lambda one: one.lane == "batch", default=None)
        if first is None or any(one.alone for one in self._riding) or len(self._riding) == SEATS:
            return None
        return None if first.alone and self._riding else first


@dataclass
class Service:
    """A queue, and one worker process after the other."""

    kit: Kit
    url: str
    folder: Path
    profile: Any
    rng: random.Random

    def submit(self, prompt: str, lane: Lane = Lane.INTERACTIVE) -> str:
        job = new_job(prompt)
        self.kit.store.submit(NewJob(id=job.id, tenant="acme", lane=lane, request=job.request), LIMITS)
        return job.id

    def live(self, name: str, *, pause: float = 0.0, slow: str = "") -> None:
        """One process: what is released is claimed in as many threads, until all ended or the process did."""
        life = Life()
        parts = self._parts(name, life, slow)
        parts.shelf.start()
        executor = Executor(parts)

        def carry(number: int, job_id: str, epoch: int) -> None:
            life.over.wait(pause * number)
            with contextlib.suppress(Killed):
                executor.execute(job_id, epoch)

        releases = sorted(self.kit.store.release(SEATS + 2), key=lambda one: one.job_id != slow)
        with ThreadPoolExecutor(SEATS + 2) as threads:
            for number, one in enumerate(releases):
                threads.submit(carry, number, one.job_id, one.epoch)
        parts.shelf.close()

    def _parts(self, name: str, life: Life, slow: str) -> Parts:
        store = MortalStore(connect(self.url), Settings(), life)
        images: Any = Objects(life, self.rng, slow)
        spool = Spool(self.folder / name)
        return Parts(
            store=store,
            images=images,
            engine=Seats4(life),  # type: ignore[arg-type]
            keeper=LeaseKeeper(store, 30.0),
            reporter=ProgressReporter(store),
            spool=spool,
            shelf=Shelf(images, spool, Room(folder=self.folder, most_bytes=GIB, free_disk_bytes=0)),
            profile=self.profile,
            worker=name,
            exit=lambda *_: life.over.set(),
        )

    def run_out(self) -> None:
        """Every lease and every release that nobody claimed is over."""
        for name in ("lease", "rel"):
            for job_id in self.kit.redis.zrange(PREFIX + name, 0, -1):
                self.kit.redis.zadd(PREFIX + name, {job_id: 1})
        self.kit.redis.delete(f"{PREFIX}tick", f"{PREFIX}grace")
        self.kit.store.reap()

    def live_until_all_ended(self, name: str, ids: list[str], *, pause: float = 0.0) -> int:
        """How many processes that took."""
        for number in range(60):
            if all(self.kit.state(job_id).is_terminal for job_id in ids):
                return number
            self.kit.add_worker("beat", slots=SEATS)
            self.live(f"{name}-{number}", pause=pause)
            self.run_out()
        raise AssertionError(f"they never ended: {[self.kit.state(job_id) for job_id in ids]}")


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny.save(folder)
    return load_model(Settings(model=str(folder), device="cpu", cpu_dtype="float32")).profile


@pytest.fixture
def service(valkey: redis.Redis, valkey_server: Any, tmp_path: Path, profile: Any) -> Service:
    kit = Kit(valkey)
    return Service(kit, valkey_server.url, tmp_path, profile, random.Random(1))


def fates(kit: Kit, ids: list[str]) -> set[tuple[JobState, int]]:
    return {(kit.job(job_id).state, kit.job(job_id).crashes) for job_id in ids}


@pytest.mark.parametrize("pause", [0.0, 0.004], ids=["claimed_at_once", "claimed_apart"])
def test_only_the_poison_of_a_company_dies_whoever_is_claimed_or_seated_first(service, pause):
    innocents, poisons = [], []
    for number in range(12):
        prompts = ["mug"] * 3 + ["poison"]
        service.rng.shuffle(prompts)
        ids = [service.submit(prompt) for prompt in prompts]
        service.live_until_all_ended(f"p{number}", ids, pause=pause)
        poisons += [one for one, prompt in zip(ids, prompts, strict=True) if prompt == "poison"]
        innocents += [one for one, prompt in zip(ids, prompts, strict=True) if prompt == "mug"]

    assert fates(service.kit, poisons) == {(JobState.DEAD, 3)}
    assert fates(service.kit, innocents) == {(JobState.SUCCEEDED, 0)}


def test_a_suspect_is_not_blamed_for_those_who_overtake_it(service):
    """It is claimed first, and seated last; in each of four processes somebody else dies at its first ride."""
    suspect = service.submit("mug", Lane.BATCH)
    service.kit.redis.hset(f"{PREFIX}job:{suspect}", "alone", 1)
    for number in range(4):
        poisons = [service.submit("poison") for _ in range(2)]
        service.live(f"p{number}", pause=0.004, slow=suspect)
        service.run_out()
        for poison in poisons:
            service.kit.store.cancel(poison)

    service.live_until_all_ended("last", [suspect])

    assert fates(service.kit, [suspect]) == {(JobState.SUCCEEDED, 0)}


def test_ten_poisons_side_by_side_take_no_innocent_along(service):
    """An innocent waits behind them all in each of thirty processes, and loses its lease in each."""
    poisons = [service.submit("poison", service.rng.choice(list(Lane))) for _ in range(10)]
    innocents = [service.submit("mug", service.rng.choice(list(Lane))) for _ in range(10)]

    service.live_until_all_ended("p", [*poisons, *innocents])

    assert fates(service.kit, poisons) == {(JobState.DEAD, 3)}
    assert fates(service.kit, innocents) == {(JobState.SUCCEEDED, 0)}
