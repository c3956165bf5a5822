"""`zimg doctor` as a command: a line for each check, with what to do about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ..client import DEFAULT_URL
from ..terminal import Url, told
from .card import check_cards
from .findings import Finding, Surroundings, failed
from .machine import check_machine
from .services import check_services

CHECKS: tuple[Callable[[Surroundings], list[Finding]], ...] = (check_machine, check_cards, check_services)
_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failed": "[red]✗[/]", "skipped": "[dim]–[/]"}


def run_checks(around: Surroundings) -> list[Finding]:
    """All findings. A check that breaks is a finding too and keeps no other from being made."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(around)
        except Exception as error:
            name = check.__name__.removeprefix("check_")
            found.append(failed(name, f"could not be checked: {type(error).__name__}: {error}", "Please report this."))
    return found


@told
def doctor(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Check this machine and its services, and say what to do about each fault. Exit code 1 if one is fatal."""
    source = context.get_parameter_source("url")
    is_named = source is not None and source.name != "DEFAULT"
    found = run_checks(Surroundings(environ=os.environ, url=url.rstrip("/"), is_named=is_named))
    is_well = all(one.state != "failed" for one in found)
    if as_json:
        typer.echo(json.dumps({"ok": is_well, "checks": [asdict(one) for one in found]}, ensure_ascii=False))
    else:
        _show(found)
    if not is_well:
        raise typer.Exit(1)


def _show(found: Sequence[Finding]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for one in found:
        console.print(f"{_MARKS[one.state]} [bold]{escape(one.name)}[/]: {escape(one.detail)}")
        if one.fix:
            console.print(f"    {escape(one.fix)}")
