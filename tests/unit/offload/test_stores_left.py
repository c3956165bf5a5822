"""Stores of weights that somebody left, that can not be marked, or that run out of room: one copy, nothing spoilt."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.offload.test_host_weights import fill, some_blocks
from worker.offload import host_weights, packed_store
from worker.offload.host_weights import HostWeights
from worker.offload.packed_store import DiskStore, read_index, write_index

KEY = "model"


def kept_on_disk(cache: Path, root: Path) -> tuple[Path, list[torch.Tensor]]:
    """A packed store on disk: its folder and the blocks' bytes."""
    blocks = some_blocks()
    store = HostWeights(blocks, key=KEY, root=root)
    kept = fill(store, blocks)
    folder = cache / f"{packed_store.PREFIX}{KEY}"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes((root / f"{packed_store.PREFIX}{KEY}" / "data").read_bytes())
    write_index(folder, store._as_index())
    store.close()
    host_weights.drop_stores(root)
    return folder, kept


def test_what_a_killed_filler_left_counts_as_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = some_blocks()
    needed = sum(block.raw_bytes + host_weights.PAGE for block in blocks)
    folder = tmp_path / f"{packed_store.PREFIX}{KEY}"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(needed // 2))

    def room(root: Path) -> int:
        return needed * 13 // 10 - sum(file.stat().st_size for file in root.rglob("*") if file.is_file())

    monkeypatch.setattr(host_weights, "_room", room)
    store = HostWeights(blocks, key=KEY, root=tmp_path)
    fill(store, blocks)
    assert store.is_shared
    store.close()


def test_a_store_that_can_not_be_marked_stays_private_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(host_weights, "write_index", refuse)
    blocks = some_blocks()
    store = HostWeights(blocks, key=KEY, root=tmp_path)
    kept = fill(store, blocks)
    assert store.is_complete
    assert not store.is_shared
    assert all(torch.equal(store.get(block), data) for block, data in zip(blocks, kept, strict=True))
    store.close()


def test_shared_memory_that_runs_full_while_the_disk_is_read_spoils_nothing_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, root = tmp_path / "disk", tmp_path / "shm"
    root.mkdir()
    folder, kept = kept_on_disk(cache, root)
    usual, full = DiskStore.read, [True]

    def read(store: DiskStore, *given: Any) -> None:
        if full:
            full.pop()
            raise OSError(errno.EFAULT, "Bad address")  # what the kernel says of a page that it can not give
        usual(store, *given)

    monkeypatch.setattr(DiskStore, "read", read)
    blocks = some_blocks()
    store = HostWeights(blocks, key=KEY, root=root, cache=cache)
    assert store.is_complete
    assert not store.is_shared
    assert read_index(folder) is not None
    assert all(torch.equal(store.get(block), data) for block, data in zip(blocks, kept, strict=True))
    store.close()


def test_shared_memory_that_takes_no_file_spoils_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, root = tmp_path / "disk", tmp_path / "shm"
    root.mkdir()
    folder, kept = kept_on_disk(cache, root)
    usual = os.open

    def refuse(path: Any, *given: Any, **more: Any) -> int:
        if Path(path).name == "data" and root in Path(path).parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(path, *given, **more)

    monkeypatch.setattr(os, "open", refuse)
    blocks = some_blocks()
    store = HostWeights(blocks, key=KEY, root=root, cache=cache)
    assert (store.is_complete, store.is_shared) == (True, False)
    assert read_index(folder) is not None
    assert all(torch.equal(store.get(block), data) for block, data in zip(blocks, kept, strict=True))
    store.close()


def test_whoever_finds_the_weights_in_shared_memory_uses_those_on_disk_too(tmp_path: Path) -> None:
    cache, root = tmp_path / "disk", tmp_path / "shm"
    root.mkdir()
    folder, _ = kept_on_disk(cache, root)
    HostWeights(some_blocks(), key=KEY, root=root, cache=cache).close()  # into shared memory
    long_ago = time.time() - 40 * 86_400
    os.utime(folder / "lock", (long_ago, long_ago))

    store = HostWeights(some_blocks(), key=KEY, root=root, cache=cache)

    assert store.is_complete
    assert packed_store.drop_stores(cache, unused_seconds=30 * 86_400) == []
    store.close()
    assert packed_store.drop_stores(cache, unused_seconds=30 * 86_400) == []
