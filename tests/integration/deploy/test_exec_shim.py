"""No program outlives the one that started it, whoever is killed and how."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.supervisor_config import SHIM
from tests.fixtures.stack import wait_until

#: A program that starts a child of its own, writes both process ids, and stays; SIGTERM to it is written down.
PROGRAM = """
import os, signal, subprocess, sys, time
def on_term(*_):
    open("terminated", "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, on_term)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.replace("pids.new", "pids")
time.sleep(600)
"""


class Parent:
    """A process that starts PROGRAM through the shim, as supervisord does."""

    def __init__(self, folder: Path, signal_when_orphaned: str) -> None:
        self.folder = folder
        programs = folder / "programs.json"
        entry = {
            "command": [sys.executable, "-c", PROGRAM], "environment": {"ADDED": "yes"}, "directory": str(folder),
            "signal_when_orphaned": signal_when_orphaned, "in_use": str(folder / "in-use"),
        }  # fmt: skip
        programs.write_text(json.dumps({"one": entry}))
        code = (
            "import os, subprocess, sys; os.environ['ZIMG_PARENT_PID'] = str(os.getpid());"
            f"subprocess.run([sys.executable, '-I', {str(SHIM)!r}, {str(programs)!r}, 'one'])"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code])
        wait_until((folder / "pids").exists, seconds=20)
        self.program, self.grandchild = map(int, (folder / "pids").read_text().split())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def is_in_use(self) -> bool:
        descriptor = os.open(self.folder / "in-use", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_program_dies_with_the_parent_that_was_killed(tmp_path):
    parent = Parent(tmp_path, "SIGKILL")

    parent.kill()

    wait_until(lambda: not is_alive(parent.program), seconds=60)
    assert not is_alive(parent.program)
    os.kill(parent.grandchild, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_program_that_stores_is_told_to_end_and_may_say_its_last_words(tmp_path):
    parent = Parent(tmp_path, "SIGTERM")

    parent.kill()

    wait_until((tmp_path / "terminated").exists, seconds=60)
    assert (tmp_path / "terminated").exists()
    os.kill(parent.grandchild, signal.SIGKILL)


def test_the_folder_counts_as_in_use_until_the_last_grandchild_is_gone(tmp_path):
    parent = Parent(tmp_path, "SIGKILL")
    parent.kill()
    os.kill(parent.program, signal.SIGKILL) if is_alive(parent.program) else None
    wait_until(lambda: not is_alive(parent.program), seconds=60)

    assert parent.is_in_use()
    os.kill(parent.grandchild, signal.SIGKILL)
    wait_until(lambda: not parent.is_in_use(), seconds=60)


def test_the_program_has_the_environment_of_its_entry(tmp_path):
    parent = Parent(tmp_path, "SIGKILL")

    environ = psutil.Process(parent.program).environ()

    assert environ["ADDED"] == "yes"
    assert environ["ZIMG_PARENT_PID"] == str(parent.program)
    parent.kill()
    os.kill(parent.grandchild, signal.SIGKILL)


def test_a_program_whose_parent_is_already_gone_does_not_start(tmp_path):
    entry = {
        "command": [sys.executable, "-c", "open('started', 'w')"], "environment": {}, "directory": str(tmp_path),
        "signal_when_orphaned": "SIGKILL", "in_use": str(tmp_path / "in-use"),
    }  # fmt: skip
    (tmp_path / "programs.json").write_text(json.dumps({"one": entry}))

    done = subprocess.run(
        [sys.executable, "-I", SHIM, tmp_path / "programs.json", "one"],
        env={**os.environ, "ZIMG_PARENT_PID": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "is gone" in done.stderr
    assert not (tmp_path / "started").exists()
