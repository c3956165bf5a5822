"""`zimg webhooks`: what was sent, sending it again, and a receiver on the machine where one writes one's own."""

from __future__ import annotations

import json
import queue
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

import typer

from .client import DEFAULT_URL, Zimg, ZimgProblem
from .terminal import AsJson, Key, Url, err, examples, moment, service, table, told
from .webhook_calls import Delivery
from .webhooks import Received, Receiver

webhooks_app = typer.Typer(
    help="Signed events of your jobs.", epilog=examples("zimg webhooks listen --test"), no_args_is_help=True
)

Endpoint = Annotated[str, typer.Argument(help="The endpoint's id; `requests` for the addresses of requests.")]
NOT_VERIFIED = 1
DELIVERIES_MOST = 10_000  # as many as the service keeps
LOOK_SECONDS = 0.5


#: How one is asked to end: by another program, and by a terminal that is closed (not on Windows).
ASKING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Asked(Exception):
    """Raised where one of ASKING comes, so that the endpoint is removed on the way out."""


@webhooks_app.callback()
def webhooks() -> None:
    """Signed events of your jobs."""


@webhooks_app.command("list", epilog=examples("zimg webhooks list"))
@told
def list_endpoints(as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """List your endpoints, oldest first."""
    with service(url, key) as zimg:
        found = zimg.webhooks()
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        (one["id"], one["url"] or "(webhook_url of requests)", ", ".join(one["events"]) or "all", _switch(one))
        for one in found
    ]
    table(("id", "url", "events", "state"), rows)


@webhooks_app.command(epilog=examples("zimg webhooks deliveries wh_0123456789abcdef01234567 --failed"))
@told
def deliveries(
    endpoint: Endpoint,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=DELIVERIES_MOST)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """List what was sent to an endpoint and what came of it, newest first."""
    with service(url, key) as zimg:
        found = zimg.deliveries(endpoint, failed=failed, limit=limit)
    if as_json:
        typer.echo(json.dumps([one.raw for one in found]))
        return
    rows = [
        (one.id, moment(one.created_at), one.type, one.event_id, one.state, str(len(one.attempts)), _last_answer(one))
        for one in found
    ]
    table(("id", "begun", "type", "event", "state", "tries", "last answer"), rows)


@webhooks_app.command(
    epilog=examples(
        "zimg webhooks resend wh_0123456789abcdef01234567 whd_0123456789abcdef0123456789abcdef",
        "zimg webhooks resend wh_0123456789abcdef01234567 --failed",
    )
)
@told
def resend(
    endpoint: Endpoint,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of deliveries.")] = None,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Send events to an endpoint again, at once and with all their tries."""
    if bool(ids) == failed:
        raise typer.BadParameter("name deliveries, or all that were given up with --failed", param_hint="IDS")
    with service(url, key) as zimg:
        wanted = ids or [one.id for one in zimg.deliveries(endpoint, failed=True, limit=DELIVERIES_MOST)]
        _show([zimg.resend(endpoint, one) for one in wanted], as_json=as_json)


@webhooks_app.command("test", epilog=examples("zimg webhooks test wh_0123456789abcdef01234567"))
@told
def send_test(endpoint: Endpoint, as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Send a test event to an endpoint; `zimg webhooks deliveries` shows what came of it."""
    with service(url, key) as zimg:
        _show([zimg.test_webhook(endpoint)], as_json=as_json)


@webhooks_app.command(epilog=examples("zimg webhooks on wh_0123456789abcdef01234567"))
@told
def on(endpoint: Endpoint, as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Turn an endpoint on again."""
    _turn(endpoint, is_on=True, as_json=as_json, url=url, key=key)


@webhooks_app.command(epilog=examples("zimg webhooks off wh_0123456789abcdef01234567"))
@told
def off(endpoint: Endpoint, as_json: AsJson = False, url: Url = DEFAULT_URL, key: Key = "") -> None:
    """Turn an endpoint off: it is told nothing until it is on again."""
    _turn(endpoint, is_on=False, as_json=as_json, url=url, key=key)


def _turn(endpoint: str, *, is_on: bool, as_json: bool, url: str, key: str) -> None:
    with service(url, key) as zimg:
        changed = zimg.change_webhook(endpoint, enabled=is_on)
    if as_json:
        typer.echo(json.dumps(changed))
        return
    table(("id", "state"), [(changed["id"], _switch(changed))])


def _switch(endpoint: dict[str, Any]) -> str:
    return "on" if endpoint["enabled"] else f"off: {endpoint['disabled_because']}"


def _last_answer(sent: Delivery) -> str:
    """The status of the last answer, or why there is none; "" before the first try."""
    last = sent.attempts[-1] if sent.attempts else None
    return "" if last is None else last.error or str(last.status)


def _show(sent: list[Delivery], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([one.raw for one in sent]))
        return
    table(("id", "state"), [(one.id, one.state) for one in sent])


@webhooks_app.command(epilog=examples("zimg webhooks listen --forward-to http://127.0.0.1:3000/hook --test"))
@told
def listen(
    *,
    forward: Annotated[str, typer.Option("--forward-to", help="Also send each verified event to this URL.")] = "",
    events: Annotated[list[str] | None, typer.Option("--event", help="Only this type; may be repeated.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen at; 0 takes a free one.")] = 0,
    public_url: Annotated[
        str, typer.Option(help="How the service reaches this machine, e.g. a tunnel's https://…")
    ] = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many events; 0 goes on until Ctrl-C.")] = 0,
    check: Annotated[bool, typer.Option("--test", help="Ask the service for a test event at once.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Receive your jobs' events here, verify and print them, until Ctrl-C; the endpoint is removed at the end.

    A service on another machine needs --host and a --public-url that leads here.

    One on this machine has to run with ZIMG_WEBHOOK_ALLOW=127.0.0.0/8.
    """
    received: queue.Queue[Received] = queue.Queue()
    receiver = Receiver(received.put, forward, host=host, port=port, clock=time.time)
    try:
        here = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{receiver.start()}/"  # noqa: S104
    except OSError as error:
        raise typer.BadParameter(f"can not listen at {host}:{port} ({error.strerror})") from None
    printer = _Printer(as_json=as_json)
    try:
        with service(url, key) as zimg, _endpoint(zimg, receiver, public_url or here, events or []) as endpoint_id:
            err.print(f"listening at {public_url or here}; Ctrl-C ends it")
            if check:
                zimg.test_webhook(endpoint_id)
            printer.print_all(received, count)
    except (KeyboardInterrupt, _Asked):
        err.print("ended; the endpoint is removed")
    finally:
        receiver.close()
    if printer.bad:
        raise typer.Exit(NOT_VERIFIED)


@contextmanager
def _endpoint(zimg: Zimg, receiver: Receiver, address: str, events: list[str]) -> Iterator[str]:
    """An endpoint at the service for as long as the block lasts; the receiver learns its secret."""
    # What nohup has the process ignore it goes on ignoring.
    before = {number: signal.getsignal(number) for number in ASKING if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, _raise_asked)
    try:
        made = _register(zimg, address, events)
        receiver.secret = made["secret"]
        try:
            yield made["id"]
        finally:
            for number in before:  # nothing may keep the endpoint from being removed
                signal.signal(number, signal.SIG_IGN)
            zimg.delete_webhook(made["id"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _register(zimg: Zimg, address: str, events: list[str]) -> dict[str, Any]:
    try:
        return zimg.create_webhook(address, events=events)
    except ZimgProblem as problem:
        if problem.field == "url":
            err.print("Start the service with ZIMG_WEBHOOK_ALLOW=127.0.0.0/8, or name a --public-url.")
        raise


def _raise_asked(number: int, frame: FrameType | None) -> None:
    raise _Asked


@dataclass(slots=True)
class _Printer:
    """Prints events; counts those that did not verify."""

    as_json: bool
    bad: int = 0

    def print_all(self, received: queue.Queue[Received], count: int) -> None:
        """Print what comes, for ever or until there were `count`."""
        seen = 0
        while not count or seen < count:
            try:
                one = received.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            seen, self.bad = seen + 1, self.bad + bool(one.problem)
            typer.echo(_as_json(one) if self.as_json else _as_line(one))


def _as_json(one: Received) -> str:
    told_of = {"id": one.id, "verified": not one.problem, "problem": one.problem or None,
               "forwarded": one.forwarded, "event": one.event}  # fmt: skip
    return json.dumps(told_of, ensure_ascii=False)


def _as_line(one: Received) -> str:
    data = one.event.get("data")
    subject = data.get("id", "") if isinstance(data, dict) else ""
    state = f"REFUSED: {one.problem}" if one.problem else "verified"
    sent_on = "" if one.forwarded is None else f"\tforwarded: {one.forwarded or 'no answer'}"
    return f"{time.strftime('%H:%M:%S')}\t{one.event.get('type', '?')}\t{subject}\t{state}{sent_on}"
