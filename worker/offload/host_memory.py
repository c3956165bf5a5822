"""How much host memory this process may still take: the machine's, or its cgroup's, whichever is less."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
#: Of Linux 5.14 and later; they are not among mmap's names in every Python.
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23
#: mallopt's name for the most arenas, and how many there are to be.
M_ARENA_MAX, ARENAS = -8, 2
#: Threads that copy pages of files; one copies 2 to 3 GB/s.
COPYING_THREADS = 4
#: Where cgroup v2 and v1 keep limit, use, and the part of the use that the kernel gives up when asked.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class TooLittleMemory(Exception):
    """Raised when the host or its cgroup can not hold the weights; says how much is missing."""


def map_pages(address: int, nbytes: int) -> bool:
    """Enter the pages of shared memory that exist already into this process's tables, sixteen at a time.

    Pinning enters what is missing one by one. False where the kernel does not know how: then pinning takes longer.
    """
    return _populate(address, nbytes, MADV_POPULATE_READ)


def own_pages(address: int, nbytes: int) -> bool:
    """Have the pages of a file that was mapped privately copied, several at the same time; else pinning copies each.

    False as in `map_pages`.
    """
    share = -(-nbytes // COPYING_THREADS // mmap.PAGESIZE) * mmap.PAGESIZE
    starts = range(address, address + nbytes, max(share, mmap.PAGESIZE))
    with ThreadPoolExecutor(COPYING_THREADS) as pool:
        done = pool.map(lambda at: _populate(at, min(share, address + nbytes - at), MADV_POPULATE_WRITE), starts)
        return all(list(done))


def _populate(address: int, nbytes: int, how: int) -> bool:
    start = address // mmap.PAGESIZE * mmap.PAGESIZE
    length = ctypes.c_size_t(address + nbytes - start)
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    return advise is not None and advise(ctypes.c_void_p(start), length, how) == 0


def keep_few_arenas() -> None:
    """Have threads of this process share what is freed, where the C library knows how (glibc: `man mallopt`).

    Each thread that compiles leaves 60 MiB of its own behind otherwise.
    """
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(M_ARENA_MAX, ARENAS)


def give_back_freed() -> None:
    """Give the system what was freed and is kept for later, where the C library knows how (`man malloc_trim`)."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(ctypes.c_size_t(0))


def available_bytes() -> int:
    """Memory that this process may still take."""
    host = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            host = int(line.split()[1]) << 10
    return min(host, cgroup_room())


def require_memory(needed: int) -> None:
    """Raise TooLittleMemory when `needed` bytes (and a little to live on) are not to be had."""
    free = available_bytes()
    if free < needed:
        raise TooLittleMemory(
            f"the weights need {needed / 2**30:.1f} GiB of host memory and {free / 2**30:.1f} GiB are free here "
            "(the cgroup's limit counts); give the worker more memory"
        )


def cgroup_room(root: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes left below the tightest limit of this process's cgroups; cached file pages count as free."""
    rooms = [room for folder in _folders(root, membership) for room in _rooms(folder)]
    return min(rooms, default=1 << 62)


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """The process's cgroup and those around it; in a container they are mounted as the root itself."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / controllers
            own = base / path.lstrip("/")
            yield own
            yield from (parent for parent in own.parents if parent.is_relative_to(base))
    yield root / "memory"


def _rooms(folder: Path) -> Iterator[int]:
    for limit_name, used_name, cached_name in _FILES:
        try:
            limit = (folder / limit_name).read_text().strip()
            used = int((folder / used_name).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            yield int(limit) - used + int(stat.get(cached_name, 0))
