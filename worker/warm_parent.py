"""Forks the worker from a process that has imported everything: one that dies is followed by the next within seconds.

Importing torch, the model's classes and the compiler takes longer than anything else that a restart does. The parent
imports and waits; it has no thread, holds no connection and never starts CUDA, which no fork could use then. It adds no
second opinion: a worker that never became ready, was asked to stop or dies too often ends the parent with its code, and
whoever started that (supervisord, Kubernetes) judges as before.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from core.logs import get_logger

#: So many restarts are allowed in this time; beyond them something is wrong that a restart does not mend.
WINDOW_SECONDS = 600.0
#: Passed on to the worker; those that ask it to stop end the parent with it.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_PDEATHSIG = 1
#: Added to a signal's number, as shells do.
KILLED = 128

#: Has torch ask the driver's library, not CUDA, whether there is a GPU.
ASK_THE_DRIVER = "PYTORCH_NVML_BASED_CUDA_CHECK"

log = get_logger(__name__)


@contextmanager
def cuda_asleep() -> Iterator[None]:
    """What is imported inside may ask for a GPU without starting CUDA."""
    before = os.environ.get(ASK_THE_DRIVER)
    os.environ[ASK_THE_DRIVER] = "1"
    try:
        yield
    finally:
        os.environ.pop(ASK_THE_DRIVER)
        if before is not None:
            os.environ[ASK_THE_DRIVER] = before


@dataclass(slots=True)
class Restarts:
    """Decides whether a worker that ended is followed by another."""

    most: int  # in WINDOW_SECONDS; 0: none ever
    _at: list[float] = field(default_factory=list)

    def allow(self, *, code: int, was_ready: bool, now: float) -> bool:
        """Whether to start another at `now`, in seconds of any clock; counts it then."""
        self._at = [at for at in self._at if now - at < WINDOW_SECONDS]
        if code == 0 or not was_ready or len(self._at) >= self.most:
            return False
        self._at.append(now)
        return True


class WarmParent:
    """Runs `work` in one fork after another."""

    def __init__(self, work: Callable[[], None], restarts: Restarts, ready_since: Callable[[float], bool]) -> None:
        """`ready_since` says whether the worker that was forked at that time of day has become ready."""
        self._work, self._restarts, self._ready_since = work, restarts, ready_since
        self._child = 0
        self._is_stopping = False

    def run(self) -> int:
        """Until a worker ends for good; returns the exit code to end with."""
        gc.freeze()  # a child that looked for garbage in what it shares would copy it
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        while True:
            forked_at = time.time()
            self._fork()
            code = exit_code(os.waitpid(self._child, 0)[1])
            self._child = 0
            was_ready = self._ready_since(forked_at)
            now = time.monotonic()
            if self._is_stopping or not self._restarts.allow(code=code, was_ready=was_ready, now=now):
                return code
            log.error("the worker died; the next one is forked", action="restart", code=code)

    def _fork(self) -> None:
        """In the parent it returns; the child works and exits. A signal that comes meanwhile waits for its child."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if self._child == 0:
            self._become_worker(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def _become_worker(self, parent: int) -> None:
        """As a process of its own, which the terminal's Ctrl-C reaches once, through the parent; never returns."""
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the worker has its own: nothing was begun
        os.setpgid(0, 0)
        end_with(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        try:
            self._work()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            log.exception("the worker failed", action="exit")
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._is_stopping = self._is_stopping or number in STOPS
        if self._child:
            os.kill(self._child, number)


def forks_work(in_fork: Callable[[], bool]) -> bool:
    """Whether `in_fork`, asked in a fork of this process, says that a worker could be one; takes some milliseconds."""
    child = os.fork()
    if child == 0:
        os._exit(0 if in_fork() else 1)
    return exit_code(os.waitpid(child, 0)[1]) == 0


def end_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies, however it dies."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        log.warning("this worker could outlive its parent: prctl refused", action="start")
    if os.getppid() != parent:
        os._exit(KILLED + signal.SIGKILL)


def exit_code(status: int) -> int:
    """Of a waited-for process, as a shell tells it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else KILLED - code
