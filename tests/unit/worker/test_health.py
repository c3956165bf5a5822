"""The probes that Kubernetes asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def probe(folder: Path, module: str = "worker.health") -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "ZIMG_DATA_DIR": str(folder),
        "ZIMG_PROGRESS_STALE_SECONDS": "60",
        "ZIMG_PROGRESS_FILE": "",
    }
    command = [sys.executable, "-m", module]
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
