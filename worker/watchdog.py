"""Ends a process whose engine stands still: its leases run out and others take its jobs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.logs import get_logger

LEAST_SECONDS, TIMES_USUAL, WEIGHT = 60.0, 5.0, 0.2
LOOK_SECONDS = 1.0
EXIT_STALLED, EXIT_STICKY = 70, 71

#: To say why in: a disk may be full, and a log's lock held.
LAST_WORDS_SECONDS = 5.0

log = get_logger(__name__)


class Watched(Protocol):
    """What the watchdog asks of an engine."""

    @property
    def progress_stamp(self) -> float: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def has_ended(self) -> bool: ...


@dataclass(slots=True)
class StallJudge:
    """Decides whether an engine stands still: no progress for longer than a minute and five times the usual step."""

    least_seconds: float = LEAST_SECONDS
    usual_seconds: float = 0.0
    _stamp: float | None = None
    _since: float = 0.0

    @property
    def patience_seconds(self) -> float:
        return max(self.least_seconds, TIMES_USUAL * self.usual_seconds)

    def is_stalled(self, *, now: float, stamp: float, in_flight: int) -> bool:
        """`stamp` is the time of the engine's last progress; an idle engine never stalls."""
        if in_flight == 0 or self._stamp is None:
            self._stamp, self._since = stamp, now
            return False
        if stamp != self._stamp:
            step = max(0.0, stamp - max(self._stamp, self._since - LOOK_SECONDS))
            self.usual_seconds = step if not self.usual_seconds else _ewma(self.usual_seconds, step)
            self._stamp, self._since = stamp, now
            return False
        return now - self._since > self.patience_seconds


def _ewma(old: float, new: float) -> float:
    return (1 - WEIGHT) * old + WEIGHT * new


def end_process(code: int, reason: str, reason_file: Path | None = None) -> None:
    """Write why, and leave at once: threads that hang would stop an orderly exit.

    It leaves without saying why where that can not be written: a full disk, a log whose lock a frozen process holds.
    """
    try:
        at_last = threading.Timer(LAST_WORDS_SECONDS, os._exit, (code,))
        at_last.daemon = True
        at_last.start()
        log.log(logging.ERROR if code else logging.WARNING, "worker ends", action="exit", reason=reason, code=code)
        if reason_file is not None:
            reason_file.write_text(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {reason}\n")
    finally:
        os._exit(code)


class Watchdog:
    """Looks at the engine once a second."""

    def __init__(self, engine: Watched, stalled: Callable[[str], None], judge: StallJudge | None = None) -> None:
        """`stalled` is called once, with the reason, and is expected to end the process."""
        self._engine, self._stalled = engine, stalled
        self._judge = judge or StallJudge()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._closed.wait(min(LOOK_SECONDS, self._judge.least_seconds / 4)):
            engine = self._engine
            if engine.has_ended:  # else the next job would be the one to find out
                self._stalled("the engine ended; the log says of what")
                return
            if self._judge.is_stalled(now=time.monotonic(), stamp=engine.progress_stamp, in_flight=engine.in_flight):
                patience = self._judge.patience_seconds
                self._stalled(f"the engine made no step for {patience:.0f} s with {engine.in_flight} jobs in flight")
                return
