"""Usage against the ledger and the open jobs, each day of each purse as at one moment, beside a working service.

A moment is read in one step: usage, what lists keep, the last entry of the ledger and the arrival of the last job.
What the audit reads after it is counted as it was then: entries behind that one and later jobs are left out, and a job
that is settled by now, but by a later entry, was still open. So work in between makes no difference, and as every step
of a job changes both sides alike, a difference stays what it is until it is corrected.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.job import JobState
from core.job_store import JobStore
from core.redis_client import PREFIX, redis_errors
from core.scripts import Scripts
from scheduler.ledger import KEY, Entry, EntryId, Ledger, parse_id, purses_of

PAGE = 500
PURSES_AT_ONCE = 100
#: A day's usage is kept for 40 days after its last submit (submit.lua): a younger one that is missing was lost.
USE_KEPT_DAYS = 40
#: An entry comes after its day began, by the server's clock; so much is left for one that was set back.
EARLIER = timedelta(days=2)
#: So many jobs without a known entry are looked for in the ledger by one audit.
LOOKED_FOR_MOST = 200_000

_ENTRY = re.compile(r"\d+-\d+")
Purse = tuple[str, str]  # whose units, and the day
Differences = dict[tuple[str, str, str], int]  # purse and kind -> units too many
#: What is told of a job with a value that is no number.
UNREADABLE = "can not be read"
FIELDS = ("tenant", "day", "cost", "settled", "key", "arrival", "entry", "state", "finished")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When usage was read: what came later is not counted."""

    entry: EntryId
    entry_id: str
    arrival: float | None  # None: not known, so open jobs can not be counted
    repairs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What usage said of a purse at a moment."""

    moment: Moment
    is_there: bool
    used: int
    reserved: int
    kept: int  # by lists that are coming in; a part of `reserved`


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far an audit read the ledger, and what it found up to there; worth something on the same day."""

    last: str
    first_day: str
    sums: Counter[Purse]
    elsewhere: dict[str, list[str]]


@dataclass(slots=True)
class Count:
    """What jobs and ledger say of the purses that are `stored`, and what stays unclear."""

    stored: dict[Purse, Stored]
    begin: Moment
    first_day: str  # usage of days before it may have expired
    used: Counter[Purse] = field(default_factory=Counter)
    reserved: Counter[Purse] = field(default_factory=Counter)
    open: set[str] = field(default_factory=set)
    unclear: set[Purse] = field(default_factory=set)  # an open job may or may not have been there
    missing: set[Purse] = field(default_factory=set)  # has work, and no usage
    looked_for: dict[str, Sequence[Any]] = field(default_factory=dict)  # settled, and not by the entry it names
    elsewhere: dict[str, list[str]] = field(default_factory=dict)  # job -> kinds of entries that it does not name
    wrong: dict[str, str] = field(default_factory=dict)  # job -> how it was settled wrongly
    sums: Counter[Purse] = field(default_factory=Counter)  # all charges up to `last`
    last: str = "0-0"

    def go_on_from(self, before: Checkpoint) -> None:
        """What an audit before counted needs no reading again."""
        self.used, self.sums, self.last = Counter(before.sums), Counter(before.sums), before.last
        self.elsewhere = {job_id: list(kinds) for job_id, kinds in before.elsewhere.items()}
        self.missing = {purse for purse in before.sums if purse not in self.stored and purse[1] >= self.first_day}

    def count_open(self, job_id: str, row: Sequence[Any]) -> None:
        """A job that is not settled."""
        tenant, day, cost, _, limited_key, arrival, *_ = row
        if job_id in self.open or not day:
            return
        self.open.add(job_id)
        came, units = number_in(arrival), number_in(cost)
        for who in purses_of(tenant, limited_key or ""):
            one = self.stored.get((who, day))
            if came is None or units is None:
                self.unclear.add((who, day))
            elif one is None:
                if day >= self.first_day and came <= (self.begin.arrival or 0.0):
                    self.missing.add((who, day))
            elif one.moment.arrival is None:
                self.unclear.add((who, day))
            elif came <= one.moment.arrival:
                self.reserved[who, day] += int(units)

    def count_entry(self, purse: Purse, entry: Entry, arrival: str | None) -> None:
        """An entry, for one of its purses; `arrival`: of its job, None if that has no record any more."""
        one, at = self.stored.get(purse), parse_id(entry.id)
        self.sums[purse] += entry.cost if entry.kind == "charge" and entry.day >= self.first_day else 0
        if one is None:
            if entry.kind == "charge" and entry.day >= self.first_day and at <= self.begin.entry:
                self.missing.add(purse)
        elif at <= one.moment.entry:
            self.used[purse] += entry.cost if entry.kind == "charge" else 0
        elif entry.job in self.open:
            pass  # counted already
        elif arrival is None or one.moment.arrival is None or (came := number_in(arrival)) is None:
            self.unclear.add(purse)  # nobody knows whether the job was there at that moment
        elif came <= one.moment.arrival:
            self.reserved[purse] += entry.held

    def compare_kinds(self, job_id: str, row: Sequence[Any], kind: str) -> None:
        """What the record says, what the ledger says and how the job ended must agree."""
        settled, state = row[3], row[7]
        if kind != settled:
            self.wrong[job_id] = f"settled as {settled}, in the ledger as {kind}"
        elif kind != ("charge" if state == JobState.SUCCEEDED else "refund"):
            self.wrong[job_id] = f"{str(state).lower()}, but settled as {kind}"

    def differences(self) -> Differences:
        found: Differences = {}
        for purse, one in self.stored.items():
            if one.used != self.used[purse]:
                found[(*purse, "used")] = one.used - self.used[purse]
            if one.reserved != self.reserved[purse] and purse not in self.unclear:
                found[(*purse, "reserved")] = one.reserved - self.reserved[purse]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """(tenant or tenant/key, day, kind) -> units that usage says too many; jobs whose entries are wrong."""

    usage: Differences = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)  # job -> the kind of its entry that the ledger lost
    twice: tuple[str, ...] = ()
    unclear: dict[str, str] = field(default_factory=dict)  # told alone: which side is right is not known


class UsageAudit:
    """Compares; raises RedisUnavailable."""

    def __init__(self, store: JobStore, stop: threading.Event) -> None:
        self._store = store
        self._redis = store.redis
        self._scripts = Scripts(store.redis)
        self._ledger = Ledger(store.redis)
        self._stop = stop
        self._before: Checkpoint | None = None
        self._known: set[str] = set()  # jobs without a named entry that have one

    def audit(self, *, repair: bool, goes_on: bool = False) -> UsageReport:
        """Compare everything; put back what the ledger lost, then correct usage, if `repair`.

        `goes_on`: of the ledger only what is new since the audit before by this object, if that was on the same day.
        """
        if not goes_on:
            self._before, self._known = None, set()
        begin = self._moment([], [])[0]
        count = self._measure(self._names(), begin, self._checkpoint())
        if missing := sorted(count.missing):
            again = self._measure(missing, begin)
            count.stored |= again.stored
            count.used |= again.used
            count.reserved |= again.reserved
            count.unclear |= again.unclear
        lost, twice = self._entries(count)
        if goes_on and not self._stop.is_set():
            self._before = Checkpoint(count.last, count.first_day, count.sums, count.elsewhere)
            self._known |= {job_id for job_id in count.looked_for if job_id not in lost}
        if repair:
            for part in _parts(list(lost), PURSES_AT_ONCE):
                self._scripts.run("audit_entry", *part)
        unclear, differences = dict(count.wrong), count.differences()
        if repair:
            unclear |= dict.fromkeys(self._correct(differences, count), "not corrected")
        return UsageReport(usage=differences, lost=lost, twice=twice, unclear=unclear)

    def _checkpoint(self) -> Checkpoint | None:
        """Where the audit before came to; None where the server lost that, or the day is another one."""
        before = self._before
        if before is None or before.first_day != self._first_day_kept():
            return None
        with redis_errors():
            return before if self._redis.xrange(KEY, before.last, before.last) else None

    def _names(self) -> list[Purse]:
        with redis_errors():
            keys = {key.removeprefix(f"{PREFIX}use:") for key in self._scan("use:*")}
        return sorted((name.rpartition(":")[0], name.rpartition(":")[2]) for name in keys)

    def _scan(self, pattern: str) -> Iterator[str]:
        for key in self._redis.scan_iter(PREFIX + pattern, count=PAGE):
            if self._stop.is_set():
                return
            yield str(key)

    def _moment(self, purses: Sequence[Purse], lists: Sequence[str]) -> tuple[Moment, dict[Purse, Stored]]:
        """One step: these purses, and the moment at which they say so."""
        answer = self._scripts.run("audit_usage", len(purses), *(f"{who}:{day}" for who, day in purses), *lists)
        entry_id, arrival, repairs, *rest = answer
        moment = Moment(
            entry=parse_id(str(entry_id)),
            entry_id=str(entry_id),
            arrival=float(arrival) if arrival else None,
            repairs=str(repairs),
        )
        rows = zip(*[iter(int(value) for value in rest)] * 4, strict=True)
        return moment, {
            purse: Stored(moment=moment, is_there=bool(there), used=used, reserved=reserved, kept=kept)
            for purse, (there, used, reserved, kept) in zip(purses, rows, strict=True)
        }

    def _measure(self, purses: Sequence[Purse], begin: Moment, before: Checkpoint | None = None) -> Count:
        with redis_errors():
            lists = [key.removeprefix(f"{PREFIX}hold:") for key in self._scan("hold:*")]
        stored: dict[Purse, Stored] = {}
        for part in _parts(purses, PURSES_AT_ONCE):
            stored |= self._moment(part, lists)[1]
        kept = Counter({purse: one.kept for purse, one in stored.items()})
        count = Count(stored, begin, self._first_day_kept(), reserved=kept)
        self._count_jobs(count)
        if before and not count.looked_for:
            count.go_on_from(before)
            self._count_entries(count, after=before.last)
        else:
            self._count_entries(count, start_ms=_start_ms(count))
        return count

    def _count_jobs(self, count: Count) -> None:
        cut_ms = self._ledger.cut_ms(self._store.settings.ledger_days)
        with redis_errors():
            for ids in _pages(key.removeprefix(f"{PREFIX}job:") for key in self._scan("job:*")):
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in ids:
                    pipeline.hmget(f"{PREFIX}job:{job_id}", FIELDS)
                rows = {job_id: row for job_id, row in zip(ids, pipeline.execute(), strict=True) if row[0]}
                for job_id, row in rows.items():
                    if not row[3]:
                        count.count_open(job_id, row)
                self._find_entries({job_id: row for job_id, row in rows.items() if row[3]}, cut_ms, count)

    def _find_entries(self, settled: dict[str, Sequence[Any]], cut_ms: int, count: Count) -> None:
        """Whether settled jobs stand in the ledger where they say, as they say, and as they ended."""
        pipeline = self._redis.pipeline(transaction=False)
        named = {job_id: row for job_id, row in settled.items() if _ENTRY.fullmatch(row[6] or "")}
        for row in named.values():
            pipeline.xrange(KEY, row[6], row[6])
        found = dict(zip(named, pipeline.execute() if named else [], strict=True))
        for job_id, row in settled.items():
            entry = found.get(job_id)
            if entry and entry[0][1].get("job") == job_id:
                count.compare_kinds(job_id, row, entry[0][1].get("kind", ""))
            elif self._ended_ms(row, is_named=job_id in named) < cut_ms or job_id in self._known:
                continue  # trimmed, or found by an audit before
            elif len(count.looked_for) < LOOKED_FOR_MOST:
                count.looked_for[job_id] = row

    @staticmethod
    def _ended_ms(row: Sequence[Any], *, is_named: bool) -> float:
        return parse_id(row[6])[0] if is_named else number_in(row[8]) or 0

    def _count_entries(self, count: Count, *, after: str = "", start_ms: int = 0) -> None:
        for page in self._ledger.pages(after=after, start_ms=start_ms):
            if self._stop.is_set():
                return
            for entry, (named, arrival) in zip(page, self._jobs_of(page), strict=True):
                count.last = entry.id
                if named != entry.id and (named or entry.job in count.looked_for):
                    count.elsewhere.setdefault(entry.job, []).append(entry.kind)
                for who in entry.purses:
                    count.count_entry((who, entry.day), entry, arrival)

    def _jobs_of(self, page: Sequence[Entry]) -> list[Sequence[Any]]:
        """Entry and arrival that the entries' jobs name."""
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for entry in page:
                pipeline.hmget(f"{PREFIX}job:{entry.job}", ["entry", "arrival"])
            return pipeline.execute()

    def _entries(self, count: Count) -> tuple[dict[str, str], tuple[str, ...]]:
        """Jobs whose entry the ledger lost, and jobs with more than one. Fills in what is wrong."""
        lost: dict[str, str] = {}
        for job_id, row in count.looked_for.items():
            kinds = count.elsewhere.get(job_id, [])
            if not kinds:
                self._lose(job_id, row, lost, count)
            elif len(kinds) == 1:
                count.compare_kinds(job_id, row, kinds[0])
        fits = count.looked_for.keys() | self._known  # one entry that they do not name is theirs
        twice = [job_id for job_id, kinds in count.elsewhere.items() if job_id not in fits or len(kinds) > 1]
        return lost, tuple(twice)

    def _lose(self, job_id: str, row: Sequence[Any], lost: dict[str, str], count: Count) -> None:
        """A charge that the ledger lost stays one: it is counted, never forgotten."""
        tenant, day, cost, kind, limited_key = row[:5]
        count.compare_kinds(job_id, row, kind)
        if number_in(cost) is None or not day:
            count.wrong[job_id] = UNREADABLE
        if job_id in count.wrong:
            return
        lost[job_id] = kind
        for who in purses_of(tenant, limited_key or "") if kind == "charge" else ():
            count.used[who, day] += int(cost)

    def _first_day_kept(self) -> str:
        """The oldest day whose usage can not have expired yet, by the server's clock."""
        with redis_errors():
            seconds, _ = self._redis.time()
        day = datetime.fromtimestamp(int(seconds), UTC) - timedelta(days=USE_KEPT_DAYS - 1)
        return f"{day:%Y%m%d}"

    def _correct(self, differences: Differences, count: Count) -> list[str]:
        """Take the differences off; those that were left alone."""
        disputed = self._disputed(count)
        left = [key for key in differences if key[2] == "used" and key[:2] in disputed]
        chosen = [key for key in differences if key not in left]
        arrival = max((one.moment.arrival or 0.0 for one in count.stored.values()), default=0.0)
        seen, repairs = (count.last, f"{arrival:.17g}", USE_KEPT_DAYS * 86_400), count.begin.repairs
        for part in _parts(chosen, PURSES_AT_ONCE):
            values: list[Any] = []
            for who, day, kind in part:
                units = differences[who, day, kind]
                values += (f"{who}:{day}", kind, units, int(count.stored[who, day].is_there))
            answer = str(self._scripts.run("audit_correct", repairs, *seen, *values)) if repairs != "-1" else "-1"
            repairs = answer
            if answer == "-1":
                left += part
        return [f"{kind} of {who} on {day}" for who, day, kind in left]

    def _disputed(self, count: Count) -> set[Purse]:
        """Purses with a job whose settlement is in doubt: what was used of them is left to a person."""
        if len(count.looked_for) >= LOOKED_FOR_MOST:
            return set(count.used) | set(count.reserved)
        with redis_errors():
            pipeline = self._redis.pipeline(transaction=False)
            for job_id in count.wrong:
                pipeline.hmget(f"{PREFIX}job:{job_id}", ["tenant", "day", "key"])
            rows = pipeline.execute() if count.wrong else []
        return {(who, day) for tenant, day, key in rows if tenant for who in purses_of(tenant, key or "")}


def number_in(text: str | None) -> float | None:
    """The number that a field says, 0 for none; None where it is no number."""
    try:
        return float(text or 0)
    except ValueError:
        return None


def _start_ms(count: Count) -> int:
    """From where on the ledger may hold an entry of a day that is looked at, or of a job that is looked for."""
    if count.looked_for:
        return 0
    day = min([count.first_day, *(day for _, day in count.stored)])
    return int((datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) - EARLIER).timestamp() * 1000)


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (values[first : first + size] for first in range(0, len(values), size))


def _pages(values: Iterable[str]) -> Iterator[list[str]]:
    page: list[str] = []
    for value in values:
        page.append(value)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
