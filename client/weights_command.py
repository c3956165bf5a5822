"""`zimg weights`: see and remove the model weights that workers keep on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .terminal import REFUSED, AsJson, err, examples, table
from .weights import WeightStore, drop, find_stores, places

weights_app = typer.Typer(
    help="Model weights kept on this machine.", epilog=examples("zimg weights list"), no_args_is_help=True
)

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="ZIMG_DATA_DIR", help="The service's data folder.")]
WeightsDir = Annotated[
    str, typer.Option("--weights-dir", envvar="ZIMG_WEIGHTS_DIR", help="Packed weights on disk; off: none.")
]
DEFAULT_DATA = Path("data")


@weights_app.command("list", epilog=examples("zimg weights list"))
def list_weights(as_json: AsJson = False, data_dir: DataDir = DEFAULT_DATA, weights_dir: WeightsDir = "") -> None:
    """List weights in shared memory and on disk."""
    found = find_stores(places(data_dir, weights_dir))
    if as_json:
        typer.echo(json.dumps([_as_json(store) for store in found]))
        return
    head = ("name", "where", "size", "state", "last used")
    table(head, [(one.name, one.place, _size(one), _state(one), _ago(one)) for one in found])


@weights_app.command("drop", epilog=examples("zimg weights drop --memory"))
def drop_weights(
    names: Annotated[list[str] | None, typer.Argument(help="Names, or their beginnings; none: all.")] = None,
    *,
    memory_only: Annotated[bool, typer.Option("--memory", help="Leave what is on disk.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = DEFAULT_DATA,
    weights_dir: WeightsDir = "",
) -> None:
    """Remove weights; the next start reads or packs them anew. Refuses, and removes nothing, where any are in use."""
    found = [one for one in find_stores(places(data_dir, weights_dir)) if not (memory_only and one.place == "disk")]
    for name in names or []:
        if not any(one.name.startswith(name) for one in found):
            _refuse(f"there are no weights called {name}")
    chosen = [one for one in found if not names or any(one.name.startswith(name) for name in names)]
    used = [one for one in chosen if one.in_use]
    if used:
        _refuse(f"a worker uses {used[0].name} ({used[0].place}): stop the service first")
    dropped = [one for one in chosen if drop(one)]
    if as_json:
        typer.echo(json.dumps([_as_json(store) for store in dropped]))
    else:
        typer.echo(f"{len(dropped)} removed, {sum(one.size_bytes for one in dropped) / 2**30:.1f} GiB")


def _refuse(why: str) -> None:
    err.print(f"[red]zimg:[/red] {why}")
    raise typer.Exit(REFUSED)


def _as_json(store: WeightStore) -> dict[str, object]:
    return {
        "name": store.name,
        "place": store.place,
        "folder": str(store.folder),
        "size_bytes": store.size_bytes,
        "complete": store.is_complete,
        "in_use": store.in_use,
        "last_used_seconds": round(store.last_used_seconds),
    }


def _size(store: WeightStore) -> str:
    return f"{store.size_bytes / 2**30:.1f} GiB"


def _state(store: WeightStore) -> str:
    return "in use" if store.in_use else "kept" if store.is_complete else "incomplete"


def _ago(store: WeightStore) -> str:
    return "now" if store.in_use else f"{store.last_used_seconds / 60:.0f} min ago"
