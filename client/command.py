"""The `zimg` command: pictures, product lists, jobs, keys, over HTTP.

Progress goes to standard error, results to standard output, so that both can be used. Exit codes: 0 done, 1 a job did
not succeed, 2 wrong usage, 3 the service refused, 4 the service is not available.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from client.client import DEFAULT_URL, Job, Zimg
from client.doctor.command import doctor
from client.picture import read_parameters
from client.terminal import FAILED, AdminKey, AsJson, Key, Url, err, table, told
from client.webhooks_command import webhooks_app
from client.weights_command import weights_app

BATCH_LOOK_SECONDS = 2.0
STATUSES = ("queued", "running", "succeeded", "failed", "canceling", "canceled", "expired")

app = typer.Typer(help="Pictures from a zimg service.", no_args_is_help=True, pretty_exceptions_enable=False)
keys_app = typer.Typer(help="Keys of tenants (needs the admin key).", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(weights_app, name="weights")
app.command()(doctor)


@app.command()
@told
def gen(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    *,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or auto.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=10, help="How many pictures.")] = 1,
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the PNGs.")] = Path(),
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
@told
def show(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A PNG of zimg's.")],
    as_json: AsJson = False,
) -> None:
    """Show what a picture of zimg's says of itself: prompt, seed, size, model."""
    try:
        read = read_parameters(file.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"{file}: {error}") from None
    if as_json:
        typer.echo(json.dumps({"prompt": read.prompt, "seed": read.seed, "size": read.size, "texts": read.texts}))
        return
    typer.echo(f"{read.prompt}\nseed {read.seed}, size {read.size}, model {read.texts.get('model', '?')}")


@app.command()
@told
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
        err.print(f"batch {made['id']}: {made['request_counts']['total']} pictures")
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
@told
def jobs(
    status: Annotated[str, typer.Option(help=", ".join(STATUSES), autocompletion=lambda: list(STATUSES))] = "",
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
@told
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
@told
def usage(
    *,
    days: Annotated[int, typer.Option(min=1, max=30, help="Also the days before today, at most 30 in all.")] = 1,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Show what you have used, and your limits."""
    with Zimg(url, key=key) as zimg:
        used = zimg.usage()
        past = zimg.account()["days"][-days:] if days > 1 else []
    if as_json:
        typer.echo(json.dumps({**used, "days": past} if past else used))
        return
    for day in past:
        typer.echo(f"{day['date']}\t{day['used']}")
    today = f"{used['daily_used']} of {used['daily_limit']} pictures today, {used['daily_reserved']} reserved"
    typer.echo(f"{used['tenant']}: {today}")


@keys_app.command("create")
@told
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
@told
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
    table(("id", "tenant", "label", "key", "state"), rows)


@keys_app.command("revoke")
@told
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
    table(
        ("id", "status", "seed", "result"),
        [(job.id, job.status, str(job.seed), text) for job, text in zip(made, results, strict=True)],
    )


def main() -> None:
    """Run the command. Its name is the one that completion of the shell was installed for, whoever starts it."""
    app(prog_name="zimg")


if __name__ == "__main__":
    main()
