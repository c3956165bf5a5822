"""Processes of the release before, as far as Redis sees them: today's code with the frozen tests/data/scripts_v0.

`python -m tests.old_release` is its scheduler, `celery -A tests.old_release worker` its stub worker.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import core.scripts

FOLDER = Path(__file__).parent / "data" / "scripts_v0"
todays_texts = core.scripts.script_texts
#: That release's own code read shorter answers; what its scripts do to Redis stays theirs to the letter.
ANSWERS = {
    "reap": ("unclaimed, retries, late, mirrored}", "unclaimed, retries, late, mirrored, 0}"),  # not full
    "expire": ("local answer = {#due}", "local answer = {#due, 0}"),  # none is broken
}


@cache
def old_texts() -> dict[str, str]:
    """Name -> text as that release sent it; what it did not have, today's code around it runs as today."""
    texts = {path.stem: path.read_text() for path in FOLDER.glob("*.lua")}
    prelude = texts.pop("prelude")
    for name, (before, now) in ANSWERS.items():
        assert texts[name].count(before) == 1, name
        texts[name] = texts[name].replace(before, now)
    return {**todays_texts(), **{name: f"{prelude}\n-- {name}.lua\n{text}" for name, text in texts.items()}}


if __name__ == "__main__" or "celery" in Path(sys.argv[0]).parts:
    core.scripts.script_texts = old_texts  # type: ignore[assignment]
    from tests.stub_worker import app  # noqa: F401

if __name__ == "__main__":
    from scheduler.__main__ import main

    sys.exit(main())
