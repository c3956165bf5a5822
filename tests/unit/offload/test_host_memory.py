"""Pages of shared memory that are there already are entered into a process's tables before they are pinned."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from worker.offload.host_memory import map_pages, own_pages

MIB = 1 << 20


def mapped_mib(kind: str = "RssShmem") -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) >> 10


def own_mib() -> int:
    return mapped_mib("RssAnon")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs shared memory")
def test_pages_that_another_mapping_filled_are_entered_at_once(tmp_path: Path) -> None:
    shared = Path("/dev/shm") / f"zimg-test-{tmp_path.parent.name}-{tmp_path.name}"
    try:
        shared.write_bytes(b"\1" * (16 * MIB))
        with shared.open("r+b") as file:
            weights = torch.frombuffer(mmap.mmap(file.fileno(), 16 * MIB), dtype=torch.uint8)
        before = mapped_mib()
        inside = weights[100 : 8 * MIB]  # no whole pages

        assert map_pages(inside.data_ptr(), inside.numel())

        assert mapped_mib() - before == pytest.approx(8, abs=1)
        assert int(weights[0]) == 1
    finally:
        shared.unlink(missing_ok=True)


@pytest.mark.parametrize("nbytes", [1, 5 * MIB, 8 * MIB + 3])
def test_pages_of_a_private_file_are_copied_at_once(tmp_path: Path, nbytes: int) -> None:
    (tmp_path / "table").write_bytes(b"\1" * (9 * MIB))
    with (tmp_path / "table").open("rb") as file:
        table = torch.frombuffer(mmap.mmap(file.fileno(), 9 * MIB, access=mmap.ACCESS_COPY), dtype=torch.uint8)
    part = table[100 : 100 + nbytes]
    before = own_mib()

    assert own_pages(part.data_ptr(), part.numel())

    assert own_mib() - before == pytest.approx(nbytes / MIB, abs=1)
    assert int(part.sum()) == nbytes


def test_what_the_kernel_can_not_map_is_left_to_pinning() -> None:
    assert not map_pages(0, mmap.PAGESIZE)
    assert not own_pages(0, mmap.PAGESIZE)


HEAPS = """
import ctypes, sys, threading
from pathlib import Path
from worker.offload.host_memory import give_back_freed, keep_few_arenas
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def own():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1])
def heaps():
    ends = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "rw-p" in line]
    return sum(int(start, 16) % (64 << 20) == 0 for start, _ in ends)
def work(barrier):
    taken = [libc.malloc(65536) for _ in range(320)]
    for piece in taken: ctypes.memset(piece, 1, 65536)
    barrier.wait()
    for piece in taken[:-1]: libc.free(piece)
    barrier.wait()
if sys.argv[1] == "few": keep_few_arenas()
before, barrier = (heaps(), own()), threading.Barrier(8)
threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
made = heaps() - before[0]
give_back_freed()
print(made, own() - before[1])
"""


def heaps_and_left(how: str) -> tuple[int, int]:
    """Heaps that eight threads made, and KiB of their 160 MiB that are left after it was given back."""
    done = subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, text=True, check=True)
    made, left = map(int, done.stdout.split())
    return made, left


def test_threads_share_what_is_freed_and_it_is_given_back() -> None:
    """In processes of their own, since the setting holds for good."""
    (usual, _), (few, left) = heaps_and_left("usual"), heaps_and_left("few")
    assert few < usual
    assert left < 8 << 10
