"""Weights in host memory: one copy per host, exact in size, found again by a restarted worker.

A store is a folder in shared memory named after the model's key: `data` (every block's bytes, page-aligned), `lock`
(held shared by every user, exclusively by whoever fills or drops it) and `index.json`, written last: a store without it
is incomplete and is filled anew. Where shared memory is too small the bytes live in this process alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import mmap
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worker.offload.blocks import Block
from worker.offload.packing import Packed

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the host's shared memory is the point
PREFIX = "zimg-weights-"
PAGE = mmap.PAGESIZE
FORMAT = 1


class TooLittleMemory(Exception):
    """Raised when the host or its cgroup can not hold the weights; says how much is missing."""


class HostWeights:
    """Host bytes of every block; filled once with `put`, then read-only. `is_complete`: nothing left to fill."""

    def __init__(self, blocks: Sequence[Block], *, key: str = "", root: Path = SHARED_MEMORY) -> None:
        self._capacity = sum(_pages(block.raw_bytes) for block in blocks)
        self._used = 0
        self._index: dict[str, dict[str, Any]] = {}
        self.is_complete = False
        self._folder: Path | None = None
        self._lock = -1
        if key and _room(root) >= self._capacity:
            self._open_shared(root / f"{PREFIX}{key}")
        else:
            if key:
                logger.warning("shared memory is too small (%d MiB free): weights stay private", _room(root) >> 20)
            self._map(os.memfd_create("zimg-weights"), self._capacity)

    @property
    def is_shared(self) -> bool:
        return self._folder is not None

    @property
    def nbytes(self) -> int:
        """Bytes in use, page rounding included."""
        return self._used

    def put(self, block: Block, nbytes: int) -> torch.Tensor:
        """Room for `block`'s bytes, to be written by the caller."""
        packed = asdict(block.packed) if block.packed else None
        self._index[block.name] = {"offset": self._used, "nbytes": nbytes, "packed": packed}
        view = self._whole[self._used : self._used + nbytes]
        self._used += _pages(nbytes)
        return view

    def get(self, block: Block) -> torch.Tensor:
        """The bytes of `block` in a complete store; sets how it is packed."""
        entry = self._index[block.name]
        block.packed = Packed(**entry["packed"]) if entry["packed"] else None
        return self._whole[entry["offset"] : entry["offset"] + entry["nbytes"]]

    def seal(self) -> None:
        """Everything is written: cut the file to its exact size and mark the store complete."""
        os.ftruncate(self._file, self._used)
        if self._folder is not None:
            text = json.dumps({"format": FORMAT, "used": self._used, "blocks": self._index})
            draft = self._folder / "index.json.part"
            draft.write_text(text)
            draft.rename(self._folder / "index.json")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self.is_complete = True

    def close(self) -> None:
        """Stop using the store; a shared one stays for the next worker."""
        if self._folder is not None:
            (self._folder / "lock").touch()
            os.close(self._lock)
            if not self.is_complete:
                shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._file)
        del self._whole

    def _open_shared(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._folder = folder
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        index = _read_index(folder)
        file = os.open(folder / "data", os.O_CREAT | os.O_RDWR, 0o600)
        if index is None:
            self._map(file, self._capacity)
            return
        self._used, self._index = index["used"], index["blocks"]
        self._map(file, self._used)
        self.is_complete = True
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _map(self, file: int, nbytes: int) -> None:
        self._file = file
        os.ftruncate(file, max(nbytes, PAGE))
        self._whole = torch.frombuffer(mmap.mmap(file, max(nbytes, PAGE)), dtype=torch.uint8)


def store_key(blocks: Sequence[Block], identity: str, packing: bool) -> str:
    """Name of the store: the model's identity (revision, file names, sizes, mtimes) and the blocks' layout."""
    facts = [FORMAT, identity, packing, [[b.name, b.raw_bytes, [list(p.shape) for p in b.parts]] for b in blocks]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def folder_identity(folder: str | Path) -> str:
    """What tells one downloaded model from another without reading it: names, sizes and mtimes of its files."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    stats = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def drop_stores(root: Path = SHARED_MEMORY, *, unused_seconds: float = 0.0) -> list[str]:
    """Remove every store that nobody uses and nobody used for `unused_seconds`; returns their names."""
    dropped = []
    for folder in root.glob(f"{PREFIX}*"):
        if _is_unused(folder, unused_seconds):
            shutil.rmtree(folder, ignore_errors=True)
            dropped.append(folder.name)
    return dropped


def available_bytes() -> int:
    """Memory that this process may still take: the host's or its cgroup's, whichever is less."""
    host = os.sysconf("SC_AVPHYS_PAGES") * PAGE
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            host = int(line.split()[1]) << 10
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except OSError:
        return host
    return host if limit == "max" else min(host, int(limit) - used)


def require_memory(needed: int) -> None:
    """Raise TooLittleMemory when `needed` bytes (and a little to live on) are not to be had."""
    free = available_bytes()
    if free < needed:
        raise TooLittleMemory(
            f"the weights need {needed / 2**30:.1f} GiB of host memory and {free / 2**30:.1f} GiB are free here "
            "(the cgroup's limit counts); give the worker more memory"
        )


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        index = json.loads((folder / "index.json").read_text())
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and index.get("format") == FORMAT else None


def _is_unused(folder: Path, unused_seconds: float) -> bool:
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return time.time() - os.fstat(lock).st_mtime >= unused_seconds
    finally:
        os.close(lock)


def _room(root: Path) -> int:
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE
