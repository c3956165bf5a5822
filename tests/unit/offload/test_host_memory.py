"""Pages of shared memory that are there already are entered into a process's tables before they are pinned."""

from __future__ import annotations

import mmap
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
