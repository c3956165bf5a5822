"""The reaper: each second takes back leases, releases and waits that ran out."""

from __future__ import annotations

from core.job_store import JobStore, ReapReport
from core.logs import get_logger

PERIOD_SECONDS = 1.0
RUNS_AT_ONCE = 50  # bounds one turn after an outage; the rest follows a second later

log = get_logger(__name__)


class Reaper:
    """Carries out JobStore.reap and tells what it found. Any number may run at once."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.taken_back = 0

    def turn(self) -> None:
        """Reap until nothing is due. Raises RedisUnavailable."""
        if lists := self._store.reap_holds():
            log.warning("lists were left in part: what was kept for the rest is free again", action="reap", lists=lists)
        for _ in range(RUNS_AT_ONCE):
            report = self._store.reap()
            self._tell(report)
            self.taken_back += report.total
            if not report.is_full:
                return

    def _tell(self, report: ReapReport) -> None:
        if report.stalled:
            log.warning("stood still: every lease gets one more period", action="reap")
        if report.leases or report.unclaimed or report.deadlines:
            log.warning(
                "took jobs back",
                action="reap",
                leases=report.leases,
                poisoned=report.poisoned,
                unclaimed=report.unclaimed,
                deadlines=report.deadlines,
            )
