"""Real processes around a queue: schedulers, Celery workers with the stub task, and a Redis that can be hurt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.job import Job
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from tests.fixtures.redis import RedisServer

ROOT = Path(__file__).parent.parent
SCHEDULER = [sys.executable, "-m", "scheduler"]
STOP_SECONDS = 30.0


def wait_until(is_true: Callable[[], bool], *, seconds: float, why: Callable[[], str] = str) -> float:
    """Poll until it is true; the seconds it took. AssertionError with `why()` when the time is over."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        with contextlib.suppress(Exception):  # a Redis that is away answers later
            if is_true():
                return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {why()}")


@dataclass
class Fleet:
    """Processes on one Redis. Everything it started is gone after `close`."""

    server: RedisServer
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def store(self) -> JobStore:
        return JobStore(connect(self.server.url), self.settings)

    @property
    def settings(self) -> Settings:
        return Settings.from_env({**self.environ, "REDIS_URL": self.server.url})

    def start_scheduler(self, **more: str) -> subprocess.Popen[bytes]:
        return self._start(SCHEDULER, "scheduler.log", more)

    def start_worker(self, *, concurrency: int = 4, **more: str) -> subprocess.Popen[bytes]:
        options = ["--pool", "threads", "--loglevel", "WARNING", "--hostname", f"w{len(self.processes)}@test"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "-A", "tests.stub_worker", "worker", *options, *quiet]
        return self._start(command, "worker.log", {"ZIMG_CONCURRENCY": str(concurrency), **more})

    def await_workers(self, count: int, seconds: float = 40.0) -> None:
        store = self.store
        wait_until(lambda: len(store.live_workers()) >= count, seconds=seconds, why=self.logs)

    def await_ends(self, ids: Iterable[str], seconds: float) -> list[Job]:
        """All jobs, once each has ended."""
        store, wanted = self.store, list(ids)

        def have_ended() -> bool:
            jobs = store.get_many(wanted)
            return all(job is not None and job.state.is_terminal for job in jobs)

        wait_until(have_ended, seconds=seconds, why=lambda: f"{self._open(wanted)}\n{self.logs()}")
        return [job for job in store.get_many(wanted) if job is not None]

    def _open(self, ids: list[str]) -> str:
        jobs = self.store.get_many(ids)
        states = [str(job.state) if job else "unknown" for job in jobs if job is None or not job.state.is_terminal]
        return f"{len(states)} of {len(ids)} have not ended: {states[:10]}"

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))

    def stop(self, process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(timeout=STOP_SECONDS)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(timeout=10)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                self.kill(process)

    def _start(self, command: list[str], log: str, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        own = {"REDIS_URL": self.server.url, "ZIMG_DATA_DIR": str(self.folder), "ZIMG_LOG_DIR": str(self.folder)}
        environ = {**os.environ, **own, **self.environ, **more}
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output)
        self.processes.append(process)
        return process
