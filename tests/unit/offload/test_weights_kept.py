"""A carousel over weights that an earlier one packed: nothing is packed again, every pixel is the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.offload.tiny import FAMILIES
from worker.offload import Carousel, blocks, host_weights
from worker.offload.packed_store import PREFIX, drop_stores


@pytest.fixture
def shared() -> Iterator[set[Path]]:
    """The stores that appeared in shared memory since the test began; gone afterwards."""
    before = set(host_weights.SHARED_MEMORY.glob(f"{PREFIX}*"))
    yield before
    drop_stores(host_weights.SHARED_MEMORY)


def draw(cache: Path, identity: str) -> tuple[bytes, Carousel]:
    options: dict[str, Any] = {"device": "cpu", "packing": True, "residents": 1, "compile": "off"}
    carousel = Carousel(FAMILIES["z-image"](), 5.8, identity=identity, weights_cache=cache, **options)
    ticket = carousel.submit(prompt="mug", height=64, width=64, seed=1, steps=2)
    return bytes(ticket.result(60).tobytes()), carousel


def test_a_cold_start_from_disk_and_a_restart_from_shared_memory_pack_nothing(
    tmp_path: Path, shared: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = f"test {tmp_path}"
    monkeypatch.setattr(host_weights, "SETTLE_SECONDS", 0.0)
    first, carousel = draw(tmp_path, identity)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(f"{PREFIX}*/index.json")):
        assert time.monotonic() < deadline, "nothing was kept on disk"
        time.sleep(0.02)
    carousel.close()

    def never(*_: Any) -> None:
        raise AssertionError("packed again")

    monkeypatch.setattr(blocks, "encode", never)
    restarted, carousel = draw(tmp_path, identity)
    carousel.close()
    for folder in set(host_weights.SHARED_MEMORY.glob(f"{PREFIX}*")) - shared:
        assert folder.name in [name.name for name in tmp_path.glob(f"{PREFIX}*")]
    drop_stores(host_weights.SHARED_MEMORY)
    cold, carousel = draw(tmp_path, identity)
    carousel.close()
    assert first == restarted == cold
