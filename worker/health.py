"""Whether a worker is well, by two files: one that it stamps as it begins, one that it touches while it is ready.

    python -m worker.health            exit 0 while it is ready: Kubernetes' startup probe
    python -m worker.health --alive    also while it starts: the liveness probe, and compose's healthcheck

It imports little: a probe is a process of its own, and a worker asks for this before all else.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import sys
import time
from pathlib import Path

from core.progress import START_SECONDS, answer_probe, why_not_well
from core.settings import Settings


class Question(enum.Enum):
    """What a probe wants to know."""

    READY = enum.auto()
    ALIVE = enum.auto()  # what is not should be killed


def progress_file(settings: Settings) -> Path:
    """The file that the worker of these settings touches while it is well."""
    return Path(settings.progress_file or settings.data_dir / "worker.progress")


def start_file(settings: Settings) -> Path:
    """The file whose time stamp says when it began to start."""
    return progress_file(settings).with_suffix(".start")


def trouble(settings: Settings, now: float, question: Question = Question.READY) -> str:
    """Why the worker is not ready, or not alive, in a sentence; "" while it is. `now` is the time of day."""
    if question is Question.ALIVE and not has_been_well(settings):
        return _why_not_starting(start_file(settings), now)
    limit = settings.progress_stale_seconds
    return why_not_well(progress_file(settings), "worker", now=now, limit_seconds=limit)


def _why_not_starting(file: Path, now: float) -> str:
    try:
        age = now - file.stat().st_mtime
    except OSError:
        return f"{file} is not there: the worker has not begun"
    return f"the worker starts since {age:.0f} s (limit {START_SECONDS:.0f} s)" if age > START_SECONDS else ""


def has_been_well(settings: Settings) -> bool:
    """Whether the worker of these settings has become ready since `forget_progress`."""
    return progress_file(settings).exists()


def forget_progress(settings: Settings) -> None:
    """A worker begins: whoever watches the files sees that it is not ready yet, and gives it the time of a start.

    To be called as early as can be: what the process before it left may be fresh.
    """
    file = start_file(settings)
    with contextlib.suppress(OSError):  # no room for it is no reason not to start
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    progress_file(settings).unlink(missing_ok=True)


def main() -> int:
    """The probe: 0 for a worker that is well, 1 and a sentence for one that is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alive", action="store_true", help="0 also while it starts")
    question = Question.ALIVE if parser.parse_args().alive else Question.READY
    return answer_probe(trouble(Settings.from_env(), time.time(), question))


if __name__ == "__main__":
    sys.exit(main())
