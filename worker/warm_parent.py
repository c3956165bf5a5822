"""Forks the worker from a process that has imported everything: one that dies is followed by the next within seconds.

Importing torch, the model's classes and what forms need takes longer than all else that a restart does. The parent
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

from core.logs import get_logger

#: So many restarts are allowed in this time; beyond them something is wrong that a restart does not mend.
WINDOW_SECONDS = 600.0
#: Ask the worker to stop, and the parent with it; a terminal that closes (SIGHUP) does so in order.
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
#: What the parent waits for: those, others that it passes on, and the worker's end.
TAKEN = STOPS | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1
#: Added to a signal's number, as shells do.
KILLED = 128

#: Has torch ask the driver's library, not CUDA, whether there is a GPU.
ASK_THE_DRIVER = "PYTORCH_NVML_BASED_CUDA_CHECK"

log = get_logger(__name__)


def hold_signals() -> None:
    """From here on the signals that the parent takes wait for it, one by one, so that none falls between two workers.

    To be called before anything starts a thread: threads inherit it, and one that did not would die of a SIGTERM.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as some parents leave it, no child could be waited for
    signal.pthread_sigmask(signal.SIG_BLOCK, TAKEN)


def release_signals() -> None:
    """Undo `hold_signals`; what has come meanwhile comes now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)


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

    def __init__(
        self,
        work: Callable[[], None],
        restarts: Restarts,
        *,
        before: Callable[[], None] = lambda: None,
        was_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """`before` is called ahead of each fork; `was_ready` says of one that ended whether it ever was ready."""
        self._work, self._restarts, self._before, self._was_ready = work, restarts, before, was_ready
        self._is_stopping = False
        is_hangup_nothing = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # under nohup
        self._stops = STOPS - {signal.SIGHUP} if is_hangup_nothing else STOPS

    def run(self) -> int:
        """Until a worker ends for good; returns the exit code to end with. Signals must be held (`hold_signals`)."""
        gc.freeze()  # a child that looked for garbage in what it shares would copy it
        code = 0
        while not self._is_told_to_stop():
            self._before()
            code = self._watch(self._fork())
            now, was_ready = time.monotonic(), self._was_ready()
            if self._is_stopping or not self._restarts.allow(code=code, was_ready=was_ready, now=now):
                break
            log.error("the worker died; the next one is forked", action="restart", code=code)
        return code

    def _is_told_to_stop(self) -> bool:
        return self._is_stopping or not self._stops.isdisjoint(signal.sigpending())

    def _watch(self, child: int) -> int:
        """Pass signals on until the child has ended; returns its exit code. Until that is read its pid is its own."""
        while True:
            number = signal.sigwait(TAKEN)
            if number == signal.SIGCHLD:
                pid, status = os.waitpid(child, os.WNOHANG)
                if pid:
                    return exit_code(status)
            elif number in self._stops or number not in STOPS:
                self._is_stopping = self._is_stopping or number in self._stops
                os.kill(child, signal.SIGTERM if number == signal.SIGHUP else number)

    def _fork(self) -> int:
        """The child's pid, in the parent; the child works and exits."""
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            self._become_worker(parent)
        return child

    def _become_worker(self, parent: int) -> None:
        """As a process of its own, which the terminal's Ctrl-C reaches once, through the parent; never returns."""
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the worker has its own: nothing was begun
        os.setpgid(0, 0)
        end_with(parent)
        release_signals()
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
