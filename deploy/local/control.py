"""Talk to a running supervisord over its socket."""

from __future__ import annotations

import http.client
import xmlrpc.client
from dataclasses import dataclass
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

#: What a call raises while supervisord is not up yet, or no more, or says no.
ControlError = (OSError, http.client.HTTPException, xmlrpc.client.Error)


@dataclass(frozen=True, slots=True)
class ProgramState:
    """A program as supervisord sees it; `state` is STARTING, RUNNING, BACKOFF, FATAL, …; `pid` 0 = not running."""

    name: str
    group: str
    state: str
    pid: int
    started: int

    @property
    def full_name(self) -> str:
        """How supervisord's calls name it."""
        return f"{self.group}:{self.name}"


class SupervisorControl:
    """supervisord's calls that the local service needs; `url` is unix:///path. Not for several threads."""

    def __init__(self, url: str) -> None:
        transport = SupervisorTransport(None, None, url)
        self._calls: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor

    def states(self) -> dict[str, ProgramState]:
        """All programs by name; raises one of ControlError."""
        answer = cast("list[dict[str, Any]]", self._calls.getAllProcessInfo())
        return {
            info["name"]: ProgramState(info["name"], info["group"], info["statename"], info["pid"], info["start"])
            for info in answer
        }

    def start(self, program: ProgramState) -> None:
        """Start it without waiting; raises one of ControlError."""
        self._calls.startProcess(program.full_name, False)

    def kill(self, program: ProgramState) -> None:
        """SIGKILL; supervisord then starts it again. Raises one of ControlError."""
        self._calls.signalProcess(program.full_name, "KILL")
