"""The auditor proves usage against the ledger, each ended job by its entry, and each job against its place.

    python -m scheduler.auditor             (looks; exit code 1 where something is wrong, 2 where it could not look)
    python -m scheduler.auditor --repair    (and mends it)

The scripts keep all of this true by themselves; what breaks it is a failover that lost the last writes. It may run
beside a working service: jobs are checked one by one in a script, and usage is compared as it was at one moment
(scheduler/audit_usage.py). What no repair can decide is only told. `python -m scheduler` audits by itself
(scheduler/regular_audit.py) and only tells; repairing is an operator's decision.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from core.errors import ConfigurationError, RedisUnavailable
from core.job_store import JobStore
from core.logs import configure_logging, get_logger
from core.metrics import AUDIT_KINDS
from core.redis_client import PREFIX, connect, redis_errors, require_zimg
from core.settings import Settings
from scheduler.audit_places import PlaceAudit
from scheduler.audit_queues import QueueAudit
from scheduler.audit_usage import UsageAudit

PAUSE_SECONDS = 2.0  # before a queue that stands aside is looked at again: longer than any change of a cap takes
LINES_MOST = 100  # of each kind in the log

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was wrong; job id (or queue) -> what, and (tenant, day, kind) -> units that usage says too many.

    `counters`: the name of a count of waiting jobs, work or rows -> how much it was too high. A key with limits of its
    own stands beside its tenant, as tenant/key. `unclear`: what no repair decides.
    """

    jobs: int = 0
    misplaced: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)
    settled_twice: tuple[str, ...] = ()
    unclear: Mapping[str, str] = field(default_factory=dict)
    repaired: bool = False

    @property
    def is_clean(self) -> bool:
        return not any(self.differences.values())

    @property
    def differences(self) -> dict[str, int]:
        """How many of each kind of core.metrics.AUDIT_KINDS."""
        found: tuple[Sized, ...] = (self.misplaced, self.counters, self.usage, self.settled_twice, self.unclear)
        return {kind: len(one) for kind, one in zip(AUDIT_KINDS, found, strict=True)}

    @property
    def left(self) -> dict[str, int]:
        """As `differences`, of what is still wrong."""
        mended = ("place", "counter", "usage") if self.repaired else ()
        return {kind: 0 if kind in mended else count for kind, count in self.differences.items()}


class Auditor:
    """Reads everything; raises RedisUnavailable."""

    def __init__(
        self, store: JobStore, *, pause_seconds: float = PAUSE_SECONDS, stop: threading.Event | None = None
    ) -> None:
        """`stop`: once set the audit ends early, and its report is worth nothing."""
        stop = stop or threading.Event()
        self._redis = store.redis
        self._places = PlaceAudit(store, stop, pause_seconds)
        self._queues = QueueAudit(store)
        self._usage = UsageAudit(store, stop)

    def audit(self, *, repair: bool = False, goes_on: bool = False) -> AuditReport:
        """Look at every job and every day; put right what is wrong and certain if `repair`.

        `goes_on`: of the ledger only what is new since the last audit by this object; all of it once a day.
        """
        jobs, misplaced, unreadable = self._places.jobs(repair=repair)
        misplaced |= self._places.members(repair=repair)
        misplaced |= dict.fromkeys(self._places.parked(repair=repair), "stands aside for no reason")
        misplaced |= dict.fromkeys(self._places.holds(repair=repair), "keeps units for ever")
        counters, strays = self._queues.counters(repair=repair)
        batches, unclear = self._places.batches(repair=repair)
        usage = self._usage.audit(repair=repair, goes_on=goes_on)
        misplaced |= strays | {job_id: f"{kind} lost from the ledger" for job_id, kind in usage.lost.items()}
        return AuditReport(
            jobs=jobs,
            misplaced=misplaced,
            counters=counters | batches,
            usage=usage.usage,
            settled_twice=usage.twice,
            unclear={**unclear, **usage.unclear, **unreadable},
            repaired=repair,
        )

    def remember(self, report: AuditReport) -> None:
        """Keep what the metrics show: how many differences are left, and when that was seen by the server's clock."""
        with redis_errors():
            seconds, microseconds = self._redis.time()
            kept: dict[Any, Any] = {**report.left, "at": int(seconds) * 1000 + int(microseconds) // 1000}
            self._redis.hset(f"{PREFIX}audit", mapping=kept)


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
    for name, what in islice(report.unclear.items(), LINES_MOST):
        log.error("for a person to decide", action="audit", name=name, wrong=what)
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
    """Audit once, with --repair repair; 1 if something is wrong and was left so, 2 if nothing could be looked at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    arguments = parser.parse_args()
    try:
        report = _audit_once(Settings.from_env(), repair=arguments.repair)
    except (ConfigurationError, RedisUnavailable) as error:
        print(f"auditor: {error}", file=sys.stderr)
        return 2
    tell(report)
    return 1 if any(report.left.values()) else 0


def _audit_once(settings: Settings, *, repair: bool) -> AuditReport:
    configure_logging(settings)
    client = connect(settings.redis_url)
    require_zimg(client)
    auditor = Auditor(JobStore(client, settings))
    report = auditor.audit(repair=repair)
    auditor.remember(report)
    return report


if __name__ == "__main__":
    sys.exit(main())
