"""`python -m scheduler.health`: exit 0 while the scheduler of these settings turns, for probes."""

from __future__ import annotations

import sys
import time

from core.progress import answer_probe, why_not_well
from core.settings import Settings

#: Touched while both `release` and `reap` turn, also while Redis is away.
PROGRESS_FILE = "scheduler.progress"


def main() -> int:
    """The probe: 0 for a scheduler that is well, 1 and a sentence for one that is not."""
    settings = Settings.from_env()
    file, limit = settings.data_dir / PROGRESS_FILE, settings.progress_stale_seconds
    return answer_probe(why_not_well(file, "scheduler", now=time.time(), limit_seconds=limit))


if __name__ == "__main__":
    sys.exit(main())
