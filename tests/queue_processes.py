"""Real processes around a queue: schedulers, Celery workers with the stub task, and a Redis that can be hurt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from core.job import Job
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from tests.fixtures.redis import RedisServer
from tests.warm_python import WarmProcess, WarmPython

ROOT = Path(__file__).parent.parent
STOP_SECONDS = 30.0

Process = subprocess.Popen[bytes] | WarmProcess


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
    """Processes on one Redis. Everything it started is gone after `close`.

    Schedulers and stub workers are forks of `python` where there is one and nothing else is to start them.
    """

    server: RedisServer
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    python: WarmPython | None = None
    read_stored: Callable[[str], bytes | None] | None = None  # by its key; None: the stub workers' folder is read

    @property
    def store(self) -> JobStore:
        return JobStore(connect(self.server.url), self.settings)

    @property
    def settings(self) -> Settings:
        return Settings.from_env({**self.environ, "REDIS_URL": self.server.url})

    def start_scheduler(self, module: str = "scheduler", *, inside: Sequence[str] = (), **more: str) -> Process:
        """`inside` is a command that starts another: `ip netns exec NAME`, `faketime -f +1h`."""
        return self._start_module([module], "scheduler.log", more, inside)

    def start_worker(
        self, *, concurrency: int = 4, app: str = "tests.stub_worker", inside: Sequence[str] = (), **more: str
    ) -> Process:
        """A worker with the stub task."""
        options = ["--pool", "threads", "--loglevel", "WARNING", "--hostname", f"w{len(self.processes)}@test"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = ["celery", "-A", app, "worker", *options, *quiet]
        return self._start_module(command, "worker.log", {"ZIMG_CONCURRENCY": str(concurrency), **more}, inside)

    def start_real_worker(self, module: str = "worker", **more: str) -> subprocess.Popen[bytes]:
        """The worker that draws, with the tiny model on the CPU; returns when it has said ready."""
        model = {"ZIMG_MODEL": str(ROOT / "models" / "tiny"), "ZIMG_DEVICE": "cpu", "ZIMG_CPU_DTYPE": "float32"}
        before = {worker.name for worker in self.store.live_workers()}
        process = self._start([sys.executable, "-m", module], "worker.log", {**model, **more})

        def is_ready() -> bool:
            return bool({worker.name for worker in self.store.live_workers()} - before) or process.poll() is not None

        wait_until(is_ready, seconds=120, why=self.logs)
        assert process.poll() is None, self.logs()
        return process

    def start_api(self, port: int, *, inside: Sequence[str] = (), **more: str) -> subprocess.Popen[bytes]:
        """The api under gunicorn on 127.0.0.1; returns when it answers."""
        own = {"ZIMG_PORT": str(port), "ZIMG_API_THREADS": "16", "ZIMG_MODEL": str(ROOT / "models" / "tiny")}
        process = self._start([*inside, sys.executable, "-m", "api"], "api.log", {**own, **more})

        def answers() -> bool:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1).is_success or process.poll() is not None

        wait_until(answers, seconds=120, why=self.logs)
        assert process.poll() is None, self.logs()
        return process

    def await_workers(self, count: int, seconds: float = 90.0) -> None:
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

    def read_object(self, key: str) -> bytes | None:
        """The object that workers stored under a key, None if there is none."""
        if self.read_stored is not None:
            return self.read_stored(key)
        path = Path(self.environ["STUB_FOLDER"]) / Path(key).name
        return path.read_bytes() if path.exists() else None

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))

    def stop(self, process: Process, number: signal.Signals = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(timeout=STOP_SECONDS)

    def kill(self, process: Process) -> None:
        process.kill()
        process.wait(timeout=60)

    def kill_all(self, process: Process) -> None:
        """The process and its children, as when their host is gone."""
        children = psutil.Process(process.pid).children(recursive=True)
        self.kill(process)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                self.kill_all(process)

    def _start_module(self, words: Sequence[str], log: str, more: Mapping[str, str], inside: Sequence[str]) -> Process:
        if self.python is None or inside:
            return self._start([*inside, sys.executable, "-m", *words], log, more)
        process = self.python.start(words[0], self._environ(more), self.folder / log, words[1:])
        self.processes.append(process)
        return process

    def _start(self, command: list[str], log: str, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=self._environ(more), stdout=output, stderr=output)
        self.processes.append(process)
        return process

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {"REDIS_URL": self.server.url, "ZIMG_DATA_DIR": str(self.folder), "ZIMG_LOG_DIR": str(self.folder)}
        return {**os.environ, **own, **self.environ, **more}
