"""Files that a process touches while it is well: whoever watches one sees a process that hangs as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

#: Until its first sign of life a worker may load a model of 20 GB from a slow disk.
START_SECONDS = 900.0


def why_not_well(file: Path, name: str, *, now: float, limit_seconds: float) -> str:
    """Why the process `name` is not well, in a sentence; "" while its `file` moves. `now` is the time of day."""
    try:
        age = now - file.stat().st_mtime
    except OSError:
        return f"{file} is not there: the {name} is not ready yet"
    return f"{file} stands still since {age:.0f} s (limit {limit_seconds:.0f} s)" if age > limit_seconds else ""


def answer_probe(why: str) -> int:
    """A probe's exit status: 0 where there is nothing to say, 1 and the sentence on standard error."""
    if why:
        print(why, file=sys.stderr)
    return 1 if why else 0
