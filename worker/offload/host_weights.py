"""Weights in host memory: one copy per host, exact in size, found again by a restarted worker.

Shared memory holds a store as `packed_store.py` describes it. A store that is not there is filled from the packed store
on disk, or packed anew by the caller. Where shared memory is too small the bytes live in this process alone. A while
after the start a thread of low priority compares the bytes with their hashes, once per store, and writes the store on
disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import mmap
import os
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from worker.offload import packed_store
from worker.offload.blocks import Block
from worker.offload.host_memory import TooLittleMemory, available_bytes, require_memory
from worker.offload.packed_store import FORMAT, PREFIX, DiskStore, Index, Stopped, StoreLock, read_index, write_index
from worker.offload.packing import Packed

__all__ = ["HostWeights", "TooLittleMemory", "available_bytes", "drop_stores", "folder_identity", "require_memory"]

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the host's shared memory is the point
PAGE = mmap.PAGESIZE
#: Host memory kept free beside the weights.
HOST_SLACK = 1 << 30
#: The first pictures come before checking and writing, which take memory bandwidth and the disk.
SETTLE_SECONDS = 60.0
#: Stores on disk that nobody has used for so long are of models that nobody has any more.
FORGET_SECONDS = 30 * 86_400.0
POLL_SECONDS = 0.1
#: Per cent of the expected bytes for which shared memory must have room before packing begins.
EXPECTED_MARGIN = 104
BACKGROUND_NICE = 10
CHECKED = "hashes.json"
#: Where the hub's cache keeps a folder for each revision of a model.
HUB_REVISIONS = "snapshots"


class HostWeights:
    """Host bytes of every block; filled once with `put`, then read-only. `is_complete`: nothing left to fill."""

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        key: str = "",
        root: Path = SHARED_MEMORY,
        cache: Path | None = None,
        expected_bytes: int = 0,
    ) -> None:
        """Find or make the store `key` ("": private) under `root`; `cache` holds packed stores on disk.

        Raises TooLittleMemory when `expected_bytes` and a little are not to be had where bytes must be filled.
        """
        self._capacity = sum(_pages(block.raw_bytes) for block in blocks)
        self._expected = min(expected_bytes * EXPECTED_MARGIN // 100 or self._capacity, self._capacity)
        self._used = 0
        self._index: dict[str, dict[str, Any]] = {}
        self.is_complete = False
        self._folder: Path | None = None
        self._lock: StoreLock | None = None
        self._disk = DiskStore(cache, key) if cache is not None and key else None
        self._stop = threading.Event()
        self._checker: threading.Thread | None = None
        if key and self._open_shared(root / f"{PREFIX}{key}"):
            return
        try:
            require_memory(expected_bytes + HOST_SLACK if expected_bytes else 0)
            if self._fill_from_disk():
                return
            if self._folder is not None and _room(root) < self._expected:
                self._leave_shared("shared memory is too small to pack in: weights stay private")
            self._map_empty(self._capacity)
        except BaseException:
            if self._folder is not None:  # else its lock is held for as long as this process lives
                self._leave_shared("the shared weights could not be made")
            raise

    @property
    def is_shared(self) -> bool:
        return self._folder is not None

    @property
    def nbytes(self) -> int:
        """Bytes in use, page rounding included."""
        return self._used

    def expect(self, nbytes: int) -> None:
        """More may come than was expected: raises TooLittleMemory when that is not to be had."""
        if nbytes > self._expected:
            require_memory(nbytes + HOST_SLACK)

    def put(self, block: Block, nbytes: int) -> torch.Tensor:
        """Room for `block`'s bytes, to be written by the caller."""
        if self._folder is not None:
            try:
                os.posix_fallocate(self._file, self._used, max(_pages(nbytes), 1))  # else a full one kills by SIGBUS
            except OSError:
                self._go_on_in_private()
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
        if self._folder is not None and self._lock is not None:
            try:
                write_index(self._folder, self._as_index())
                self._lock.take(shared=True)
            except OSError as error:
                self._leave_shared(f"the shared weights could not be marked ({error}): weights stay private")
        self.is_complete = True
        self._start_checker()

    def close(self) -> None:
        """Stop using the store; a shared one stays for the next worker."""
        self._stop.set()
        if self._checker is not None:
            self._checker.join()
        if self._folder is not None and self._lock is not None:
            self._lock.touch()
            if not self.is_complete:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
        if self._disk is not None:
            self._disk.close()
        os.close(self._file)
        del self._whole

    # Opening

    def _open_shared(self, folder: Path) -> bool:
        """Take part in the shared store; True if it is complete. Without room for it the bytes stay private."""
        room = _room(folder.parent)
        try:
            index = self._join(folder, room)
        except OSError as error:
            logger.warning("shared memory can not be used (%s): weights stay private", error)
            return False
        if self._folder is None or index is None:
            return False
        self._use(folder, index)
        if self._disk is not None:
            self._disk.note_use()
        self.is_complete = True
        self._start_checker()
        return True

    def _join(self, folder: Path, room: int) -> Index | None:
        """Wait for whoever fills the store; its index, or None: it is ours to fill, or (without folder) private."""
        if read_index(folder) is None and not folder.exists() and room < self._needed():
            logger.warning("shared memory is too small (%d MiB free): weights stay private", room >> 20)
            return None
        lock = StoreLock(folder)
        while True:
            if not lock.is_current():
                lock.close()
                lock = StoreLock(folder)
            if lock.take(shared=False):
                index = read_index(folder)
                if index is None:  # what somebody left who was killed while he filled it is nobody's
                    (folder / "data").unlink(missing_ok=True)
                    room = _room(folder.parent)
                if index is None and room < self._needed():
                    logger.warning("shared memory is too small (%d MiB free): weights stay private", room >> 20)
                    shutil.rmtree(folder, ignore_errors=True)
                    break
                self._folder, self._lock = folder, lock
                if index is not None:
                    lock.take(shared=True)
                return index
            if lock.take(shared=True):  # others use it
                index = read_index(folder)
                if index is not None:
                    self._folder, self._lock = folder, lock
                    return index
                logger.warning("the shared weights were found damaged and are still in use: weights stay private")
                break
            time.sleep(POLL_SECONDS)
        lock.close()
        return None

    def _go_on_in_private(self) -> None:
        """Blocks that were put so far stay where they are, mapped by nobody else; the others follow elsewhere."""
        self._leave_shared("shared memory ran full: weights stay private")
        self._disk = None  # the bytes no longer lie in one piece
        os.close(self._file)
        self._map(os.memfd_create("zimg-weights"), self._capacity)

    def _leave_shared(self, why: str) -> None:
        """Give the shared store up."""
        assert self._folder is not None and self._lock is not None  # noqa: PT018
        logger.warning(why)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()
        self._folder = self._lock = None

    def _needed(self) -> int:
        """Bytes of shared memory that filling the store takes."""
        found = read_index(self._disk.folder) if self._disk is not None else None
        return int(found["used"]) if found is not None else self._expected

    def _fill_from_disk(self) -> bool:
        """Read the packed store on disk into place; False where there is none that can be read."""
        index = self._disk.find() if self._disk is not None else None
        if self._disk is None or index is None:
            return False
        begun = time.monotonic()
        self._map_empty(index["used"])
        try:
            self._read_into_place(index)
        except (OSError, EOFError) as error:
            logger.warning("the packed weights on disk can not be read (%s): packing anew", error)
            packed_store.spoil(self._disk.folder)
            self._disk.close()
            os.close(self._file)
            return False
        self._used, self._index = index["used"], index["blocks"]
        logger.info("%.1f GiB of packed weights read in %.1f s", self._used / 2**30, time.monotonic() - begun)
        self.seal()
        return True

    def _read_into_place(self, index: Index) -> None:
        assert self._disk is not None
        try:
            self._disk.read(index, _memory_of(self._whole))
        except OSError as error:
            if self._folder is None or error.errno != errno.EFAULT:
                raise
            self._leave_shared("shared memory ran full: weights stay private")  # a page that could not be had
            os.close(self._file)
            self._map_empty(index["used"])
            self._disk.read(index, _memory_of(self._whole))

    def _use(self, folder: Path, index: Index) -> None:
        self._used, self._index = index["used"], index["blocks"]
        with contextlib.suppress(OSError, ValueError):
            for name, sha256 in json.loads((folder / CHECKED).read_text()).items():
                self._index[name]["sha256"] = sha256
        self._map(os.open(folder / "data", os.O_RDWR), self._used)

    def _map_empty(self, nbytes: int) -> None:
        if self._folder is not None:
            try:
                file = os.open(self._folder / "data", os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)
            except OSError as error:
                self._leave_shared(f"shared memory takes no file ({error.strerror}): weights stay private")
            else:
                self._map(file, nbytes)
                return
        self._map(os.memfd_create("zimg-weights"), nbytes)

    def _map(self, file: int, nbytes: int) -> None:
        self._file = file
        os.ftruncate(file, max(nbytes, PAGE))
        self._whole = torch.frombuffer(mmap.mmap(file, max(nbytes, PAGE)), dtype=torch.uint8)

    def _as_index(self) -> Index:
        return {"format": FORMAT, "used": self._used, "blocks": self._index}

    # Checking, in the background

    def _start_checker(self) -> None:
        is_checked = self._folder is not None and (self._folder / CHECKED).exists()
        if is_checked and (self._disk is None or read_index(self._disk.folder) is not None):
            return
        if self._folder is None and self._disk is None:
            return
        self._checker = threading.Thread(target=self._check_and_keep, name="weights-check", daemon=True)
        self._checker.start()

    def _check_and_keep(self) -> None:
        """Compare the bytes with their hashes, then see to a store on disk; trouble is told, never raised."""
        if self._stop.wait(SETTLE_SECONDS):
            return
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)  # of this thread, on Linux
        bytes_ = _memory_of(self._whole)
        try:
            if self._is_sound(bytes_) and self._disk is not None:
                if self._disk.write(self._as_index(), bytes_, self._stop):
                    logger.info("packed weights kept on disk in %s", self._disk.folder)
                self._disk.note_use()
                packed_store.drop_stores(self._disk.folder.parent, unused_seconds=FORGET_SECONDS)
        except Stopped:
            return
        except OSError as error:
            logger.warning(
                "the packed weights can not be kept on disk (%s); the next cold start packs them anew", error
            )

    def _is_sound(self, bytes_: memoryview) -> bool:
        """Whether the bytes are those that were packed; hashes are noted where there were none."""
        found = packed_store.content_hashes(self._as_index(), bytes_, self._stop)
        wrong = [name for name, entry in self._index.items() if entry.get("sha256", found[name]) != found[name]]
        if wrong:
            logger.error(
                "weights in host memory differ from what was packed (%s): they are packed anew at the next start",
                ", ".join(wrong[:3]),
            )
            for folder in (self._folder, self._disk.folder if self._disk else None):
                if folder is not None:
                    packed_store.spoil(folder)
            return False
        for name, sha256 in found.items():
            self._index[name]["sha256"] = sha256
        if self._folder is not None:
            (self._folder / CHECKED).write_text(json.dumps(found))
        return True


def store_key(blocks: Sequence[Block], identity: str, packing: bool) -> str:
    """Name of the store: the model's identity (revision, file names, sizes, mtimes) and the blocks' layout."""
    facts = [FORMAT, identity, packing, [[b.name, b.raw_bytes, [list(p.shape) for p in b.parts]] for b in blocks]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def folder_identity(folder: str | Path) -> str:
    """What tells one downloaded model from another without reading it: names, sizes and mtimes of its files.

    Of a model from the hub its revision too, by which such a folder is named.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    stats = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    revision = [Path(folder).name] if Path(folder).parent.name == HUB_REVISIONS else []
    return hashlib.sha256(repr([*revision, *stats]).encode()).hexdigest()


def drop_stores(root: Path = SHARED_MEMORY, *, unused_seconds: float = 0.0) -> list[str]:
    """Remove every store that nobody uses and nobody used for `unused_seconds`; returns their names."""
    return packed_store.drop_stores(root, unused_seconds=unused_seconds)


def _memory_of(tensor: torch.Tensor) -> memoryview:
    array: Any = tensor.numpy()
    return memoryview(array)


def _room(root: Path) -> int:
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return 0


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE
