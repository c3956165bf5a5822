"""What the `zimg` command says of itself."""

import pytest
from typer.main import get_command
from typer.testing import CliRunner

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
    wanted = {"gen", "batch", "jobs", "cancel", "usage", "show", "doctor", "webhooks listen"}

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
