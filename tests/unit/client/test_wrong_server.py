"""An address at which something else than zimg answers, or nobody: one sentence, and no traceback."""

import json
import socket

import pytest
from typer.testing import CliRunner

from client import client as client_module
from client import terminal
from client.client import Zimg, ZimgProblem
from client.command import app

STRANGERS = {
    "a page": "<h1>Welcome to nginx!</h1>",
    "nothing": "",
    "other JSON": '{"ok": true}',
    "a list": "[1, 2]",
    "a number": "7",
    "rows of something else": '{"object": "list", "data": [{"name": "x"}], "next_cursor": null}',
}
COMMANDS = (
    "gen a",
    "batch list.csv",
    "jobs",
    "cancel abc",
    "usage --days 3",
    "keys list",
    "keys create shop",
    "keys revoke abc",
    "webhooks list",
    "webhooks deliveries wh_1",
    "webhooks resend wh_1 whd_1",
    "webhooks test wh_1",
    "webhooks on wh_1",
    "webhooks listen",
)

CALLS = {
    "submit": lambda zimg: zimg.submit("a"),
    "job": lambda zimg: zimg.job("a"),
    "jobs": lambda zimg: zimg.jobs(),
    "wait": lambda zimg: zimg.wait("a"),
    "cancel": lambda zimg: zimg.cancel("a"),
    "cancel_all": lambda zimg: zimg.cancel_all(["a"]),
    "models": lambda zimg: zimg.models(),
    "batch": lambda zimg: zimg.batch("b"),
    "usage": lambda zimg: zimg.usage(),
    "account": lambda zimg: zimg.account(),
    "create_key": lambda zimg: zimg.create_key("shop"),
    "keys": lambda zimg: zimg.keys(),
    "delete": lambda zimg: zimg.delete("a"),
    "webhooks": lambda zimg: zimg.webhooks(),
    "create_webhook": lambda zimg: zimg.create_webhook("https://shop.example"),
    "rotate_webhook": lambda zimg: zimg.rotate_webhook("wh_1"),
    "delete_webhook": lambda zimg: zimg.delete_webhook("wh_1"),
    "deliveries": lambda zimg: zimg.deliveries("wh_1"),
}


@pytest.fixture
def ran(stranger, tmp_path, monkeypatch):
    """What a command ends with at the stranger's, and what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("sku,title\nA,Red mug\n")

    def run(words):
        environ = {"COLUMNS": "300", "NO_COLOR": "1", "ZIMG_URL": stranger.url}
        made = CliRunner().invoke(app, words.split(), env=environ)
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        return made.exit_code, " ".join(made.output.split())

    return run


def problem_of(call, zimg):
    try:
        return f"no problem, but {call(zimg)!r}"
    except ZimgProblem as problem:
        return str(problem)


@pytest.mark.parametrize("what", STRANGERS)
def test_whoever_answers_but_not_as_zimg_does_is_a_problem(stranger, what):
    stranger.answer = (200, {}, STRANGERS[what])
    wanted = f"{stranger.url} answers, but not as zimg does. Is the address right?"

    with Zimg(stranger.url) as zimg:
        told = {name: problem_of(call, zimg) for name, call in CALLS.items()}

    assert told == dict.fromkeys(CALLS, wanted)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_tells_it_in_a_sentence(stranger, ran, words):
    stranger.answer = (200, {}, STRANGERS["other JSON"])

    assert ran(words) == (4, f"zimg: {stranger.url} answers, but not as zimg does. Is the address right?")


@pytest.mark.parametrize(
    ("status", "body"), [(400, "[]"), (404, '{"detail": "Not Found"}'), (405, ""), (501, "<h1>Unsupported method</h1>")]
)
def test_an_error_of_somebody_else_is_told_as_such(stranger, ran, status, body):
    stranger.answer = (status, {}, body)

    code, told = ran("usage")

    assert code == 4
    assert told == f"zimg: {stranger.url} answers with HTTP {status}, but not as zimg does. Is the address right?"


def test_an_error_of_what_stands_before_a_service_that_is_away_asks_for_the_service(stranger, ran):
    stranger.answer = (502, {}, "<h1>Bad Gateway</h1>")

    code, told = ran("usage")

    assert code == 4
    assert told == f"zimg: {stranger.url} answers with HTTP 502, but not as zimg does. Is zimg running behind it?"


def test_an_address_that_sends_on_to_another_names_that_one(stranger, ran):
    stranger.answer = (301, {"Location": "https://pictures.example/v1/usage"}, "")

    code, told = ran("usage")

    assert code == 4
    assert told == f"zimg: {stranger.url} sends on to https://pictures.example. Use that address."


def test_an_address_that_sends_on_to_its_own_sign_in_is_not_zimgs(stranger, ran):
    stranger.answer = (302, {"Location": "/login"}, "")

    assert ran("keys revoke abc")[1].endswith("answers with HTTP 302, but not as zimg does. Is the address right?")


def test_a_refusal_of_zimgs_is_told_as_before(stranger, ran):
    stranger.answer = (404, {}, json.dumps({"code": "not_found", "detail": "There is no such key."}))

    assert ran("keys revoke abc") == (3, "zimg: There is no such key.")


def test_the_first_of_several_times_without_an_answer_is_told(monkeypatch, capsys):
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with terminal.service(url, "") as zimg:
            zimg._http.timeout = 0.05
            for _ in range(2):
                with pytest.raises(ZimgProblem, match="does not answer"):
                    zimg.usage()

    told = capsys.readouterr().err.splitlines()
    assert told == [f"zimg: {url} has not answered for 0.05 s. Asking again, 3 times at most; Ctrl-C ends it."] * 2


def test_in_python_nothing_is_printed_while_an_answer_is_waited_for(monkeypatch, capsys):
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Zimg(url, timeout_seconds=0.05) as zimg, pytest.raises(ZimgProblem, match="does not answer"):
            zimg.usage()

    assert capsys.readouterr() == ("", "")
