"""Start one program of the local service so that it can not outlive the process that started it.

    python -I exec_shim.py PROGRAMS.json NAME

The kernel sends the program a signal when its parent dies (PR_SET_PDEATHSIG, Linux), however it dies. The signal
survives the exec, and fires when the *thread* that forked ends: supervisord forks from its main and only thread. The
program also holds a shared lock on the data folder's `in-use` file for as long as it, or a child of its own, lives;
the next start waits for that lock, so two generations never write to one folder.

Standard library only, and nothing of zimg: it runs before anything else can go wrong.
"""

import ctypes
import fcntl
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
#: Holds the process id of whoever starts the next shim, so that it notices a parent that died before it looked.
PARENT = "ZIMG_PARENT_PID"


def main() -> None:
    """Become the program NAME of PROGRAMS.json; exits with a sentence when its parent is already gone."""
    program = json.loads(Path(sys.argv[1]).read_text())[sys.argv[2]]
    die_with_parent(signal.Signals[program["signal_when_orphaned"]])
    hold(program["in_use"])
    os.chdir(program["directory"])
    os.environ.update(program["environment"])
    os.environ[PARENT] = str(os.getpid())  # an exec keeps the process id: this is the parent of what we start
    os.execv(program["command"][0], program["command"])  # noqa: S606 - to become it is the point


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for `number` at the parent's death; only then look whether the parent still lives."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    expected = os.environ.get(PARENT)
    if expected is not None and int(expected) != os.getppid():
        sys.exit("zimg: the process that started this one is gone")


def hold(in_use: str) -> None:
    """Take a shared lock that every descendant inherits; it is free again when the last of them is gone."""
    descriptor = os.open(in_use, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)


if __name__ == "__main__":
    main()
