"""What one run of the reaper took back, as core/lua/reap.lua answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ReapReport:
    """How many of each kind."""

    stalled: bool = False  # it, or Redis, had stood still: every lease got one more period
    leases: int = 0
    poisoned: int = 0
    unclaimed: int = 0
    retries: int = 0
    deadlines: int = 0
    mirrored: int = 0
    is_full: bool = False  # there may be more: run again at once

    @property
    def total(self) -> int:
        return self.leases + self.unclaimed + self.retries + self.deadlines + self.mirrored

    @classmethod
    def read(cls, answer: Sequence[Any]) -> tuple[ReapReport, list[str]]:
        """The report, and the ids of records that the script could not work with."""
        stalled, leases, poisoned, unclaimed, retries, deadlines, mirrored, is_full, *broken = answer
        report = cls(
            stalled=bool(stalled),
            leases=leases,
            poisoned=poisoned,
            unclaimed=unclaimed,
            retries=retries,
            deadlines=deadlines,
            mirrored=mirrored,
            is_full=is_full == 1,
        )
        return report, [str(job_id) for job_id in broken]
