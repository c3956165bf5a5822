"""The `zimg` command: pictures, product lists, jobs, keys, over HTTP.

Progress goes to standard error, results to standard output, so that both can be used. Exit codes: 0 done, 1 a job did
not succeed, 2 wrong usage, 3 the service refused, 4 the service is not available.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.client import DEFAULT_URL, Job, Zimg, ZimgProblem

FAILED, REFUSED, UNAVAILABLE = 1, 3, 4
BATCH_LOOK_SECONDS = 2.0

app = typer.Typer(help="Pictures from a zimg service.", no_args_is_help=True, pretty_exceptions_enable=False)
keys_app = typer.Typer(help="Keys of tenants (needs the admin key).", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

out, err = Console(), Console(stderr=True)

Url = Annotated[str, typer.Option("--url", envvar="ZIMG_URL", help="Where the service is.")]
Key = Annotated[str, typer.Option("--key", envvar="ZIMG_API_KEY", help="Your API key.", show_default=False)]
AdminKey = Annotated[
    str, typer.Option("--admin-key", envvar="ZIMG_ADMIN_KEY", help="The admin key.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _told(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn a problem into one sentence and an exit code."""

    @wraps(function)
    def told(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except ZimgProblem as problem:
            where = f" ({problem.field})" if problem.field else ""
            err.print(f"[red]zimg:[/red] {problem}{where}", highlight=False, soft_wrap=True)
            for one in problem.errors[:20]:
                err.print(f"  {one['pointer']}: {one['detail']}", highlight=False, soft_wrap=True)
            raise typer.Exit(REFUSED if 400 <= problem.status < 500 else UNAVAILABLE) from None

    return told


@app.command()
@_told
def gen(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    *,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or auto.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=10, help="How many pictures.")] = 1,
    folder: Annotated[Path, typer.Option("--out", help="Folder for the PNGs.")] = Path(),
    wait: Annotated[bool, typer.Option(help="Wait for the pictures and save them.")] = True,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Draw a picture and save it."""
    with Zimg(url, key=key) as zimg:
        made = zimg.submit(prompt, size=size, seed=seed, n=n)
        if wait:
            made = _watch(zimg, made)
            files = [_save(zimg, job, folder) for job in made]
        else:
            files = [""] * len(made)
    _show(made, files, as_json=as_json)
    if any(job.has_ended and job.picture is None for job in made):
        raise typer.Exit(FAILED)


@app.command()
@_told
def batch(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with columns sku and title.")],
    *,
    white: Annotated[str, typer.Option(help="Prompt of the white picture, {column} is filled in.")] = "",
    scene: Annotated[str, typer.Option(help="Prompt of the scene picture.")] = "",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or auto.")] = "auto",
    result: Annotated[Path | None, typer.Option("--out", help="Where the list with links goes.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for all pictures.")] = True,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Draw a product list; the same list comes back with links."""
    templates = {name: text for name, text in (("white", white), ("scene", scene)) if text}
    target = result or file.with_name(f"{file.stem}-with-pictures.csv")
    with Zimg(url, key=key) as zimg:
        made = zimg.create_batch(file, templates=templates, size=size)
        err.print(f"batch {made['id']}: {made['request_counts']['total']} pictures", highlight=False, soft_wrap=True)
        if wait:
            made = _watch_batch(zimg, made)
            target.write_bytes(zimg.manifest(made["id"]))
    if as_json:
        typer.echo(json.dumps(made))
    else:
        typer.echo(str(target) if wait else made["id"])
    if made["request_counts"]["failed"]:
        raise typer.Exit(FAILED)


@app.command()
@_told
def jobs(
    status: Annotated[str, typer.Option(help="queued, running, succeeded, failed, canceled, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """List your jobs, newest first."""
    with Zimg(url, key=key) as zimg:
        found = zimg.jobs(status=status, limit=limit)
    _show(found, [job.picture.url if job.picture else job.error for job in found], as_json=as_json)


@app.command()
@_told
def cancel(
    ids: Annotated[list[str], typer.Argument(help="Ids of jobs.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Cancel jobs; a running one stops within one step."""
    with Zimg(url, key=key) as zimg:
        made = [zimg.cancel(job_id) for job_id in ids]
    _show(made, [""] * len(made), as_json=as_json)


@app.command()
@_told
def usage(as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Show what you have used today, and your limits."""
    with Zimg(url, key=key) as zimg:
        used = zimg.usage()
    if as_json:
        typer.echo(json.dumps(used))
        return
    today = f"{used['daily_used']} of {used['daily_limit']} pictures today, {used['daily_reserved']} reserved"
    typer.echo(f"{used['tenant']}: {today}")


@keys_app.command("create")
@_told
def create_key(
    tenant: Annotated[str, typer.Argument(help="Who pays: a-z, 0-9, _ . -")],
    *,
    label: Annotated[str, typer.Option(help="A note to find it again.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="A key that opens the operator's routes.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = "",
) -> None:
    """Make a key. It is shown this once."""
    with Zimg(url, key=admin_key) as zimg:
        made = zimg.create_key(tenant, label=label, admin=admin)
    typer.echo(json.dumps(made) if as_json else made["key"])


@keys_app.command("list")
@_told
def list_keys(as_json: AsJson = False, url: Url = DEFAULT_URL, admin_key: AdminKey = "") -> None:
    """List keys."""
    with Zimg(url, key=admin_key) as zimg:
        found = zimg.keys()
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        (one["id"][:12], one["tenant"], one["label"], f"…{one['hint']}", "revoked" if one["revoked_at"] else "open")
        for one in found
    ]
    _table(("id", "tenant", "label", "key", "state"), rows)


@keys_app.command("revoke")
@_told
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id, or its first 8 characters.")],
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = "",
) -> None:
    """Close a key for ever."""
    with Zimg(url, key=admin_key) as zimg:
        zimg.revoke_key(key_id)
    typer.echo("revoked")


@dataclass(frozen=True, slots=True)
class _Line:
    """A job's line on the terminal."""

    progress: Progress
    task: TaskID

    def show(self, job: Job) -> None:
        text = job.status
        if job.status == "queued" and job.queue_position:
            text = f"place {job.queue_position}"
        elif job.status == "running" and job.steps:
            text = f"step {job.step} of {job.steps}"
        self.progress.update(self.task, completed=1.0 if job.has_ended else job.share_done, state=text)


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=True)


def _watch(zimg: Zimg, made: Sequence[Job]) -> list[Job]:
    """The jobs at their ends, with a bar each."""
    with _bars() as progress, ThreadPoolExecutor(max_workers=len(made)) as pool:

        def follow(job: Job) -> Job:
            line, seen = _Line(progress, progress.add_task(job.id[:8], total=1.0, state=job.status)), job
            for seen in zimg.follow(job.id):
                line.show(seen)
            return seen

        return list(pool.map(follow, made))


def _watch_batch(zimg: Zimg, made: dict[str, Any]) -> dict[str, Any]:
    """The batch when all its jobs have ended."""
    with _bars() as progress:
        total = made["request_counts"]["total"]
        task = progress.add_task(made["name"], total=total, state="")
        while made["status"] == "in_progress":
            time.sleep(BATCH_LOOK_SECONDS)
            made = zimg.batch(made["id"])
            counts = made["request_counts"]
            ended = counts["completed"] + counts["failed"] + counts["canceled"]
            progress.update(task, completed=ended, state=f"{ended} of {total}, {counts['failed']} failed")
    return made


def _save(zimg: Zimg, job: Job, folder: Path) -> str:
    """Write the picture of a job that succeeded; its path, or why there is none."""
    if job.picture is None:
        return job.error or job.status
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"zimg-{job.seed}-{job.id[:8]}.png"
    path.write_bytes(zimg.download(job))
    return str(path)


def _show(made: Sequence[Job], results: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([{**job.raw, "result": result} for job, result in zip(made, results, strict=True)]))
        return
    _table(
        ("id", "status", "seed", "result"),
        [(job.id, job.status, str(job.seed), text) for job, text in zip(made, results, strict=True)],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table for a person; lines of cells with tabs between them for another program."""
    if not out.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
