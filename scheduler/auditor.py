"""The auditor proves usage against the ledger and each job against its place. `python -m scheduler.auditor`.

The scripts keep all of this true by themselves; what breaks it is a failover that lost the last writes. It may run
beside a working service: jobs are checked one by one in a script, and usage is only corrected by a difference that two
readings in a row agree on.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from core.job_store import JobStore
from core.logs import configure_logging, get_logger
from core.redis_client import PREFIX, connect, redis_errors
from core.settings import Settings

PAGE = 500
PAUSE_SECONDS = 2.0  # between the two readings: longer than any script runs

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was wrong; job id -> what, and (tenant, day, kind) -> units that usage says too many."""

    jobs: int = 0
    misplaced: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    settled_twice: tuple[str, ...] = ()
    repaired: bool = False

    @property
    def is_clean(self) -> bool:
        return not (self.misplaced or self.usage or self.settled_twice)


class Auditor:
    """Reads everything; raises RedisUnavailable."""

    def __init__(self, store: JobStore, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._store = store
        self._redis = store.redis
        self._pause_seconds = pause_seconds

    def audit(self, *, repair: bool = False) -> AuditReport:
        """Look at every job and every day; put right what is wrong if `repair`. A doubled settlement is only told."""
        jobs, misplaced = 0, {}
        for job_id in self._job_ids():
            jobs += 1
            if wrong := self._store.audit_job(job_id, repair=repair):
                misplaced[job_id] = wrong
        differences = self._steady_differences()
        if repair:
            self._correct(differences)
        _, twice = self._ledger()
        return AuditReport(
            jobs=jobs, misplaced=misplaced, usage=differences, settled_twice=tuple(twice), repaired=repair
        )

    def _job_ids(self) -> Iterator[str]:
        with redis_errors():
            for key in self._redis.scan_iter(f"{PREFIX}job:*", count=PAGE):
                yield str(key).removeprefix(f"{PREFIX}job:")

    def _steady_differences(self) -> dict[tuple[str, str, str], int]:
        """Those that are the same in two readings; what is on its way differs between them."""
        first = self._differences()
        if not first:
            return {}
        time.sleep(self._pause_seconds)
        second = self._differences()
        return {key: value for key, value in first.items() if second.get(key) == value}

    def _differences(self) -> dict[tuple[str, str, str], int]:
        used, _ = self._ledger()
        reserved = self._reservations()
        found: dict[tuple[str, str, str], int] = {}
        for (tenant, day), stored in self._stored_usage().items():
            for kind, truth in (("used", used[tenant, day]), ("reserved", reserved[tenant, day])):
                if int(stored.get(kind, 0)) != truth:
                    found[tenant, day, kind] = int(stored.get(kind, 0)) - truth
        return found

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
                    charged[entry["tenant"], entry["day"]] += int(entry["cost"])
            if len(page) < PAGE:
                return charged, [job_id for job_id, count in entries.items() if count > 1]
            start = f"({page[-1][0]}"

    def _reservations(self) -> Counter[tuple[str, str]]:
        """Units that jobs not yet settled hold, by tenant and day."""
        held: Counter[tuple[str, str]] = Counter()
        ids = list(self._job_ids())
        for first in range(0, len(ids), PAGE):
            with redis_errors():
                pipeline = self._redis.pipeline(transaction=False)
                for job_id in ids[first : first + PAGE]:
                    pipeline.hmget(f"{PREFIX}job:{job_id}", ["tenant", "day", "cost", "settled"])
                rows = pipeline.execute()
            for tenant, day, cost, settled in rows:
                if tenant and not settled:
                    held[tenant, day] += int(cost)
        return held

    def _stored_usage(self) -> dict[tuple[str, str], dict[str, str]]:
        stored: dict[tuple[str, str], dict[str, str]] = {}
        with redis_errors():
            for key in self._redis.scan_iter(f"{PREFIX}use:*", count=PAGE):
                tenant, _, day = str(key).removeprefix(f"{PREFIX}use:").rpartition(":")
                stored[tenant, day] = self._redis.hgetall(key)  # type: ignore[assignment]
        return stored

    def _correct(self, differences: Mapping[tuple[str, str, str], int]) -> None:
        with redis_errors():
            for (tenant, day, kind), too_many in differences.items():
                self._redis.hincrby(f"{PREFIX}use:{tenant}:{day}", kind, -too_many)


def main() -> int:
    """Audit once, with --repair repair; 1 if something is wrong and was left so."""
    settings = Settings.from_env()
    configure_logging(settings)
    report = Auditor(JobStore(connect(settings.redis_url), settings)).audit(repair="--repair" in sys.argv[1:])
    for job_id, wrong in report.misplaced.items():
        log.warning("job out of place", action="audit", job_id=job_id, wrong=wrong, repaired=report.repaired)
    for (tenant, day, kind), units in report.usage.items():
        log.warning("usage is off", action="audit", tenant=tenant, day=day, kind=kind, units=units)
    for job_id in report.settled_twice:
        log.error("job settled twice", action="audit", job_id=job_id)
    log.info("audit done", action="audit", jobs=report.jobs, clean=report.is_clean, repaired=report.repaired)
    return 0 if report.is_clean or (report.repaired and not report.settled_twice) else 1


if __name__ == "__main__":
    sys.exit(main())
