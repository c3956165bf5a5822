"""Weights in host memory: shared, exact, found again, never half."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worker.offload import host_weights
from worker.offload.blocks import Block
from worker.offload.host_weights import HostWeights, drop_stores, folder_identity, store_key


def some_blocks() -> list[Block]:
    torch.manual_seed(0)
    modules = [torch.nn.Linear(64, 64).to(torch.bfloat16) for _ in range(3)]
    return [Block(f"m.{at}", module, 0, at, once=False, unneeded=False) for at, module in enumerate(modules)]


def fill(store: HostWeights, blocks: list[Block]) -> list[torch.Tensor]:
    kept = []
    for block in blocks:
        data = block.carry_form(torch.device("cpu"), packing=True)
        store.put(block, data.numel()).copy_(data)
        kept.append(data)
    store.seal()
    return kept


def test_a_restarted_worker_finds_the_weights_of_the_last_one(tmp_path: Path) -> None:
    blocks = some_blocks()
    first = HostWeights(blocks, key="model", root=tmp_path)
    assert not first.is_complete
    kept = fill(first, blocks)
    packed = [block.packed for block in blocks]
    first.close()
    again = some_blocks()
    second = HostWeights(again, key="model", root=tmp_path)
    assert second.is_complete
    assert all(torch.equal(second.get(block), data) for block, data in zip(again, kept, strict=True))
    assert [block.packed for block in again] == packed
    second.close()


def test_a_store_without_its_marker_is_filled_anew(tmp_path: Path) -> None:
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path)
    fill(store, blocks)
    store.close()
    (tmp_path / "zimg-weights-model" / "index.json").unlink()
    assert not HostWeights(some_blocks(), key="model", root=tmp_path).is_complete


def test_the_file_is_as_large_as_its_bytes_and_a_page_per_block(tmp_path: Path) -> None:
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path)
    kept = fill(store, blocks)
    size = (tmp_path / "zimg-weights-model" / "data").stat().st_size
    needed = sum(data.numel() for data in kept)
    assert size == store.nbytes
    assert needed <= size <= needed + len(blocks) * host_weights.PAGE
    store.close()


def test_too_little_shared_memory_means_private_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_weights, "_room", lambda root: 0)
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path)
    kept = fill(store, blocks)
    assert not store.is_shared
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(store.get(blocks[1]), kept[1])
    store.close()


def test_a_store_in_use_is_not_dropped_and_an_unused_one_is(tmp_path: Path) -> None:
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path)
    fill(store, blocks)
    assert drop_stores(tmp_path) == []
    store.close()
    assert drop_stores(tmp_path, unused_seconds=3600) == [], "used a moment ago"
    assert drop_stores(tmp_path) == ["zimg-weights-model"]
    assert list(tmp_path.iterdir()) == []


def test_another_model_or_another_form_has_another_key(tmp_path: Path) -> None:
    blocks = some_blocks()
    keys = {store_key(blocks, "a", True), store_key(blocks, "b", True), store_key(blocks, "a", False)}
    assert len(keys) == 3
    (tmp_path / "weights").write_bytes(b"1")
    before = folder_identity(tmp_path)
    (tmp_path / "weights").write_bytes(b"12")
    assert folder_identity(tmp_path) != before


def test_too_little_host_memory_is_refused_with_a_sentence() -> None:
    with pytest.raises(host_weights.TooLittleMemory, match="GiB of host memory"):
        host_weights.require_memory(1 << 50)
