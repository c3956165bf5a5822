"""The audit that runs by itself: every ZIMG_AUDIT_SECONDS one of the schedulers audits, tells, and repairs nothing."""

from __future__ import annotations

import secrets
import threading

from core.errors import RedisUnavailable
from core.job_store import JobStore
from core.logs import get_logger
from core.redis_client import PREFIX, redis_errors
from scheduler.auditor import PAUSE_SECONDS, Auditor, tell

#: How often a scheduler asks whether an audit is due.
PERIOD_SECONDS = 30.0

log = get_logger(__name__)


class RegularAudit:
    """Any number may run: a key that lives for one period says that somebody has audited in it, or does so now."""

    def __init__(self, store: JobStore, stop: threading.Event, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._store = store
        self._stop = stop
        self._auditor = Auditor(store, pause_seconds=pause_seconds, stop=stop)
        self._name = secrets.token_hex(8)
        self.audits = 0

    @property
    def pause_seconds(self) -> float:
        """How long to wait between two turns."""
        return min(PERIOD_SECONDS, self._store.settings.audit_seconds or PERIOD_SECONDS)

    def turn(self) -> None:
        """Audit if it is due and nobody else does. Raises RedisUnavailable, after which it is due again next period."""
        if not self._is_due():
            return
        try:
            report = self._auditor.audit(goes_on=True)
        except RedisUnavailable:
            raise
        except Exception:  # what the audit can not read must not stop the release of jobs in the same process
            log.exception("audit failed", action="audit")
            return
        if not self._stop.is_set():
            self.audits += 1
            self._auditor.remember(report)
            tell(report)

    def _is_due(self) -> bool:
        period_ms = round(self._store.settings.audit_seconds * 1000)
        if period_ms <= 0:
            return False
        with redis_errors():
            return bool(self._store.redis.set(f"{PREFIX}audit_turn", self._name, nx=True, px=period_ms))
