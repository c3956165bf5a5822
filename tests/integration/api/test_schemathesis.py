"""Every route, fuzzed by its own OpenAPI document: no crash, no undocumented answer, no valid request refused."""

import subprocess
import sys
from pathlib import Path

from tests.integration.api.conftest import live_api

CONFIG = Path(__file__).with_name("schemathesis.toml")
ADMIN_KEY = "the-operators-own-key"
SEED = "20261124"


def test_schemathesis_finds_nothing(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_ADMIN_KEY=ADMIN_KEY, ZIMG_SYNC_WAIT_SECONDS="5") as api, worker.at_work():
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "--no-color", "run",
                f"{api.url}/openapi.json", "--url", api.url, "--header", f"Authorization: Bearer {ADMIN_KEY}",
                "--max-examples", "10", "--seed", SEED, "--workers", "1",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout[-12_000:]
