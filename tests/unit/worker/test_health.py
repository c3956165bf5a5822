"""The probe that Kubernetes asks."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def probe(folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "ZIMG_DATA_DIR": str(folder),
        "ZIMG_PROGRESS_STALE_SECONDS": "60",
        "ZIMG_PROGRESS_FILE": "",
    }
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_worker_whose_file_is_fresh_is_well(tmp_path):
    (tmp_path / "worker.progress").touch()

    assert probe(tmp_path).returncode == 0


def test_a_worker_that_stands_still_or_is_not_ready_is_not_well_and_the_probe_says_why(tmp_path):
    missing = probe(tmp_path)
    file = tmp_path / "worker.progress"
    file.touch()
    os.utime(file, (1, 1))
    stale = probe(tmp_path)

    assert (missing.returncode, stale.returncode) == (1, 1)
    assert "not ready yet" in missing.stderr
    assert "stands still" in stale.stderr
