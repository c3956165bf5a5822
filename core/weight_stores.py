"""Weights that workers left in shared memory for the next one: which are unused, and removing them.

A store is a folder `zimg-weights-<key>` whose file `lock` is held by everyone who uses it (worker/offload/packed_store
makes it; nothing here needs torch).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the host's shared memory is the point
PREFIX = "zimg-weights-"
#: How long unused weights wait in shared memory for a worker.
UNUSED_SECONDS = 3_600.0


def unused_stores(root: Path = SHARED_MEMORY) -> list[Path]:
    """The stores that nobody uses at this moment."""
    return [folder for folder in sorted(root.glob(f"{PREFIX}*")) if _try(folder, remove=False)]


def drop_stores(root: Path = SHARED_MEMORY) -> list[Path]:
    """Remove the stores that nobody uses; returns them."""
    return [folder for folder in sorted(root.glob(f"{PREFIX}*")) if _try(folder, remove=True)]


@dataclass
class StoreSweeper:
    """Removes stores that were seen unused at every look for an hour. Looks cost a few system calls."""

    root: Path = SHARED_MEMORY
    unused_seconds: float = UNUSED_SECONDS
    _since: dict[Path, float] = field(default_factory=dict)

    def tick(self, now: float) -> list[Path]:
        """One look; returns what was removed."""
        unused = unused_stores(self.root)
        self._since = {folder: self._since.get(folder, now) for folder in unused}
        late = [folder for folder, since in self._since.items() if now - since >= self.unused_seconds]
        return [folder for folder in late if _try(folder, remove=True)]


def _try(folder: Path, *, remove: bool) -> bool:
    """Whether nobody uses the store; removes it while that is certain."""
    with _exclusively(folder) as unused:
        if unused and remove:
            shutil.rmtree(folder, ignore_errors=True)
        return unused


@contextmanager
def _exclusively(folder: Path) -> Iterator[bool]:
    try:
        file = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        yield folder.is_dir()
        return
    except OSError:
        yield False  # somebody else's
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unused = True
    except OSError:
        unused = False
    try:
        yield unused
    finally:
        os.close(file)
