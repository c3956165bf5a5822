"""What the `zimg` command says of itself."""

import re

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

import client
from client import terminal
from client.command import app


def commands(group, path=()):
    """Every command with the words that call it."""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))
    if not getattr(group, "commands", {}):
        yield " ".join(path)


COMMANDS = sorted(commands(get_command(app)))


def help_of(*words):
    return " ".join(CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "100", "NO_COLOR": "1"}).output.split())


def test_there_are_the_commands_that_the_documents_name():
    wanted = {"gen", "batch", "jobs", "cancel", "usage", "show", "doctor"}
    wanted |= {f"webhooks {name}" for name in ("listen", "list", "deliveries", "resend", "test", "on", "off")}

    assert wanted | {"keys create", "keys list", "keys revoke"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_and_its_exit_codes(command):
    told = help_of(*command.split())

    assert f"Example: zimg {command}" in told
    assert "Exit codes: 0 done, 1 a job did not succeed" in told


def test_the_help_of_all_lists_the_exit_codes():
    told = help_of()

    for meaning in ("0 done", "2 wrong usage", "3 the service refused", "4 the service is not available"):
        assert meaning in told


def test_no_help_is_cut_off_on_a_narrow_terminal():
    for command in COMMANDS:
        shown = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80", "NO_COLOR": "1"}).output

        assert not re.search(r"\w…", shown), command


def test_the_version_is_told_without_a_command():
    told = CliRunner().invoke(app, ["--version"])

    assert (told.exit_code, told.output) == (0, f"zimg {client.__version__}\n")


def test_an_address_that_is_none_is_named_before_anything_is_tried():
    asked = CliRunner().invoke(app, ["jobs", "--url", "localhost:8080"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert asked.exit_code == 2
    assert "write http://HOST:PORT" in " ".join(asked.output.split())


def test_a_table_for_a_person_keeps_ids_and_links_whole(monkeypatch, capsys):
    link = f"http://127.0.0.1:8080/i/{'a' * 32}.png"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(terminal, "out", Console(force_terminal=True, no_color=True, width=terminal.out.width))

    terminal.table(("id", "prompt", "result"), [("a" * 32, "a red mug on a white background", link)])

    head, row = capsys.readouterr().out.rstrip().splitlines()
    assert "prompt" in head
    assert row.split("  ") == ["a" * 32, "a red mug on a white background", link]
