"""What is logged, and what never is."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.logs import configure_logging, error_log_path, get_logger, log_request
from core.settings import Settings


@pytest.fixture
def settings(tmp_path: Path):
    yield Settings(data_dir=tmp_path, log_dir=str(tmp_path / "logs"))
    logging.getLogger().handlers = []


def test_a_request_line_holds_time_level_id_and_duration_and_nothing_else(settings, capsys):
    configure_logging(settings)

    log_request(request_id="req_1", seconds=0.0123)

    line = json.loads(capsys.readouterr().err)
    assert sorted(line) == ["duration_ms", "level", "request_id", "ts"]
    assert line["duration_ms"] == 12.3
    assert datetime.now(UTC) - datetime.fromisoformat(line["ts"]) < timedelta(seconds=60)


def test_a_request_line_keeps_to_the_level_that_was_set(settings, capsys):
    configure_logging(replace(settings, log_level="warning"))

    log_request(request_id="req_1", seconds=0.0123)

    assert capsys.readouterr().err == ""


def test_prompts_and_secrets_are_dropped_whoever_logs_them(settings, capsys):
    configure_logging(settings)

    get_logger("api").warning("odd request", prompt="a red mug", Authorization="Bearer zimg_x", field="size")

    text = capsys.readouterr().err
    assert "a red mug" not in text
    assert "zimg_x" not in text
    assert json.loads(text)["field"] == "size"


def test_errors_go_to_error_log_too_and_infos_do_not(settings):
    configure_logging(settings)

    get_logger("worker").info("fine")
    get_logger("worker").error("picture was black", job_id="j1")

    lines = error_log_path(settings).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["picture was black"]


def test_four_processes_rotating_one_error_log_lose_no_line(tmp_path):
    script = (
        "import sys, core.logs as logs\n"
        "from core.settings import Settings\n"
        "from pathlib import Path\n"
        "logs.ERROR_LOG_BYTES = 20_000; logs.ERROR_LOG_FILES = 100\n"
        f"logs.configure_logging(Settings(log_dir={str(tmp_path)!r}, data_dir=Path({str(tmp_path)!r})))\n"
        "for n in range(200): logs.get_logger('t').error('line', number=n, process=int(sys.argv[1]))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(n)], stderr=subprocess.DEVNULL) for n in range(4)]
    assert [p.wait(timeout=60) for p in processes] == [0, 0, 0, 0]

    lines = [json.loads(line) for path in tmp_path.glob("error.log*") for line in path.read_text().splitlines()]
    assert len({(line["process"], line["number"]) for line in lines}) == 800
    assert len(list(tmp_path.glob("error.log*"))) > 1, "the log never rotated, so this test proved nothing"
