"""The auditor proves usage against the ledger and each job against its place.

    python -m scheduler.auditor             (looks; exit code 1 where something is wrong)
    python -m scheduler.auditor --repair    (and mends it)

The scripts keep all of this true by themselves; what breaks it is a failover that lost the last writes. It may run
beside a working service: jobs are checked one by one in a script, and usage is only corrected by a difference that two
readings in a row agree on. The counters of the queues are recounted by scripts. `python -m scheduler` audits by itself
(scheduler/regular_audit.py) and only tells; repairing is an operator's decision.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from core.job_store import JobStore
from core.logs import configure_logging, get_logger
from core.metrics import AUDIT_KINDS
from core.redis_client import PREFIX, connect, redis_errors
from core.settings import Settings

PAGE = 500
PAUSE_SECONDS = 2.0  # between the two readings: longer than any script runs
#: A day's usage is kept for 40 days after its last submit (submit.lua): a younger one that is missing was lost.
USE_KEPT_DAYS = 40
#: A longer queue is recounted in a repair alone: one step over 20,000 jobs holds the server for 50 to 85 ms.
QUEUE_MOST = 20_000
LINES_MOST = 100  # of each kind in the log

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was wrong; job id -> what, and (tenant, day, kind) -> units that usage says too many.

    `counters`: the name of a count of waiting jobs or work -> how much it was too high. A key with limits of its own
    stands beside its tenant, as tenant/key.
    """

    jobs: int = 0
    misplaced: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    settled_twice: tuple[str, ...] = ()
    repaired: bool = False

    @property
    def is_clean(self) -> bool:
        return not any(self.differences.values())

    @property
    def differences(self) -> dict[str, int]:
        """How many of each kind of core.metrics.AUDIT_KINDS."""
        counts = (len(self.misplaced), len(self.counters), len(self.usage), len(self.settled_twice))
        return dict(zip(AUDIT_KINDS, counts, strict=True))


class Auditor:
    """Reads everything; raises RedisUnavailable."""

    def __init__(
        self, store: JobStore, *, pause_seconds: float = PAUSE_SECONDS, stop: threading.Event | None = None
    ) -> None:
        """`stop`: once set the audit ends early, and its report is worth nothing."""
        self._store = store
        self._redis = store.redis
        self._pause_seconds = pause_seconds
        self._stop = stop or threading.Event()

    def audit(self, *, repair: bool = False) -> AuditReport:
        """Look at every job and every day; put right what is wrong if `repair`. A doubled settlement is only told."""
        jobs, misplaced = 0, {}
        for job_id in self._job_ids():
            jobs += 1
            if wrong := self._store.audit_job(job_id, repair=repair):
                misplaced[job_id] = wrong
        counters = self._counters(misplaced, repair=repair)
        differences = self._steady_differences()
        if repair:
            self._correct(differences)
        _, twice = self._ledger()
        return AuditReport(
            jobs=jobs,
            misplaced=misplaced,
            counters=counters,
            usage=differences,
            settled_twice=tuple(twice),
            repaired=repair,
        )

    def remember(self, report: AuditReport) -> None:
        """Keep what the metrics show: how many differences are left, and when that was seen by the server's clock."""
        left = report.differences
        if report.repaired:
            left = {kind: count if kind == "settled_twice" else 0 for kind, count in left.items()}
        with redis_errors():
            seconds, microseconds = self._redis.time()
            kept: dict[Any, Any] = {**left, "at": int(seconds) * 1000 + int(microseconds) // 1000}
            self._redis.hset(f"{PREFIX}audit", mapping=kept)

    def _counters(self, misplaced: dict[str, str], *, repair: bool) -> dict[str, float]:
        """Counts that are off. Entries of queues that are no waiting jobs are put among the misplaced."""
        found: dict[str, float] = {}
        for entity in self._queues():
            with redis_errors():
                is_long = not repair and int(self._redis.zcard(f"{PREFIX}tq:{entity}")) > QUEUE_MOST
            if is_long:
                continue
            work, strays = self._store.audit_queue(entity, repair=repair)
            if work:
                found[f"queued_work of {entity}"] = work
            misplaced.update(dict.fromkeys(strays, "in a queue but not queued"))
        lanes = self._store.audit_counts(repair=repair)
        return found | {f"nq of {lane}": float(many) for lane, many in lanes.items()}

    def _queues(self) -> list[str]:
        """Every (tenant, lane, model) that has a queue, or whose waiting work is counted."""
        with redis_errors():
            queues = [str(key).removeprefix(f"{PREFIX}tq:") for key in self._scan("tq:*")]
            counted = [str(one) for one in self._redis.hkeys(f"{PREFIX}queued_work")]
        return sorted({*queues, *counted})

    def _scan(self, pattern: str) -> Iterator[str]:
        """Keys by pattern; none after a stop."""
        for key in self._redis.scan_iter(PREFIX + pattern, count=PAGE):
            if self._stop.is_set():
                return
            yield str(key)

    def _job_ids(self) -> Iterator[str]:
        with redis_errors():
            for key in self._scan("job:*"):
                yield key.removeprefix(f"{PREFIX}job:")

    def _steady_differences(self) -> dict[tuple[str, str, str], int]:
        """Those that are the same in two readings; what is on its way differs between them."""
        first = self._differences()
        if not first:
            return {}
        self._stop.wait(self._pause_seconds)
        second = self._differences()
        return {key: value for key, value in first.items() if second.get(key) == value}

    def _differences(self) -> dict[tuple[str, str, str], int]:
        used, _ = self._ledger()
        reserved = self._reservations()
        found: dict[tuple[str, str, str], int] = {}
        stored_usage = self._stored_usage()
        first_day = self._first_day_kept()
        lost = {key for key in (*used, *reserved) if key not in stored_usage and key[1] >= first_day}
        for tenant, day in (*stored_usage, *lost):
            stored = stored_usage.get((tenant, day), {})
            for kind, truth in (("used", used[tenant, day]), ("reserved", reserved[tenant, day])):
                if int(stored.get(kind, 0)) != truth:
                    found[tenant, day, kind] = int(stored.get(kind, 0)) - truth
        return found

    def _first_day_kept(self) -> str:
        """The oldest day whose usage can not have expired yet, by the server's clock."""
        with redis_errors():
            seconds, _ = self._redis.time()
        day = datetime.fromtimestamp(int(seconds), UTC) - timedelta(days=USE_KEPT_DAYS - 1)
        return f"{day:%Y%m%d}"

    def _ledger(self) -> tuple[Counter[tuple[str, str]], list[str]]:
        """Charged units by tenant and day, and jobs with more than one entry."""
        charged: Counter[tuple[str, str]] = Counter()
        entries: Counter[str] = Counter()
        start = "-"
        while True:
            with redis_errors():
                page: list[tuple[str, dict[str, str]]] = self._redis.xrange(  # type: ignore[assignment]
                    f"{PREFIX}ledger", min=start, count=PAGE
                )
            for _, entry in page:
                entries[entry["job"]] += 1
                if entry["kind"] == "charge":
                    for purse in _purses(entry["tenant"], entry.get("key", "")):
                        charged[purse, entry["day"]] += int(entry["cost"])
            if len(page) < PAGE:
                return charged, [job_id for job_id, count in entries.items() if count > 1]
            start = f"({page[-1][0]}"

    def _reservations(self) -> Counter[tuple[str, str]]:
        """Units that jobs not yet settled hold, and rows of lists that are still coming in, by tenant and day."""
        held = self._holds()
        ids = list(self._job_ids())
        for first in range(0, len(ids), PAGE):
            with redis_errors():
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in ids[first : first + PAGE]:
                    pipeline.hmget(f"{PREFIX}job:{job_id}", ["tenant", "day", "cost", "settled", "key"])
                rows = pipeline.execute()
            for tenant, day, cost, settled, limited_key in rows:
                for purse in _purses(tenant, limited_key) if tenant and not settled else ():
                    held[purse, day] += int(cost)
        return held

    def _holds(self) -> Counter[tuple[str, str]]:
        held: Counter[tuple[str, str]] = Counter()
        with redis_errors():
            for key in self._scan("hold:*"):
                tenant, day, units, limited_key = self._redis.hmget(key, ["tenant", "day", "units", "key"])
                for purse in _purses(str(tenant), str(limited_key or "")) if tenant and day else ():
                    held[purse, str(day)] += int(units or 0)
        return held

    def _stored_usage(self) -> dict[tuple[str, str], dict[str, str]]:
        stored: dict[tuple[str, str], dict[str, str]] = {}
        with redis_errors():
            for key in self._scan("use:*"):
                tenant, _, day = key.removeprefix(f"{PREFIX}use:").rpartition(":")
                stored[tenant, day] = self._redis.hgetall(key)  # type: ignore[assignment]
        return stored

    def _correct(self, differences: Mapping[tuple[str, str, str], int]) -> None:
        with redis_errors():
            for (tenant, day, kind), too_many in differences.items():
                key = f"{PREFIX}use:{tenant}:{day}"
                self._redis.hincrby(key, kind, -too_many)
                self._redis.expire(key, USE_KEPT_DAYS * 86_400)


def _purses(tenant: str, key: str) -> tuple[str, ...]:
    """Whose units a job counts in: its tenant's, and those of its key if that has limits of its own (prelude.lua)."""
    return (tenant, f"{tenant}/{key}") if key else (tenant,)


def tell(report: AuditReport) -> None:
    """Log each difference as an error, the first LINES_MOST of a kind, and a summary."""
    for job_id, wrong in islice(report.misplaced.items(), LINES_MOST):
        log.error("job out of place", action="audit", job_id=job_id, wrong=wrong, repaired=report.repaired)
    for name, too_high in islice(report.counters.items(), LINES_MOST):
        log.error("counter is off", action="audit", counter=name, too_high=too_high, repaired=report.repaired)
    for (tenant, day, kind), units in islice(report.usage.items(), LINES_MOST):
        log.error(
            "usage is off", action="audit", tenant=tenant, day=day, kind=kind, units=units, repaired=report.repaired
        )
    for job_id in report.settled_twice[:LINES_MOST]:
        log.error("job settled twice", action="audit", job_id=job_id)
    log.info(
        "audit done",
        action="audit",
        jobs=report.jobs,
        clean=report.is_clean,
        repaired=report.repaired,
        **report.differences,
    )


def main() -> int:
    """Audit once, with --repair repair; 1 if something is wrong and was left so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    arguments = parser.parse_args()
    settings = Settings.from_env()
    configure_logging(settings)
    auditor = Auditor(JobStore(connect(settings.redis_url), settings))
    report = auditor.audit(repair=arguments.repair)
    auditor.remember(report)
    tell(report)
    return 0 if report.is_clean or (report.repaired and not report.settled_twice) else 1


if __name__ == "__main__":
    sys.exit(main())
