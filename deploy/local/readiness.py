"""How far a start is: what is up, what is awaited, and when it has failed for good."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from core.settings import Settings
from deploy.local.control import ControlError, ProgramState, SupervisorControl
from deploy.local.output_file import TAIL_LINES, KeptOutput
from deploy.local.supervisor_config import LOG_FOLDER

POLL_SECONDS = 0.2
REMINDER_SECONDS = 10.0
STARTS_UNTIL_FAILED = 4


class StartFailed(Exception):
    """Raised when a program can not be started; the text has its last lines and a sentence for the person."""


@dataclass(slots=True)
class ReadinessWatch:
    """Follows one start; `lines()` yields what to tell the person, the last one being the URL."""

    settings: Settings
    control_url: str
    supervisor: subprocess.Popen[bytes]
    said: KeptOutput | None = None
    _starts: dict[str, set[int]] = field(default_factory=dict)
    _reported: set[str] = field(default_factory=set)

    def lines(self, *, until_stopped: Callable[[], bool]) -> Iterator[str]:
        """Lines until the service is ready, stopped or its supervisor gone; raises StartFailed."""
        begun = last_line = time.monotonic()
        while not until_stopped() and self.supervisor.poll() is None:
            now = time.monotonic()
            states = self._states()
            self._raise_if_failed(states)
            answer = self._probe("/readyz")
            if answer is not None and answer[0] == http.client.OK:
                yield f"ready after {now - begun:.1f} s: {self.url}   (Ctrl-C stops it)"
                return
            for name in self._newly_up(states, answered=answer is not None):
                yield f"  {name} is up ({now - begun:.1f} s)"
                last_line = now
            if now - last_line > REMINDER_SECONDS:
                yield f"  waiting for {self._awaited(answer)}"
                last_line = now
            time.sleep(POLL_SECONDS)
        if not until_stopped():
            raise StartFailed(last_words(self.said.last_lines() if self.said else (), "The supervisor did not start"))

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page."""
        host = self.settings.host
        if host in ("0.0.0.0", "::", "localhost"):  # noqa: S104 - compared, not bound
            host = "127.0.0.1"
        return f"http://{'[' + host + ']' if ':' in host else host}:{self.settings.port}"

    def _states(self) -> dict[str, ProgramState]:
        try:
            return SupervisorControl(self.control_url).states()
        except ControlError:
            return {}  # its socket is not there yet

    def _raise_if_failed(self, states: dict[str, ProgramState]) -> None:
        for name, program in states.items():
            starts = self._starts.setdefault(name, set())
            if program.pid:
                starts.add(program.pid)
            if program.state == "FATAL" or len(starts) >= STARTS_UNTIL_FAILED:
                raise StartFailed(self._tail(name, f"{name} does not stay up"))

    def _newly_up(self, states: dict[str, ProgramState], *, answered: bool) -> Iterator[str]:
        for name in ("redis", "storage", "scheduler"):
            if name in states and states[name].state == "RUNNING" and name not in self._reported:
                self._reported.add(name)
                yield name
        if answered and "api" not in self._reported:
            self._reported.add("api")
            yield "api"

    def _awaited(self, answer: tuple[int, str] | None) -> str:
        if answer is None:
            return "the api"
        try:
            detail = json.loads(answer[1]).get("detail")
        except (ValueError, AttributeError):
            detail = None
        return str(detail or f"the worker, which loads {self.settings.model}")

    def _probe(self, path: str) -> tuple[int, str] | None:
        """Status and body, or None while nobody answers."""
        connection = http.client.HTTPConnection(self.url.rpartition("/")[2], timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _tail(self, name: str, sentence: str) -> str:
        """The end of a program's log and what to do about it."""
        path = self.settings.data_dir / LOG_FOLDER / f"{name}.log"
        try:
            lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            lines = []
        return last_words(lines, sentence, begin=f"the last lines of {path}:")


def last_words(lines: Iterable[str], sentence: str, *, begin: str = "the supervisor said last:") -> str:
    """What a program said last, and a sentence about it."""
    return "\n".join([begin, *(f"    {line}" for line in lines), f"zimg: {sentence}."])
