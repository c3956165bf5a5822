"""The plan as files: supervisord's configuration and the programs that the exec shim starts.

supervisord runs with the data folder as its working directory and every path here is relative to it, so that no
character in a folder's name needs escaping. Commands and secrets stand in programs.json, which only its owner reads.
"""

from __future__ import annotations

import json
import resource
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from deploy.local.embedded import write_private
from deploy.local.locks import IN_USE
from deploy.local.plan import ROOT, Program

RUN_FOLDER = "run"
PROGRAMS_FILE = f"{RUN_FOLDER}/programs.json"
CONFIG_FILE = f"{RUN_FOLDER}/supervisord.conf"
LOG_FOLDER = "logs"
SUPERVISOR = "supervisord"
SHIM = Path(__file__).with_name("exec_shim.py")
OPEN_FILES = 4096  # one for each connection and stream of the api

_HEAD = """\
[supervisord]
nodaemon=true
silent=true
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={run}/supervisord.pid
childlogdir={logs}
minfds={open_files}

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

"""

_PROGRAM = """\
[{kind}:{name}]
command={command}
autostart=true
autorestart=true
startsecs={start_seconds}
startretries=5
stopsignal=TERM
stopwaitsecs={stop_seconds}
killasgroup=true
priority={priority}
{output}

"""

#: A listener speaks to supervisord over its standard output; what it has to say goes to standard error.
_PROGRAM_OUTPUT = """\
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3"""
_LISTENER_OUTPUT = """\
events=TICK_5,PROCESS_STATE_FATAL
stdout_logfile=NONE
stderr_logfile={logs}/{name}.log
stderr_logfile_maxbytes=1MB
stderr_logfile_backups=1"""


def shim_command(data_dir: Path, name: str) -> list[str]:
    """The command that becomes the program `name`."""
    return [sys.executable, "-I", str(SHIM), str(data_dir / PROGRAMS_FILE), name]


def write_files(data_dir: Path, programs: Sequence[Program], *, socket: str) -> None:
    """Write supervisord's configuration and programs.json below `data_dir`, which must be absolute."""
    for folder in (RUN_FOLDER, LOG_FOLDER):
        (data_dir / folder).mkdir(parents=True, exist_ok=True)
    entries = {program.name: _entry(data_dir, program) for program in programs}
    entries[SUPERVISOR] = {
        "command": [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIG_FILE],
        "environment": {},
        "directory": str(data_dir),
        "signal_when_orphaned": "SIGTERM",
        "in_use": str(data_dir / IN_USE),
    }
    write_private(data_dir / PROGRAMS_FILE, json.dumps(entries, indent=2) + "\n")
    write_private(data_dir / CONFIG_FILE, render(programs, socket=socket))


def render(programs: Iterable[Program], *, socket: str) -> str:
    """supervisord's configuration."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files = OPEN_FILES if hard_limit == resource.RLIM_INFINITY else min(OPEN_FILES, hard_limit)
    text = _HEAD.format(logs=LOG_FOLDER, run=RUN_FOLDER, open_files=open_files, socket=_escape(socket))
    groups: dict[str, list[Program]] = {}
    for program in programs:
        text += _section(program)
        if not program.is_listener:
            groups.setdefault(program.group, []).append(program)
    for group, members in groups.items():
        names = ",".join(member.name for member in members)
        text += f"[group:{group}-group]\nprograms={names}\npriority={members[0].stop_first}\n\n"
    return text


def _section(program: Program) -> str:
    command = [sys.executable, "-I", str(SHIM), PROGRAMS_FILE, program.name]
    output = _LISTENER_OUTPUT if program.is_listener else _PROGRAM_OUTPUT
    return _PROGRAM.format(
        kind="eventlistener" if program.is_listener else "program",
        name=program.name,
        command=_escape(shlex.join(command)),
        start_seconds=program.start_seconds,
        stop_seconds=program.stop_seconds,
        priority=program.stop_first,
        output=output.format(logs=LOG_FOLDER, name=program.name),
    )


def _entry(data_dir: Path, program: Program) -> dict[str, object]:
    return {
        "command": program.command,
        "environment": program.environment,
        "directory": str(ROOT),
        "signal_when_orphaned": program.signal_when_orphaned,
        "in_use": str(data_dir / IN_USE),
    }


def _escape(text: str) -> str:
    return text.replace("%", "%%")
