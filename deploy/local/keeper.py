"""The keeper: a supervisord event listener that does what supervisord lacks.

It starts again a program that supervisord has given up (nothing is ever given up for good), and it kills a worker or
scheduler whose progress file stands still: it hangs, perhaps with every one of its threads, and can not say so.

    python -m deploy.local.keeper PROGRESS_FILE…      (supervisord runs it; a file has the name of its program)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor import childutils

from core.progress import START_SECONDS
from core.settings import Settings
from core.weight_stores import StoreSweeper
from deploy.local.control import ControlError, ProgramState, SupervisorControl

RESTART_AFTER_SECONDS = 10.0


@dataclass(slots=True)
class ProgressWatch:
    """Decides whether a program hangs, by its file's time stamps and a clock that neither jumps nor runs in suspend."""

    stale_seconds: float
    start_seconds: float = START_SECONDS
    _pid: int = 0
    _stamp: int | None = None
    _since: float = 0.0
    _has_moved: bool = False

    def is_stale(self, *, pid: int, stamp: int | None, now: float) -> bool:
        """Whether the process `pid` should be killed; `stamp` is its file's time stamp, None where there is no file.

        A file that goes is a start as well: the process forks its worker anew.
        """
        if pid != self._pid or (stamp is None and self._stamp is not None):
            self._pid, self._stamp, self._since, self._has_moved = pid, stamp, now, False
            return False
        if stamp != self._stamp:
            self._stamp, self._since, self._has_moved = stamp, now, True
            return False
        return now - self._since > (self.stale_seconds if self._has_moved else self.start_seconds)


class Keeper:
    """Looks after the programs once per tick; what it does it says on standard error."""

    def __init__(
        self,
        control: SupervisorControl,
        watches: Mapping[Path, ProgressWatch],
        sweeper: StoreSweeper | None = None,
    ) -> None:
        self._sweeper = sweeper or StoreSweeper()
        self._control = control
        self._watches = watches
        self._given_up_since: dict[str, float] = {}

    def tick(self, now: float) -> None:
        """One look at everything; trouble in talking to supervisord is left to the next tick."""
        try:
            states = self._control.states()
            for program in states.values():
                self._restart_if_given_up(program, now)
            for progress_file, watch in self._watches.items():
                if progress_file.stem in states:
                    self._kill_if_stale(states[progress_file.stem], watch, progress_file, now)
        except ControlError as error:
            _say(f"supervisord did not answer: {error}")
        for folder in self._sweeper.tick(now):
            _say(f"{folder.name} had no user for an hour; its shared memory is free again")

    def _restart_if_given_up(self, program: ProgramState, now: float) -> None:
        if program.state != "FATAL":
            self._given_up_since.pop(program.name, None)
        elif now - self._given_up_since.setdefault(program.name, now) >= RESTART_AFTER_SECONDS:
            del self._given_up_since[program.name]
            _say(f"{program.name} was given up; starting it again")
            self._control.start(program)

    def _kill_if_stale(self, program: ProgramState, watch: ProgressWatch, progress_file: Path, now: float) -> None:
        if program.pid and watch.is_stale(pid=program.pid, stamp=_time_stamp(progress_file), now=now):
            _say(f"{program.name} {program.pid} makes no progress; killing it")
            self._control.kill(program)


def _time_stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)


def main() -> None:
    """Answer supervisord's events until it closes our standard input."""
    seconds = Settings.from_env().progress_stale_seconds
    watches = {Path(name): ProgressWatch(stale_seconds=seconds) for name in sys.argv[1:]}
    keeper = Keeper(SupervisorControl(os.environ["SUPERVISOR_SERVER_URL"]), watches)
    while True:
        childutils.listener.wait()
        keeper.tick(time.monotonic())
        childutils.listener.ok()


if __name__ == "__main__":
    main()
