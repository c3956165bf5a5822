"""Pages of shared memory that are there already are entered into a process's tables before they are pinned."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from worker.offload.host_memory import map_pages

MIB = 1 << 20


def mapped_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssShmem:")) >> 10


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


def test_what_the_kernel_can_not_map_is_left_to_pinning() -> None:
    assert not map_pages(0, mmap.PAGESIZE)
