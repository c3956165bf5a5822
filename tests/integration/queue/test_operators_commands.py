"""The audit and the bill say by their exit status whether they looked at a zimg at all; each run is a real process."""

import os
import subprocess
import sys

import pytest

from core.redis_client import PREFIX
from tests.fixtures.redis import free_port
from tests.fixtures.stack import ROOT

AUDIT, BILL = ("scheduler.auditor",), ("scheduler.ledger", "export")


def run(command, url, **environ):
    """The command as an operator starts it."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env={**os.environ, "REDIS_URL": url, **environ},
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip


@pytest.fixture
def url(valkey, valkey_server):
    """Of a Redis that is there and holds nothing of zimg; somebody else's keys do not count."""
    valkey.set("somebody:else", "1")
    return valkey_server.url


@pytest.mark.parametrize("command", [AUDIT, BILL], ids=["audit", "bill"])
def test_a_redis_without_zimg_is_neither_clean_nor_an_empty_bill(command, url, valkey, tmp_path):
    done = run(command, url, ZIMG_LOG_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "found no zimg" in done.stderr
    assert "make audit" in done.stderr
    assert done.stdout == ""
    assert valkey.keys() == ["somebody:else"], "nothing is written into a Redis that is not ours"


@pytest.mark.parametrize("command", [AUDIT, BILL], ids=["audit", "bill"])
def test_a_redis_that_holds_zimg_is_looked_at(command, url, valkey, tmp_path):
    valkey.hset(f"{PREFIX}audit", "at", 1)

    done = run(command, url, ZIMG_LOG_DIR=str(tmp_path))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [AUDIT, BILL], ids=["audit", "bill"])
def test_a_redis_that_is_away_is_a_sentence_and_no_fault_of_the_books(command, tmp_path):
    done = run(command, f"redis://:secret@127.0.0.1:{free_port()}/0", ZIMG_LOG_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "Redis did not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", [AUDIT, BILL], ids=["audit", "bill"])
def test_a_setting_that_can_not_work_is_a_sentence(command, tmp_path):
    done = run(command, "redis://127.0.0.1:1/0", ZIMG_LEDGER_DAYS="3", ZIMG_LOG_DIR=str(tmp_path))

    assert done.returncode == 2
    assert "ZIMG_LEDGER_DAYS" in done.stderr
    assert "Traceback" not in done.stderr
