"""What all commands share: the two outputs, common options, exit codes, and a problem as one sentence."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .client import DEFAULT_URL, Zimg, ZimgProblem, checked_address
from .first_key import find_first_key, own_name

FAILED, WRONG_USAGE, REFUSED, UNAVAILABLE, STOPPED = 1, 2, 3, 4, 130
NOBODY_READS = 141  # as of every program whose reader has gone: 128 and the signal's number
UNAUTHENTICATED = 401
EXIT_CODES = (
    "Exit codes: 0 done, 1 a job did not succeed or a check failed, 2 wrong usage, 3 the service refused, "
    "4 the service is not available, 130 stopped by Ctrl-C, 141 its reader (such as head) has ended."
)

#: Where a command takes its key from.
KEY_OF_TENANT, KEY_OF_ADMIN = "--key KEY or ZIMG_API_KEY", "--admin-key KEY or ZIMG_ADMIN_KEY"

#: A table has the width of its cells: the terminal wraps a long line, and an id or a link can still be copied whole.
TABLE_WIDTH = 10_000

out, err = Console(width=TABLE_WIDTH), Console(stderr=True, soft_wrap=True, highlight=False)


def web_address(url: str) -> str:
    """The address, as typer asks for it. Raises BadParameter for one that no request can go to."""
    try:
        return checked_address(url)
    except ZimgProblem as problem:
        raise typer.BadParameter(str(problem)) from None


Url = Annotated[str, typer.Option("--url", envvar="ZIMG_URL", help="Where the service is.", callback=web_address)]
Key = Annotated[str, typer.Option("--key", envvar="ZIMG_API_KEY", help="Your API key.", show_default=False)]
AdminKey = Annotated[
    str,
    typer.Option(
        "--admin-key",
        envvar=["ZIMG_ADMIN_KEY", "ZIMG_API_KEY"],
        help="The admin key, or the key of an admin.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

#: The locale's variables by their rank; the first that says something counts.
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def service(url: str, key: str) -> Zimg:
    """The service, whose messages come in the language of this terminal."""
    return Zimg(url, key=key, language=language_of(os.environ), tell=tell)


def language_of(environ: Mapping[str, str]) -> str:
    """The language that messages are wanted in, such as `zh-CN`; "" where nothing says so."""
    locale = next((environ[name] for name in LOCALE if environ.get(name)), "").partition(".")[0].partition("@")[0]
    if locale in ("", "C", "POSIX"):
        return ""
    tag = (environ.get("LANGUAGE", "").partition(":")[0] or locale).replace("_", "-")
    return tag if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*", tag) else ""


def examples(*lines: str) -> str:
    """The end of a command's help: how it is called, and what its exit codes mean."""
    # A blank line makes a paragraph; the others would be joined into one.
    return "\n\n".join((*(f"Example: {line}" for line in lines), EXIT_CODES))


def told(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn a problem into one sentence and an exit code."""

    @wraps(function)
    def telling(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except ZimgProblem as problem:
            _tell(problem, key_from=KEY_OF_ADMIN if "admin_key" in kwargs else KEY_OF_TENANT)
            if problem.status == UNAUTHENTICATED and kwargs.get("admin_key") == "":
                _tell_first_key(str(kwargs["url"]))
            raise typer.Exit(_exit_code(problem)) from None
        except BrokenPipeError:  # whoever read our lines has enough of them
            _write_nowhere()
            raise typer.Exit(NOBODY_READS) from None
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            tell(f"{what}{error.strerror or error}")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            err.print("stopped")
            raise typer.Exit(STOPPED) from None

    return telling


def _write_nowhere() -> None:
    """What still stands in the output's buffer would be a traceback when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _exit_code(problem: ZimgProblem) -> int:
    if problem.status == 0 and problem.code:  # the service was not asked
        return WRONG_USAGE
    return REFUSED if problem.code and 400 <= problem.status < 500 else UNAVAILABLE


def tell(sentence: str) -> None:
    """A sentence about what went wrong."""
    err.print(f"[red]zimg:[/red] {escape(sentence)}")


def _tell(problem: ZimgProblem, *, key_from: str) -> None:
    where = f" ({problem.field})" if problem.field else ""
    tell(f"{problem}{where}")
    for one in problem.errors[:20] if len(problem.errors) > 1 else ():
        err.print(f"  {escape(str(one['pointer']))}: {escape(str(one['detail']))}")
    if problem.status == UNAUTHENTICATED or problem.code == "invalid_api_key":
        err.print(f"  Here the key comes from {key_from}.")


def _tell_first_key(url: str) -> None:
    """Who sent no key, on the machine where the first start left one, learns how to send it."""
    path = find_first_key(url, os.environ)
    if path is None:
        return
    command = f"{own_name()} keys create team1" + ("" if url == DEFAULT_URL else f" --url {url}")
    sentence = f"The first start left one in {path}: ZIMG_ADMIN_KEY=$(cat {shlex.quote(str(path))}) {command}"
    err.print(f"  {escape(sentence)}")


def moment(seconds: int) -> str:
    """A moment as people here write it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a person; lines of cells with tabs between them for another program."""
    if not out.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    shown = Table(box=None, pad_edge=False)
    for name in head:
        shown.add_column(name, no_wrap=True)
    for row in rows:
        shown.add_row(*map(escape, row))
    out.print(shown)
