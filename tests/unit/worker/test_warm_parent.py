"""The parent that forks workers: whom it follows up, what it passes on, and that no worker outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.queue_processes import wait_until
from worker.warm_parent import ASK_THE_DRIVER, WINDOW_SECONDS, Restarts, cuda_asleep, exit_code, forks_work

ROOT = Path(__file__).parents[3]
#: No test here is about speed: busy cores may take so long, a pytest timeout is further away.
PATIENCE_SECONDS = 120.0
#: Says its pid and ready, tells each signal, and ends as the file `end` says. It waits for signals by a pipe that each
#: of them is written to: `signal.pause` and `time.sleep` would miss one that comes just before the kernel's pause.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from worker.warm_parent import Restarts, WarmParent, hold_signals

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as a terminal starts it, though these tests may run under nohup
if sys.argv[4] != "0":  # as `nohup` and some supervisors start a process
    signal.signal(int(sys.argv[4]), signal.SIG_IGN)
hold_signals()
folder = Path(sys.argv[1])
came, comes = os.pipe()
os.set_blocking(comes, False)

def tell(number, _):
    with (folder / "told").open("a") as file:
        file.write(f"{os.getpid()} {signal.Signals(number).name}\\n")
    if number == signal.SIGTERM:
        sys.exit(0)

def work():
    signal.set_wakeup_fd(comes)
    if (folder / "early").exists():
        (folder / "early").unlink()
        os.kill(os.getppid(), signal.SIGTERM)
        while True:
            os.read(came, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, tell)
    with (folder / "pids").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    how = (folder / "end").read_text() if (folder / "end").exists() else ""
    if how == "raise":
        raise RuntimeError("planted")
    if how:
        sys.exit(int(how))
    while True:
        os.read(came, 1)

before = (folder / "before").touch
sys.exit(WarmParent(work, Restarts(int(sys.argv[2])), before=before, was_ready=lambda: sys.argv[3] == "ready").run())
"""


class Parent:
    """A process with a warm parent in it, whose worker only waits."""

    def __init__(self, folder: Path, restarts: int, *, ready: bool, ignored: int) -> None:
        told = [str(folder), str(restarts), "ready" if ready else "never", str(int(ignored))]
        command = [sys.executable, "-c", SCRIPT, *told]
        self.folder = folder
        self.process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def worker(self, number: int) -> int:
        """The pid of the so many-eth worker, once it lives."""
        wait_until(lambda: len(self.lines("pids")) > number, seconds=PATIENCE_SECONDS)
        return int(self.lines("pids")[number])

    def kill_worker(self, number: int) -> None:
        os.kill(self.worker(number), signal.SIGKILL)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[..., Parent]]:
    opened: list[Parent] = []

    def start(restarts: int = 3, *, ready: bool = True, end: str = "", ignored: int = 0) -> Parent:
        if end:
            (tmp_path / "end").write_text(end)
        opened.append(Parent(tmp_path, restarts, ready=ready, ignored=ignored))
        return opened[-1]

    yield start
    for each in opened:
        each.process.kill()
        each.process.wait(PATIENCE_SECONDS)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("code", "was_ready", "ends_before", "expected"),
    [
        (137, True, (), True),
        (70, True, (10.0,), True),
        (0, True, (), False),
        (78, False, (), False),
        (70, True, (10.0, 20.0), False),
        (70, True, (-WINDOW_SECONDS, 20.0), True),
    ],
    ids=["killed", "stalled", "asked to stop", "never ready", "too often", "long ago"],
)
def test_a_worker_is_followed_by_another(
    code: int, was_ready: bool, ends_before: tuple[float, ...], expected: bool
) -> None:
    restarts = Restarts(2)
    for at in ends_before:
        assert restarts.allow(code=70, was_ready=True, now=at)
    assert restarts.allow(code=code, was_ready=was_ready, now=30.0) is expected


def test_exit_codes_are_told_as_a_shell_tells_them() -> None:
    assert exit_code(78 << 8) == 78
    assert exit_code(signal.SIGKILL) == 137


def test_a_worker_that_dies_once_ready_is_followed_until_it_dies_too_often(parent: Callable[..., Parent]) -> None:
    warm = parent(restarts=1)
    warm.kill_worker(0)
    warm.kill_worker(1)
    assert warm.process.wait(PATIENCE_SECONDS) == 137
    assert len(warm.lines("pids")) == 2


@pytest.mark.parametrize(("end", "code"), [("78", 78), ("raise", 1)])
def test_a_worker_that_never_became_ready_ends_its_parent_with_its_code(
    parent: Callable[..., Parent], end: str, code: int
) -> None:
    warm = parent(ready=False, end=end)
    assert warm.process.wait(PATIENCE_SECONDS) == code
    assert len(warm.lines("pids")) == 1


def test_a_worker_that_left_by_itself_is_not_followed(parent: Callable[..., Parent]) -> None:
    warm = parent(end="0")
    assert warm.process.wait(PATIENCE_SECONDS) == 0
    assert len(warm.lines("pids")) == 1


def test_being_asked_to_stop_reaches_the_worker_and_is_the_end(parent: Callable[..., Parent]) -> None:
    warm = parent()
    child = warm.worker(0)
    warm.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: bool(warm.lines("told")), seconds=PATIENCE_SECONDS)
    warm.process.send_signal(signal.SIGTERM)
    assert warm.process.wait(PATIENCE_SECONDS) == 0
    assert warm.lines("told") == [f"{child} SIGUSR1", f"{child} SIGTERM"]


def test_a_worker_asked_to_stop_before_it_listens_ends_in_order(parent: Callable[..., Parent], tmp_path: Path) -> None:
    (tmp_path / "early").touch()
    assert parent().process.wait(PATIENCE_SECONDS) == 0


def test_a_worker_killed_after_its_parent_was_asked_to_stop_is_not_followed(parent: Callable[..., Parent]) -> None:
    warm = parent()
    child = warm.worker(0)
    warm.process.send_signal(signal.SIGINT)
    wait_until(lambda: bool(warm.lines("told")), seconds=PATIENCE_SECONDS)
    os.kill(child, signal.SIGKILL)
    assert warm.process.wait(PATIENCE_SECONDS) == 137
    assert len(warm.lines("pids")) == 1


def test_a_terminal_that_closes_ends_the_worker_in_order(parent: Callable[..., Parent]) -> None:
    warm = parent()
    child = warm.worker(0)
    os.killpg(warm.process.pid, signal.SIGHUP)
    assert warm.process.wait(PATIENCE_SECONDS) == 0
    assert warm.lines("told") == [f"{child} SIGTERM"]


def test_under_nohup_a_terminal_may_close(parent: Callable[..., Parent]) -> None:
    warm = parent(ignored=signal.SIGHUP)
    child = warm.worker(0)
    warm.process.send_signal(signal.SIGHUP)
    warm.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: bool(warm.lines("told")), seconds=PATIENCE_SECONDS)
    assert warm.lines("told") == [f"{child} SIGUSR1"]
    assert warm.process.poll() is None


def test_a_parent_that_was_started_with_its_childrens_ends_ignored_waits_for_them(
    parent: Callable[..., Parent],
) -> None:
    warm = parent(end="78", ready=False, ignored=signal.SIGCHLD)
    assert warm.process.wait(PATIENCE_SECONDS) == 78


def test_a_terminals_ctrl_c_reaches_the_worker_once(parent: Callable[..., Parent]) -> None:
    """Celery takes a second one for the wish to leave its jobs at once."""
    warm = parent()
    warm.worker(0)
    os.killpg(warm.process.pid, signal.SIGINT)  # to every process of the terminal's group
    wait_until(lambda: bool(warm.lines("told")), seconds=PATIENCE_SECONDS)
    warm.process.send_signal(signal.SIGTERM)
    warm.process.wait(PATIENCE_SECONDS)
    assert [line.split()[1] for line in warm.lines("told")] == ["SIGINT", "SIGTERM"]


@pytest.mark.parametrize("stands_still", [False, True])
def test_a_worker_dies_with_its_parent(parent: Callable[..., Parent], stands_still: bool) -> None:
    """One that stands still gets the kernel's SIGHUP for orphans besides, so that it alone would prove nothing."""
    warm = parent()
    child = warm.worker(0)
    if stands_still:
        os.kill(child, signal.SIGSTOP)
    assert not is_gone(child)
    warm.process.kill()
    warm.process.wait(PATIENCE_SECONDS)
    wait_until(lambda: is_gone(child), seconds=PATIENCE_SECONDS)
    assert is_gone(child)


def test_no_signal_falls_between_a_worker_that_dies_and_the_next(parent: Callable[..., Parent]) -> None:
    """Told to stop at that moment it stops, whichever of the two the kernel tells first."""
    for turn in range(15):
        warm = parent()
        child = warm.worker(turn)
        os.kill(child, signal.SIGKILL)
        warm.process.send_signal(signal.SIGTERM)
        assert warm.process.wait(PATIENCE_SECONDS) in (0, 137)
        assert all(is_gone(int(pid)) for pid in warm.lines("pids"))
        (warm.folder / "pids").write_text("".join(f"{pid}\n" for pid in warm.lines("pids")[: turn + 1]))


@pytest.mark.parametrize("answer", [True, False])
def test_whether_forks_work_is_asked_in_a_fork(answer: bool) -> None:
    """In the process itself CUDA works all the same."""
    here = os.getpid()
    assert forks_work(lambda: answer and os.getpid() != here) is answer


@pytest.mark.parametrize("before", [None, "0"])
def test_what_is_imported_ahead_asks_the_driver_and_later_torch_asks_cuda(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv(ASK_THE_DRIVER, raising=False)
    if before is not None:
        monkeypatch.setenv(ASK_THE_DRIVER, before)
    with cuda_asleep():
        assert os.environ[ASK_THE_DRIVER] == "1"
    assert os.environ.get(ASK_THE_DRIVER) == before
