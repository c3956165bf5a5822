"""Model weights that workers keep on this machine: in shared memory between two workers, and packed on disk.

A store is a folder `zimg-weights-<key>`: `data`, `index.json` (written last) and `lock`, held by everyone who uses it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the host's shared memory is the point
PREFIX = "zimg-weights-"


@dataclass(frozen=True, slots=True)
class WeightStore:
    """One store as it was when looked at; `size_bytes` is what it takes."""

    folder: Path
    place: str  # memory, disk
    size_bytes: int
    is_complete: bool
    in_use: bool
    last_used_seconds: float  # ago

    @property
    def name(self) -> str:
        """The part of the key that tells stores apart."""
        return self.folder.name.removeprefix(PREFIX)


def places(data_dir: Path, weights_dir: str = "") -> list[tuple[str, Path]]:
    """Where stores may lie, by ZIMG_DATA_DIR and ZIMG_WEIGHTS_DIR."""
    disk = [] if weights_dir == "off" else [("disk", Path(weights_dir) if weights_dir else data_dir / "weights")]
    return [("memory", SHARED_MEMORY), *disk]


def find_stores(where: Sequence[tuple[str, Path]]) -> list[WeightStore]:
    """All stores in these places."""
    folders = [(place, folder) for place, root in where for folder in sorted(root.glob(f"{PREFIX}*"))]
    return [_look(place, folder) for place, folder in folders]


def drop(store: WeightStore) -> bool:
    """Remove a store; False where somebody uses it by now."""
    with _exclusively(store.folder) as unused:
        if unused:
            shutil.rmtree(store.folder, ignore_errors=True)
        return unused


def _look(place: str, folder: Path) -> WeightStore:
    with _exclusively(folder) as unused:
        in_use = not unused
    size, last_used = 0, 0.0
    for path in folder.iterdir() if folder.is_dir() else ():
        stat = path.stat()
        size += stat.st_blocks * 512
        if path.name == "lock":
            last_used = stat.st_mtime
    return WeightStore(
        folder=folder,
        place=place,
        size_bytes=size,
        is_complete=(folder / "index.json").is_file(),
        in_use=in_use,
        last_used_seconds=0.0 if in_use else max(0.0, time.time() - last_used),
    )


@contextmanager
def _exclusively(folder: Path) -> Iterator[bool]:
    """Hold the store's lock while inside, if nobody uses it; whether that is so."""
    try:
        file = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        yield True
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
