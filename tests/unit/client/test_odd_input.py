"""What a person hands to the command or the Python client by mistake: said in a sentence, and no traceback."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.client import Zimg, ZimgProblem
from client.command import app

NOWHERE = "http://127.0.0.1:1"
ROOT = Path(__file__).parents[3]
ODD_KEYS = ["клюç", "\N{LEFT DOUBLE QUOTATION MARK}zimg_x\N{RIGHT DOUBLE QUOTATION MARK}", "bad\nkey", "bad\x00key"]


def ran(*words, **environ):
    made = CliRunner().invoke(app, [*words], env={"COLUMNS": "300", "NO_COLOR": "1", **environ})
    return made.exit_code, " ".join(made.output.split())


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize(("command", "option"), [("jobs", "--key"), ("keys list", "--admin-key")])
def test_a_key_that_no_header_holds_is_wrong_usage(command, option, key):
    code, told = ran(*command.split(), option, key, "--url", NOWHERE)

    assert code == 2
    assert option in told
    assert "no key" in told
    assert key not in told


def test_a_key_of_the_environment_is_looked_at_too():
    code, told = ran("jobs", "--url", NOWHERE, ZIMG_API_KEY="клюç")

    assert (code, "no key" in told) == (2, True)


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_that_no_header_holds_is_a_problem_in_python_too(key):
    with pytest.raises(ZimgProblem, match="no key") as told:
        Zimg(NOWHERE, key=key)

    assert (told.value.status, told.value.code) == (0, "invalid_api_key")


@pytest.mark.parametrize("around", [" zimg_x", "zimg_x ", "zimg_x\n"])
def test_blanks_around_a_key_are_left_out(around):
    with Zimg(NOWHERE, key=around) as zimg:
        assert zimg._http.headers["Authorization"] == "Bearer zimg_x"


@pytest.mark.parametrize("url", ["localhost:8080", "http://[::1", "http://127.0.0.1:99999", "", "ftp://127.0.0.1"])
def test_an_address_that_is_none_is_a_problem_at_once(url, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)

    with pytest.raises(ZimgProblem, match="no web address") as told, Zimg(url) as zimg:
        zimg.usage()

    assert told.value.status == 0
    assert pauses == [], "it is not tried again"


def test_what_can_not_be_sent_is_a_problem_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server, Zimg(f"http://127.0.0.1:{server.getsockname()[1]}") as zimg:
        for key in ("заказ", "two\nlines"):
            with pytest.raises(ZimgProblem, match="can not be sent") as told:
                zimg.submit("a", idempotency_key=key)
            assert (told.value.status, told.value.code) == (0, "invalid_request")
    with pytest.raises(ZimgProblem, match="can not be sent"):
        Zimg(NOWHERE, language="中文")


def test_a_closed_standard_input_is_wrong_usage(tmp_path):
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    called = f"'{sys.executable}' -m client gen - --url {NOWHERE} <&-"

    made = subprocess.run(
        ["sh", "-c", called], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert made.returncode == 2, made.stderr
    assert "standard input" in made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.parametrize("words", [("gen", "a"), ("batch", "list.csv")])
def test_a_minus_is_no_place_for_a_result(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\n")

    code, told = ran(*words, "-o", "-", "--url", NOWHERE)

    assert code == 2
    assert "standard output" in told
    assert [one.name for one in tmp_path.iterdir()] == ["list.csv"]
