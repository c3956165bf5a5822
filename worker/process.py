"""One worker process: everything it needs, built in order, warmed up, and taken down in reverse."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import socket
import threading
import time
from collections import Counter
from typing import Any

import redis
import torch

from core import __version__
from core.errors import RedisUnavailable, StorageFailure, StorageUnavailable
from core.image_store import ImageStore
from core.job_store import JobStore, WorkerInfo
from core.logs import get_logger
from core.model_profile import queue_of
from core.redis_client import connect, milliseconds, redis_errors
from core.settings import GIB, Settings
from worker.card import open_card
from worker.executor import GIVE_BACK_SECONDS, Executor, Parts
from worker.health import Health, progress_file
from worker.intake import Intake
from worker.lease_keeper import LeaseKeeper
from worker.pipeline import LoadedModel, collect_garbage_from_now_on, load_model, make_engine, warm_up
from worker.png import Marking
from worker.progress import ProgressReporter
from worker.shelf import Room, Shelf
from worker.spool import Spool, Sweeper
from worker.watchdog import EXIT_STALLED, StallJudge, Watchdog, end_process
from worker.watermark import WatermarkGuard, watermark_of

#: After an out-of-memory error the engine plans with so much less.
SHRINK_GIB = 0.25
CLOSE_SECONDS = 5.0

log = get_logger(__name__)


class WorkerProcess:
    """Holds the parts of this process. `start` before the first message, `close` after the last."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._progress_file = progress_file(settings)
        self._counts: Counter[str] = Counter()
        self._budget_gib = settings.vram_budget_gib
        self._shrunk_at = 0.0  # time.monotonic() of the last plan with less
        self._shrinking = threading.Lock()
        self._drained = threading.Event()
        self._health: Health | None = None

    def start(self) -> None:
        """Load, warm up, and begin to live. Raises ConfigurationError where that can not work."""
        begun = time.monotonic()
        settings = self.settings
        model = load_model(settings)
        collect_garbage_from_now_on()
        self.engine = make_engine(settings, model)
        warm_up(self.engine, settings, model.profile)
        self._device = model.device
        self._card = open_card(model.device)
        self._keeper = LeaseKeeper(self._new_store(), settings.lease_seconds)
        self._reporter = ProgressReporter(self._new_store())
        self._watchdog = Watchdog(self.engine, lambda reason: self._exit(EXIT_STALLED, reason), self._stall_judge())
        self._watermark = self._make_watermark()
        self._intake = Intake(self._new_store(), self.name, lambda: self.admits)
        self.executor = Executor(self._parts(model))
        self._health = self._make_health(model)
        for part in self._threads:
            part.start()
        log.info("worker is ready", action="start", worker=self.name, seconds=round(time.monotonic() - begun, 1))

    @property
    def _threads(self) -> list[Any]:
        """What runs beside the engine, in the order of its start."""
        parts = (self._keeper, self._reporter, self._shelf, self._sweeper, self._watchdog, self._watermark)
        return [part for part in (*parts, self._intake, self._health) if part is not None]

    @property
    def admits(self) -> bool:
        """Whether this process could take up a job now."""
        if self.executor.is_draining or not self._shelf.has_room():
            return False
        return self._watermark is None or self._watermark.admits

    @property
    def is_open(self) -> bool:
        """Whether a message may be taken up now: it could, and no operator paused it."""
        return self._intake.is_open

    def drain(self) -> None:
        """Finish or give back what runs; whatever then still hangs does not keep the process."""
        self.executor.drain(self.settings.drain_seconds)
        self._drained.set()
        patience = GIVE_BACK_SECONDS if self._keeper.count else CLOSE_SECONDS
        done = threading.Timer(patience, end_process, (0, "drained; a thread did not end"))
        done.daemon = True
        done.start()

    def close(self) -> None:
        """Stop every thread and say goodbye, once the uploads had their grace."""
        if self.executor.is_draining:
            self._drained.wait(self.settings.drain_seconds + 2 * GIVE_BACK_SECONDS)
        self.say_goodbye()
        if self._watermark is not None:
            self._watermark.close()
        self._intake.close()
        self._watchdog.close()
        self._sweeper.close()
        has_ended = self._shelf.close()
        self._reporter.close()
        self._keeper.close()
        self.engine.close()
        if not has_ended:  # a thread that wrote to the log while Python takes itself down would abort the process
            end_process(0, "drained; an upload did not end")

    def say_goodbye(self) -> None:
        """Be known as a worker no longer, where it was."""
        if self._health is not None:
            self._health.close()

    def _new_store(self) -> JobStore:
        return JobStore(connect(self.settings.redis_url), self.settings)

    def _stall_judge(self) -> StallJudge:
        return StallJudge(least_seconds=self.settings.progress_stale_seconds)

    def _parts(self, model: LoadedModel) -> Parts:
        images = ImageStore(self.settings)
        try:
            images.ensure_bucket()
        except (StorageUnavailable, StorageFailure) as error:
            log.warning("the bucket could not be checked", action="start", error=str(error))
        folder, store = self.settings.data_dir / "spool", self._new_store()
        room = Room(
            folder=folder,
            most_bytes=int(self.settings.backlog_gib * GIB),
            free_disk_bytes=int(self.settings.backlog_free_disk_gib * GIB),
        )
        spool = Spool(folder, store.ended_among)
        self._shelf, self._sweeper = Shelf(images, spool, room), Sweeper(spool)
        return Parts(
            store=store,
            images=images,
            engine=self.engine,
            keeper=self._keeper,
            reporter=self._reporter,
            spool=spool,
            shelf=self._shelf,
            profile=model.profile,
            worker=self.name,
            on_refused=self._intake.look,
            queue=queue_of(self.settings),
            exit=self._exit,
            make_room=self._make_room,
            counts=self._counts,
            marking=Marking(self.settings.aigc_producer, visible=self.settings.aigc_label == "on"),
        )

    def _make_health(self, model: LoadedModel) -> Health:
        store = self._new_store()
        info = WorkerInfo(
            name=self.name,
            slots=self.settings.concurrency,
            host=socket.gethostname(),
            model=model.profile.id,
            queue=queue_of(self.settings),
            device=model.device,
            version=__version__,
            plan=str(getattr(self.engine, "plan", "")),
            started_ms=server_ms(store.redis),
        )
        return Health(
            store,
            info,
            progress_file=self._progress_file,
            slots=lambda: self.settings.concurrency if self.admits else 0,
            gauges=self._gauges,
        )

    def _make_watermark(self) -> WatermarkGuard | None:
        if self._card is None:
            return None
        share = 0.0
        with contextlib.suppress(Exception):  # it may answer later
            share = self.settings.vram_budget_gib * GIB / self._card.memory().total
        return WatermarkGuard(
            self._card.memory,
            in_flight=lambda: self.engine.in_flight,
            empty_cache=self._empty_cache,
            watermark=watermark_of(share),
        )

    def _gauges(self) -> dict[str, float]:
        gauges = {
            "jobs_in_flight": float(self.engine.in_flight),
            "black_images_total": float(self._counts["black_images"]),
            "out_of_memory_total": float(self._counts["out_of_memory"] + getattr(self.engine, "shortages", 0)),
            "backlog_pictures": float(self._shelf.count),
            "backlog_bytes": float(self._shelf.bytes),
            "backlog_full": 0.0 if self._shelf.has_room() else 1.0,
            "vram_watermark_total": float(self._watermark.crossings if self._watermark else 0),
            "warm_up_owed": 0.0 if getattr(self.engine, "is_settled", True) else 1.0,
            "packing_failed": 1.0 if getattr(getattr(self.engine, "plan", None), "packing_fault", "") else 0.0,
        }
        return gauges | self._card_gauges()

    def _card_gauges(self) -> dict[str, float]:
        """NVML is a help, not a need: where it answers no more the worker lives on without these."""
        if self._card is None:
            return {}
        try:
            memory = self._card.memory()
            reserved = torch.cuda.memory_reserved(self._device)
            resting = getattr(getattr(self.engine, "plan", None), "resting_bytes", 0)
            working = max(torch.cuda.memory_allocated(self._device) - resting, 0)
        except Exception:
            return {}
        return {
            "gpu_memory_used_bytes": float(memory.used),
            "gpu_memory_total_bytes": float(memory.total),
            "gpu_memory_reserved_bytes": float(reserved),
            "gpu_memory_working_bytes": float(working),
        }

    def _make_room(self, since: float) -> bool:
        """Free what is cached and let the engine plan with a little less; True if that worked.

        Once for all rides that began before it, at monotonic `since` and later: they met the same shortage.
        """
        rebudget = getattr(self.engine, "rebudget", None)
        with self._shrinking:
            if since < self._shrunk_at:
                return True
            self._empty_cache()
            if rebudget is None:
                return True
            try:
                rebudget(self._budget_gib - SHRINK_GIB)
            except Exception as error:
                log.error("the plan can not shrink", action="guard", error=str(error))
                return False
            self._budget_gib -= SHRINK_GIB
            self._shrunk_at = time.monotonic()
            log.warning("the plan shrank", action="guard", budget_bytes=int(self._budget_gib * GIB))
            return True

    def _empty_cache(self) -> None:
        gc.collect()
        if self._device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _exit(self, code: int, reason: str) -> None:
        end_process(code, reason, self._progress_file.with_suffix(".reason"))


def server_ms(client: redis.Redis) -> int:
    """Now by the server's clock, as all times of jobs; by our own while Redis is away, which holds up no start."""
    try:
        with redis_errors():
            return milliseconds(client.time())
    except RedisUnavailable:
        return time.time_ns() // 1_000_000
