"""The ledger: one entry for each ended job, in the order of their ends. It is the bill.

    python -m scheduler.ledger export --day 2026-11-28                   (that day's ends, as JSON lines)
    python -m scheduler.ledger export --format csv --output ledger.csv   (all; again, it goes on where the file ends)

An entry says job, tenant, kind (charge or refund), cost in units (0 for a picture that was drawn for another job), day
(of the units: when the job was asked for) and, for a key with limits of its own, key. Its id begins with the server's
time of the end in milliseconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import redis

from core.errors import ConfigurationError, RedisUnavailable, ZimgError
from core.redis_client import PREFIX, connect, redis_errors, require_zimg
from core.settings import Settings

KEY = f"{PREFIX}ledger"
#: Where trimming has come to: nothing before this time, in milliseconds, is in the ledger any more.
CUT_KEY = f"{PREFIX}ledger_cut"
PAGE = 500
DAY_MS = 86_400_000
COLUMNS = ("entry", "ended", "job", "tenant", "kind", "cost", "day", "key")
TAIL_BYTES = 65_536  # longer than any line

EntryId = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One job's charge or refund."""

    id: str
    job: str
    tenant: str
    kind: str
    cost: int
    day: str  # yyyymmdd
    key: str = ""
    reserved: int | None = None  # of a hit, which costs nothing

    @property
    def held(self) -> int:
        """Units that were reserved until then."""
        return self.cost if self.reserved is None else self.reserved

    @property
    def purses(self) -> tuple[str, ...]:
        """Whose units it counts in."""
        return purses_of(self.tenant, self.key)

    def row(self) -> dict[str, str | int]:
        """As exported."""
        ended = datetime.fromtimestamp(parse_id(self.id)[0] / 1000, UTC)
        told = f"{ended:%Y-%m-%dT%H:%M:%S}.{ended.microsecond // 1000:03d}Z"
        values = (self.id, told, self.job, self.tenant, self.kind, self.cost, self.day, self.key)
        return dict(zip(COLUMNS, values, strict=True))


def purses_of(tenant: str, key: str) -> tuple[str, ...]:
    """Whose units a job counts in: its tenant's, and its key's if that has limits of its own (shared_ends.lua)."""
    return (tenant, f"{tenant}/{key}") if key else (tenant,)


def parse_id(entry_id: str) -> EntryId:
    """An entry's id as numbers that compare as the entries came."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


class Ledger:
    """Reads and trims. Every method raises RedisUnavailable on connection trouble."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def pages(self, *, after: str = "", start_ms: int = 0, end_ms: int | None = None) -> Iterator[list[Entry]]:
        """All entries behind the id `after`, or from a time on, up to before another one; no more than PAGE at once."""
        begin = f"({after}" if after else str(start_ms) if start_ms else "-"
        end = "+" if end_ms is None else f"({end_ms}-0"
        while True:
            with redis_errors():
                page = self._redis.xrange(KEY, min=begin, max=end, count=PAGE)
            rows: list[tuple[str, Mapping[str, str]]] = page  # type: ignore[assignment]
            if rows:
                yield [_entry(entry_id, fields) for entry_id, fields in rows]
            if len(rows) < PAGE:
                return
            begin = f"({rows[-1][0]}"

    def trim(self, days: int) -> None:
        """Forget what is older than so many days, by whole days of the server's clock."""
        with redis_errors():
            seconds, _ = self._redis.time()
            cut = (int(seconds) * 1000 // DAY_MS - days) * DAY_MS
            first = self._redis.xrange(KEY, count=1)
            if first and parse_id(str(first[0][0]))[0] < cut:
                self._redis.set(CUT_KEY, cut)  # first: what is missing from now on was not lost
                self._redis.xtrim(KEY, minid=str(cut), approximate=False)

    def cut_ms(self, days: int) -> int:
        """Before this time nothing is missed: it was, or may any moment be, trimmed."""
        with redis_errors():
            seconds, _ = self._redis.time()
            return max(int(self._redis.get(CUT_KEY) or 0), (int(seconds) * 1000 // DAY_MS - days) * DAY_MS)


def _entry(entry_id: str, fields: Mapping[str, str]) -> Entry:
    return Entry(
        id=entry_id,
        job=fields["job"],
        tenant=fields["tenant"],
        kind=fields["kind"],
        cost=int(fields["cost"]),
        day=fields["day"],
        key=fields.get("key", ""),
        reserved=int(fields["reserved"]) if "reserved" in fields else None,
    )


def export(
    ledger: Ledger, to: IO[str], *, form: str = "jsonl", day: str = "", after: str = "", header: bool = True
) -> int:
    """Write entries as they came, those of one day's ends or all, behind the id `after`; how many."""
    start_ms, end_ms = _day_bounds(day) if day else (0, None)
    if after and parse_id(after)[0] < start_ms:
        after = ""
    table = csv.DictWriter(to, COLUMNS, lineterminator="\n") if form == "csv" else None
    if table is not None and header:
        table.writeheader()
    count = 0
    for page in ledger.pages(after=after, start_ms=start_ms, end_ms=end_ms):
        for entry in page:
            if table is not None:
                table.writerow(entry.row())
            else:
                to.write(json.dumps(entry.row()) + "\n")
        to.flush()
        count += len(page)
    return count


def _day_bounds(day: str) -> tuple[int, int]:
    begin = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    return int(begin.timestamp() * 1000), int((begin + timedelta(days=1)).timestamp() * 1000)


def last_exported(path: Path, form: str) -> str:
    """The id of the last whole line of an export that was begun; "" if there is none. A half line is cut off.

    Raises ValueError for a file that is no such export, and leaves it alone.
    """
    if not path.exists():
        return ""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - TAIL_BYTES))
        whole, newline, half = file.read().rpartition(b"\n")
        found = _entry_of(whole.rpartition(b"\n")[2].decode(), form) if newline else ""
        begin = ",".join(COLUMNS) if form == "csv" else '{"entry": "'
        if found is None or not (newline or begin.startswith(half.decode()[: len(begin)])):
            raise ValueError(f"{path} is no export as {form}; name another file")
        file.truncate(start + len(whole) + len(newline))
    return found


def _entry_of(line: str, form: str) -> str | None:
    """The id that a line begins with, "" of a table's head, None of anything else."""
    if form == "csv" and line == ",".join(COLUMNS):
        return ""
    pattern = r"(\d+-\d+),.*" if form == "csv" else r'\{"entry": "(\d+-\d+)", .*\}'
    match = re.fullmatch(pattern, line)
    return match[1] if match else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scheduler.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command = parser.add_subparsers(dest="command", required=True).add_parser("export", help="write entries out")
    command.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="JSON lines (default) or a table")
    command.add_argument("--day", type=_day, help="only of jobs that ended on that day (UTC), YYYY-MM-DD")
    command.add_argument("--after", default="", help="only behind the entry with this id")
    command.add_argument("--output", type=Path, help="a file; where it was begun before it goes on. Default: stdout")
    return parser


def _day(text: str) -> str:
    _day_bounds(text)
    return text


def main() -> int:
    """Export; with a sentence 1 where the file can not be read on, 2 where there is no zimg to ask."""
    arguments = _parser().parse_args()
    try:
        client = connect(Settings.from_env().redis_url)
        require_zimg(client)
        count = _export_to(Ledger(client), arguments)
    except (ConfigurationError, RedisUnavailable) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 2
    except (ZimgError, OSError, ValueError, KeyError) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 1
    print(f"{count} entries", file=sys.stderr)
    return 0


def _export_to(ledger: Ledger, arguments: argparse.Namespace) -> int:
    path: Path | None = arguments.output
    begun = last_exported(path, arguments.format) if path else ""
    is_new = path is None or not path.exists() or path.stat().st_size == 0
    with path.open("a", encoding="utf-8") if path else nullcontext(sys.stdout) as to:
        return export(
            ledger,
            to,
            form=arguments.format,
            day=arguments.day or "",
            after=begun or arguments.after,
            header=is_new,
        )


if __name__ == "__main__":
    sys.exit(main())
