"""A full disk under the logs: the supervisor lives through it, and what it said last is quoted all the same.

`/dev/full` is a disk without room: whatever is written there is refused as a full disk refuses it.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from core.settings import Settings
from deploy.local.control import ControlError, SupervisorControl
from deploy.local.launcher import Launcher
from deploy.local.plan import Program
from deploy.local.readiness import ReadinessWatch, StartFailed
from deploy.local.supervisor_config import write_files
from tests.fixtures.stack import wait_until

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")


def make_launcher(folder, code):
    """A launcher whose supervisord runs one program, with no room for supervisord's own words."""
    (folder / "logs").mkdir()
    for name in ("supervisord.log", "start.log"):
        (folder / "logs" / name).symlink_to(FULL)
    program = Program(
        name="one", command=[sys.executable, "-c", code], group="all", stop_first=1, stop_seconds=1, start_seconds=0,
        signal_when_orphaned="SIGKILL",
    )  # fmt: skip
    write_files(folder, [program], socket=str(folder / "run" / "supervisor.sock"))
    return Launcher(Settings(data_dir=folder), dict(os.environ))


@pytest.fixture
def folder(tmp_path):
    """Short enough for the socket's path."""
    made = tmp_path / "d"
    made.mkdir()
    return made


def test_a_full_disk_under_the_logs_does_not_end_the_supervisor(folder):
    launcher = make_launcher(folder, "import time; time.sleep(0.2)")
    supervisor = launcher._start()
    pids = set()

    def is_started_anew():
        with suppress(*ControlError):
            pids.add(SupervisorControl(f"unix://{folder}/run/supervisor.sock").states()["one"].pid)
        return len(pids - {0}) >= 3 or supervisor.poll() is not None

    try:
        wait_until(is_started_anew, seconds=60)

        assert supervisor.poll() is None, "it died of the words that it could not write"
    finally:
        supervisor.terminate()
        supervisor.wait(timeout=30)


def test_a_supervisor_that_can_not_start_is_quoted_though_the_disk_is_full(folder):
    launcher = make_launcher(folder, "")
    (folder / "run" / "supervisord.conf").write_text("[supervisord]\nlogfile_maxbytes=many\n")
    supervisor = launcher._start()
    supervisor.wait(timeout=60)
    watch = ReadinessWatch(launcher.settings, "unix:///none", supervisor, launcher._said)

    with pytest.raises(StartFailed) as failed:
        list(watch.lines(until_stopped=lambda: False))

    assert "many" in str(failed.value)
    assert "The supervisor did not start" in str(failed.value)


def test_a_supervisor_that_dies_later_is_quoted_too(folder, capsys):
    launcher = make_launcher(folder, "")
    (folder / "run" / "supervisord.conf").write_text("[supervisord]\nlogfile_maxbytes=many\n")
    supervisor = launcher._start()

    class Ready:
        def lines(self, **_):
            return iter(())

    assert launcher._follow(Ready(), supervisor) == 1

    said = capsys.readouterr().out
    assert "many" in said
    assert "start again" in said
