"""The `zimg` command: pictures, product lists, jobs, keys, over HTTP.

Progress goes to standard error, results to standard output, so that both can be used. Exit codes: terminal.EXIT_CODES.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .answers import ZimgProblem
from .client import DEFAULT_URL, Job, Priority, Zimg
from .doctor.command import doctor
from .picture import read_parameters
from .target import check_file, check_pictures, is_file_name, numbered, standard_input
from .terminal import FAILED, AdminKey, AsJson, Key, Url, err, examples, moment, service, table, tell, told
from .watching import watch, watch_batch
from .webhooks_command import webhooks_app
from .weights_command import weights_app

STATUSES = ("queued", "running", "succeeded", "failed", "canceling", "canceled", "expired")

PROMPT_SHOWN = 40
RETENTION_LEAST = 60
LIST_OF_INPUT = "products.csv"  # the name of a list that comes from standard input

app = typer.Typer(
    help="Pictures from a zimg service.",
    epilog=examples('zimg gen "a red mug" -o mug.png', "zimg batch products.csv", "zimg doctor"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(
    help="Keys of tenants (needs the admin key, or the key of an admin).",
    epilog=examples("zimg keys create shop-1"),
    no_args_is_help=True,
)
Model = Annotated[str, typer.Option(help="The id of a model of the service; its default when absent.")]
app.add_typer(keys_app, name="keys")
app.add_typer(webhooks_app, name="webhooks")
app.add_typer(weights_app, name="weights")
app.command(epilog=examples("zimg doctor", "zimg doctor --json"))(doctor)


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"zimg {__version__}")
        raise typer.Exit


@app.callback()
def _options_of_all(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=examples(
        'zimg gen "a red mug" -o mug.png',
        'zimg gen "a red mug" -n 4 -o pictures/ --size 512x512 --seed 7 --priority high',
        "zimg gen - -o mug.png < prompt.txt",
    )
)
@told
def gen(
    prompt: Annotated[str, typer.Argument(help="What to draw; - reads it from standard input.")],
    *,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or auto.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=10, help="How many pictures.")] = 1,
    target: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="A file, NAME.png (of several pictures NAME-1.png, NAME-2.png, …), or a folder."
        ),
    ] = Path(),
    model: Model = "",
    priority: Annotated[Priority, typer.Option(help="Among your own pictures that wait.")] = "normal",
    webhook_url: Annotated[
        str,
        typer.Option(help="https://…: told the end of each picture, signed (/docs: Webhooks)."),
    ] = "",
    expires_in: Annotated[
        int | None, typer.Option(min=RETENTION_LEAST, help="Seconds that the service keeps the pictures.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the pictures and save them.")] = True,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Draw a picture and save it."""
    words = _prompt(prompt)
    if wait:
        check_pictures(target, n)
    with service(url, key) as zimg:
        made = zimg.submit(
            words,
            size=size,
            seed=seed,
            n=n,
            model=model or None,
            priority=None if priority == "normal" else priority,
            webhook_url=webhook_url or None,
            expires_in=expires_in,
        )
        if not wait:
            _show(made, [""] * len(made), as_json=as_json)
            return
        made = watch(zimg, made)
        files = [_save(zimg, job, _path(target, job, place, len(made))) for place, job in enumerate(made, 1)]
    _show(made, [file or _why(job) for job, file in zip(made, files, strict=True)], as_json=as_json)
    if not all(files):
        raise typer.Exit(FAILED)


@app.command(epilog=examples("zimg show mug.png"))
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


@app.command(
    epilog=examples(
        'zimg batch products.csv -o drawn.csv --white "{title} on white" --size 512x512',
        "zimg batch --resume batch_9f2c41d0b7e84a7c8d5e6f0a",
    )
)
@told
def batch(
    file: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="CSV with columns sku and title; - is standard input.")
    ] = None,
    *,
    white: Annotated[str, typer.Option(help="Prompt of the white picture, {column} is filled in.")] = "",
    scene: Annotated[str, typer.Option(help="Prompt of the scene picture.")] = "",
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT or auto.")] = "auto",
    model: Model = "",
    resume: Annotated[str, typer.Option(help="Wait again for the batch of this id; nothing is drawn anew.")] = "",
    result: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="The file for the list with links.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for all pictures.")] = True,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Draw a product list; the same list comes back with links."""
    templates, is_written = {name: text for name, text in (("white", white), ("scene", scene)) if text}, True
    if bool(resume) == bool(file) or (resume and (templates or model or size != "auto")):
        raise typer.BadParameter("name a list to draw, or with --resume a batch that is drawn", param_hint="FILE")
    data = standard_input("FILE") if str(file) == "-" else None
    if file and data is None and not file.exists():  # typer can not look for files and take - as well
        raise typer.BadParameter(f"file {str(file)!r} does not exist", param_hint="FILE")
    with service(url, key) as zimg:
        named = {"name": LIST_OF_INPUT if data else str(file)}
        made: dict[str, Any] = zimg.batch(resume) if resume else named
        target = result or _with_pictures(Path(made["name"]), is_ours=not resume)
        if wait:
            check_file(target)
        if not resume:
            made = zimg.create_batch(Path(made["name"]), data=data, templates=templates, size=size, model=model)
        err.print(f"batch {made['id']}: {made['request_counts']['total']} pictures")
        if wait:
            made = watch_batch(zimg, made, target)
            where = f"{url.rstrip('/')}/v1/batches/{made['id']}/manifest.csv"
            is_written = _write(target, zimg.manifest(made["id"]), f"the list of batch {made['id']}", where)
    if as_json:
        typer.echo(json.dumps(made))
    else:
        typer.echo(str(target) if wait else made["id"])
    if not is_written or (made["request_counts"]["failed"] if not wait else _is_partly_drawn(made)):
        raise typer.Exit(FAILED)


@app.command(epilog=examples("zimg jobs", "zimg jobs --status failed --limit 100 --json"))
@told
def jobs(
    status: Annotated[str, typer.Option(help=", ".join(STATUSES), autocompletion=lambda: list(STATUSES))] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """List your jobs, newest first."""
    with service(url, key) as zimg:
        found = zimg.jobs(status=status, limit=limit)
    results = [job.picture.url if job.picture else job.error for job in found]
    if as_json:
        _show(found, results, as_json=True)
        return
    rows = [
        (job.id, job.status, moment(job.created_at), str(job.seed), _short(job.prompt), text)
        for job, text in zip(found, results, strict=True)
    ]
    table(("id", "status", "handed in", "seed", "prompt", "result"), rows)


@app.command(epilog=examples("zimg cancel 9f2c41d0b7e84a7c8d5e6f0a1b2c3d4e"))
@told
def cancel(
    ids: Annotated[list[str], typer.Argument(help="Ids of jobs.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Cancel jobs, all or none; a running one stops within one step."""
    with service(url, key) as zimg:
        made = zimg.cancel_all(ids)
    _show(made, [""] * len(made), as_json=as_json)


@app.command(epilog=examples("zimg usage --days 30"))
@told
def usage(
    *,
    days: Annotated[int, typer.Option(min=1, max=30, help="Also the days before today, at most 30 in all.")] = 1,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Show what you have used, and your limits."""
    with service(url, key) as zimg:
        used = zimg.usage()
        past = zimg.account()["days"][-days:] if days > 1 else []
    if as_json:
        typer.echo(json.dumps({**used, "days": past} if past else used))
        return
    for day in past:
        typer.echo(f"{day['date']}\t{day['used']}")
    today = f"{used['daily_used']} of {used['daily_limit']} pictures today, {used['daily_reserved']} reserved"
    typer.echo(f"{used['tenant']}: {today}")
    if "queued_jobs" in used:  # a service of an earlier release does not tell
        typer.echo(_queue_use(used))


def _queue_use(used: dict[str, Any]) -> str:
    waiting = f"{used['queued_jobs']} of at most {used['queued_jobs_limit']} pictures wait"
    held = (
        f", room for {used['queued_jobs_held']} more is kept for lists that are coming in"
        if used["queued_jobs_held"]
        else ""
    )
    return f"{waiting}{held}"


@keys_app.command("create", epilog=examples('zimg keys create shop-1 --label "till"'))
@told
def create_key(
    tenant: Annotated[str, typer.Argument(help="Who pays: a-z, 0-9, _ . -")],
    *,
    label: Annotated[str, typer.Option(help="A note to find it again.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="A key that opens the operator's routes.")] = False,
    daily_units: Annotated[
        int | None, typer.Option(min=0, help="Pictures a day by this key alone; without it as many as its account's.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="Pictures at once by this key alone; without it as many as its account's.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = "",
) -> None:
    """Make a key. It is shown this once."""
    with service(url, admin_key) as zimg:
        made = zimg.create_key(tenant, label=label, admin=admin, daily_units=daily_units, burst=burst)
    typer.echo(json.dumps(made) if as_json else made["key"])


@keys_app.command("list", epilog=examples("zimg keys list --json"))
@told
def list_keys(as_json: AsJson = False, url: Url = DEFAULT_URL, admin_key: AdminKey = "") -> None:
    """List keys."""
    with service(url, admin_key) as zimg:
        found = zimg.keys()
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [(one["id"][:12], one["tenant"], one["label"], f"…{one['hint']}", *_bounds_and_state(one)) for one in found]
    table(("id", "tenant", "label", "key", "limits", "state"), rows)


def _bounds_and_state(key: dict[str, Any]) -> tuple[str, str]:
    """What the key alone is bound to, "" where its account's limits are all, and whether it opens."""
    daily, burst = key.get("daily_units"), key.get("burst")  # a service of an earlier release does not tell
    bounds = [f"{daily} a day"] if daily is not None else []
    bounds += [f"{burst} at once"] if burst is not None else []
    return ", ".join(bounds), "revoked" if key["revoked_at"] else "open"


@keys_app.command("revoke", epilog=examples("zimg keys revoke 0f3a9c2b"))
@told
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id, or its first 8 characters.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    admin_key: AdminKey = "",
) -> None:
    """Close a key for ever."""
    with service(url, admin_key) as zimg:
        zimg.revoke_key(key_id)
    typer.echo(json.dumps({"id": key_id, "revoked": True}) if as_json else "revoked")


def _is_partly_drawn(batch: dict[str, Any]) -> bool:
    """Whether pictures are missing in a list that has ended, and says how many."""
    counts = batch["request_counts"]
    missing = counts["total"] - counts["completed"]
    if batch["status"] == "incomplete":
        err.print(f"batch {batch['id']} broke off while it came in: send the list again")
    elif missing:
        err.print(
            f"{missing} of {counts['total']} pictures were not drawn: {counts['failed']} failed, "
            f"{counts['canceled']} were canceled"
        )
    return bool(missing) or batch["status"] != "completed"


def _prompt(given: str) -> str:
    """What to draw, from standard input where that is named."""
    if given != "-":
        return given
    try:
        return standard_input("PROMPT").decode().strip()
    except UnicodeDecodeError:
        raise typer.BadParameter("what comes from standard input is not UTF-8", param_hint="PROMPT") from None


def _with_pictures(listed: Path, *, is_ours: bool) -> Path:
    """Where a list with links goes: beside one of ours; into this folder where only the service knows its name."""
    return (listed if is_ours else Path(listed.name or LIST_OF_INPUT)).with_name(f"{listed.stem}-with-pictures.csv")


def _path(target: Path, job: Job, place: int, count: int) -> Path:
    """Where the picture of one of `count` jobs goes; `place` is from 1."""
    if not is_file_name(target):
        return target / f"zimg-{job.seed}-{job.id[:8]}.png"
    return numbered(target, place, count)


def _save(zimg: Zimg, job: Job, path: Path) -> str:
    """Write the picture of a job that succeeded; its path, "" where there is no file then."""
    if job.picture is None:
        return ""
    what = f"the picture of job {job.id}"
    try:
        data = zimg.download(job)
    except ZimgProblem as problem:
        tell(f"{what} could not be fetched ({problem}); it is at {job.picture.url}")
        return ""
    return str(path) if _write(path, data, what, job.picture.url) else ""


def _write(path: Path, data: bytes, what: str, where: str) -> bool:
    """Whether it was written; if not, it is said where it can be had: it is drawn, and charged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        tell(f"{path} can not be written ({error.strerror or error}); {what} is at {where}")
        return False
    return True


def _why(job: Job) -> str:
    """What there is in place of a file, once a job has ended."""
    return job.picture.url if job.picture else job.error or job.status


def _short(prompt: str) -> str:
    """The prompt on one line, its beginning if it is long."""
    line = " ".join(prompt.split())
    return line if len(line) <= PROMPT_SHOWN else f"{line[: PROMPT_SHOWN - 1].rstrip()}…"


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
