"""The probes that Kubernetes and compose ask."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.progress import START_SECONDS
from core.settings import Settings
from worker.health import Question, forget_progress, has_been_well, progress_file, start_file, trouble

ROOT = Path(__file__).parents[3]


def probe(folder: Path, module: str = "worker.health", *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "ZIMG_DATA_DIR": str(folder),
        "ZIMG_PROGRESS_STALE_SECONDS": "60",
        "ZIMG_PROGRESS_FILE": "",
    }
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


PROBES = pytest.mark.parametrize("name", ["worker", "scheduler"])


@PROBES
def test_a_process_whose_file_is_fresh_is_well(tmp_path, name):
    (tmp_path / f"{name}.progress").touch()

    assert probe(tmp_path, f"{name}.health").returncode == 0


@PROBES
def test_a_process_that_stands_still_or_is_not_ready_is_not_well_and_the_probe_says_why(tmp_path, name):
    missing = probe(tmp_path, f"{name}.health")
    file = tmp_path / f"{name}.progress"
    file.touch()
    os.utime(file, (1, 1))
    stale = probe(tmp_path, f"{name}.health")

    assert (missing.returncode, stale.returncode) == (1, 1)
    assert "not ready yet" in missing.stderr
    assert "stands still" in stale.stderr


NOW = 1_000_000.0
LIMIT = 60.0


def worker_with(folder: Path, *, progress_age: float | None = None, start_age: float | None = None) -> Settings:
    """Settings of a worker whose files have these ages at NOW; None: there is none."""
    settings = Settings(data_dir=folder, progress_stale_seconds=LIMIT)
    for file, age in ((progress_file(settings), progress_age), (start_file(settings), start_age)):
        if age is not None:
            file.touch()
            os.utime(file, (NOW - age, NOW - age))
    return settings


@pytest.mark.parametrize(
    ("ages", "ready", "alive"),
    [
        ({}, "not ready yet", "has not begun"),
        ({"start_age": 0}, "not ready yet", ""),
        ({"start_age": START_SECONDS - 1}, "not ready yet", ""),
        ({"start_age": START_SECONDS + 1}, "not ready yet", "starts since 901 s"),
        ({"start_age": 500, "progress_age": LIMIT}, "", ""),
        ({"start_age": 500, "progress_age": LIMIT + 1}, "stands still", "stands still"),
        ({"start_age": 5000, "progress_age": 1}, "", ""),
    ],
    ids=["nothing", "begins", "loads", "loads for ever", "well", "stands still", "well for long"],
)
def test_a_worker_that_starts_is_alive_and_not_ready_and_one_that_stands_still_is_neither(tmp_path, ages, ready, alive):
    settings = worker_with(tmp_path, **ages)

    for question, told in ((Question.READY, ready), (Question.ALIVE, alive)):
        said = trouble(settings, NOW, question)
        assert told in said
        assert bool(said) == bool(told)


def test_a_start_forgets_what_the_process_before_it_left(tmp_path):
    """The file of a worker that was well a moment ago made the next one count as ready at once, and then as hanging."""
    settings = worker_with(tmp_path, progress_age=0, start_age=5000)

    forget_progress(settings)

    assert not has_been_well(settings)
    began = start_file(settings).stat().st_mtime
    assert trouble(settings, began + START_SECONDS, Question.ALIVE) == ""
    assert trouble(settings, began, Question.READY)


def test_a_start_with_no_room_for_its_stamp_is_a_start(tmp_path, monkeypatch):
    settings = worker_with(tmp_path, progress_age=0)

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", no_room)

    forget_progress(settings)

    assert not has_been_well(settings), "what the process before it left is forgotten all the same"
    assert "has not begun" in trouble(settings, NOW, Question.ALIVE)


@pytest.mark.parametrize(("arguments", "status"), [((), 1), (("--alive",), 0)])
def test_the_probe_asks_whether_the_worker_is_alive_where_it_is_told_to(tmp_path, arguments, status):
    start_file(Settings(data_dir=tmp_path)).touch()

    assert probe(tmp_path, "worker.health", *arguments).returncode == status


@pytest.mark.parametrize("restarts", ["0", "3"], ids=["others restart it", "a warm parent"])
def test_a_worker_forgets_its_progress_before_it_imports_what_takes_long(tmp_path, restarts):
    settings = worker_with(tmp_path, progress_age=0)
    code = (
        "import sys\nfrom worker import __main__ as main\n"
        "def imported(settings):\n"
        "    print(main.has_been_well(settings), *(name in sys.modules for name in ('torch', 'celery')))\n"
        "    sys.exit(0)\n"
        "main.import_all = imported\nmain.main()"
    )
    environ = {**os.environ, "ZIMG_DATA_DIR": str(tmp_path), "ZIMG_WORKER_RESTARTS": restarts, "ZIMG_PROGRESS_FILE": ""}

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split() == ["False"] * 3, done.stderr
    assert start_file(settings).exists()
