"""Folders of packed weights: the same form in shared memory and on disk, so that one is read straight into the other.

A store is a folder named after the model's key: `data` (every block's bytes, page-aligned), `lock` (held shared by
every user, exclusively by whoever fills or drops it) and `index.json`, written last: without it a store is incomplete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

PREFIX = "zimg-weights-"
FORMAT = 3
#: Bytes per read or write call, and calls at the same time: a disk wants several, and a kernel thread copies each.
PIECE = 32 << 20
THREADS = 8
#: Room that a store leaves on its disk for everybody else.
DISK_SLACK = 1 << 30

Index = dict[str, Any]


class Stopped(Exception):
    """Raised when the process ends while a store is written or checked."""


class StoreLock:
    """A store's lock file, open; survives the folder's removal by somebody else."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where there is none; raises OSError where that can not be."""
        self.folder = folder
        while True:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            except FileNotFoundError:
                continue  # dropped in between
            return

    def take(self, *, shared: bool) -> bool:
        """Try to hold it, or to change how; False when others are in the way or the folder is gone."""
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return self.is_current()

    def is_current(self) -> bool:
        """Whether the folder still holds this very lock."""
        try:
            return os.path.samestat((self.folder / "lock").stat(), os.fstat(self._file))
        except OSError:
            return False

    def touch(self) -> None:
        """Note that the store was in use just now."""
        os.utime(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_index(folder: Path) -> Index | None:
    """The index of a complete store whose data has the size it should have, else None."""
    try:
        index = json.loads((folder / "index.json").read_text())
        size = (folder / "data").stat().st_size
    except (OSError, ValueError):
        return None
    good = isinstance(index, dict) and index.get("format") == FORMAT and size == index["used"]
    return index if good else None


def write_index(folder: Path, index: Index) -> None:
    """Mark a store complete, at once."""
    draft = folder / "index.json.part"
    with draft.open("w") as file:
        file.write(json.dumps(index))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / "index.json")


def spoil(folder: Path) -> None:
    """Take a store's marker away, so that it is filled anew at the next start."""
    (folder / "index.json").unlink(missing_ok=True)


def drop_stores(root: Path, *, unused_seconds: float = 0.0) -> list[str]:
    """Remove every store that nobody uses and nobody used for `unused_seconds`; returns their names."""
    dropped = []
    for folder in sorted(root.glob(f"{PREFIX}*")):
        with _alone(folder) as last_use:
            if last_use is not None and time.time() - last_use >= unused_seconds:
                shutil.rmtree(folder, ignore_errors=True)
                dropped.append(folder.name)
    return dropped


@contextmanager
def _alone(folder: Path) -> Iterator[float | None]:
    """Hold a store's lock exclusively while inside; its last use, or None while others use it."""
    try:
        file = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        yield 0.0  # nobody has ever locked it
        return
    except OSError:
        yield None
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        last_use: float | None = os.fstat(file).st_mtime
    except OSError:
        last_use = None
    try:
        yield last_use
    finally:
        os.close(file)


class DiskStore:
    """The packed weights of one model on disk: read at a cold start, written once by whoever packed them."""

    def __init__(self, cache: Path, key: str) -> None:
        self.folder = cache / f"{PREFIX}{key}"
        self._lock: StoreLock | None = None

    def find(self) -> Index | None:
        """The index of a complete store, which is in use from now on; else None."""
        if read_index(self.folder) is None:
            return None
        try:
            lock = StoreLock(self.folder)
        except OSError:
            return None
        if not lock.take(shared=True) or (index := read_index(self.folder)) is None:
            lock.close()
            return None
        lock.touch()
        self._lock = lock
        return index

    def note_use(self) -> None:
        """Whoever found the same bytes elsewhere uses the store too: it is not dropped as one that nobody has."""
        if self._lock is None:
            self.find()
        else:
            self._lock.touch()

    def read(self, index: Index, target: memoryview) -> None:
        """The store's bytes into `target`, on several threads; raises OSError or EOFError."""
        file = os.open(self.folder / "data", os.O_RDONLY)
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                starts = range(0, index["used"], PIECE)
                list(pool.map(lambda start: _read_piece(file, target[start : start + PIECE], start), starts))
        finally:
            os.close(file)

    def write(self, index: Index, source: memoryview, stop: threading.Event) -> bool:
        """Write a store unless there is one or somebody writes it; raises OSError (disk full, say) or Stopped."""
        if read_index(self.folder) is not None:
            return False
        lock = StoreLock(self.folder)
        try:
            if not lock.take(shared=False) or read_index(self.folder) is not None:
                return False
            self._write_locked(index, source[: index["used"]], stop)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            lock.close()
        return True

    def _write_locked(self, index: Index, source: memoryview, stop: threading.Event) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < len(source) + DISK_SLACK:
            needed = (len(source) + DISK_SLACK) / 2**30
            raise OSError(f"{free / 2**30:.1f} GiB are free and {needed:.1f} GiB are needed")
        with (self.folder / "data").open("wb") as file:
            for start in range(0, len(source), PIECE):
                if stop.is_set():
                    raise Stopped
                file.write(source[start : start + PIECE])
            file.flush()
            os.fsync(file.fileno())
        write_index(self.folder, index)

    def close(self) -> None:
        """No longer in use; the store stays."""
        if self._lock is not None:
            self._lock.touch()
            self._lock.close()
            self._lock = None


def _read_piece(file: int, target: memoryview, start: int) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(file, [target[done:]], start + done)
        if count == 0:
            raise EOFError("the packed weights on disk end too early")
        done += count


def content_hashes(index: Index, source: memoryview, stop: threading.Event) -> dict[str, str]:
    """SHA-256 of every block's bytes; raises Stopped."""
    found = {}
    for name, entry in index["blocks"].items():
        digest = hashlib.sha256()
        end = entry["offset"] + entry["nbytes"]
        for start in range(entry["offset"], end, PIECE):
            if stop.is_set():
                raise Stopped
            digest.update(source[start : min(start + PIECE, end)])
        found[name] = digest.hexdigest()
    return found
