"""Weights in host memory: shared, exact, found again, never half."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from worker.offload import host_weights, packed_store
from worker.offload.blocks import Block
from worker.offload.host_memory import cgroup_room
from worker.offload.host_weights import HostWeights, drop_stores, folder_identity, store_key
from worker.offload.packed_store import read_index
from worker.offload.packing_gain import is_smaller


def some_blocks() -> list[Block]:
    torch.manual_seed(0)
    modules = [torch.nn.Linear(64, 64).to(torch.bfloat16) for _ in range(3)]
    return [Block(f"m.{at}", module, 0, at, once=False, unneeded=False) for at, module in enumerate(modules)]


def fill(store: HostWeights, blocks: list[Block]) -> list[torch.Tensor]:
    kept = []
    for block in blocks:
        data = block.carry_form(torch.device("cpu"), is_smaller)
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


def test_two_revisions_of_a_model_from_the_hub_are_two_though_their_files_are_the_same(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"1")
    revisions = [tmp_path / "snapshots" / name for name in ("abc", "def")]
    for revision in revisions:
        revision.mkdir(parents=True)
        (revision / "weights").symlink_to(blob)
    assert folder_identity(revisions[0]) != folder_identity(revisions[1])
    copies = [tmp_path / name for name in ("one", "other")]
    for copy in copies:
        copy.mkdir()
        (copy / "weights").symlink_to(blob)
    assert folder_identity(copies[0]) == folder_identity(copies[1]), "a folder of one's own may be renamed"


def test_too_little_host_memory_is_refused_with_a_sentence() -> None:
    with pytest.raises(host_weights.TooLittleMemory, match="GiB of host memory"):
        host_weights.require_memory(1 << 50)


def test_a_second_worker_shares_the_weights_while_the_first_runs(tmp_path: Path) -> None:
    blocks = some_blocks()
    first = HostWeights(blocks, key="model", root=tmp_path)
    kept = fill(first, blocks)
    second = HostWeights(some_blocks(), key="model", root=tmp_path)
    assert second.is_complete
    assert second.is_shared
    first.close()
    assert torch.equal(second.get(blocks[2]), kept[2])
    assert drop_stores(tmp_path) == [], "the second still uses it"
    second.close()


def test_a_worker_waits_for_the_one_that_fills_and_then_shares(tmp_path: Path) -> None:
    blocks = some_blocks()
    first = HostWeights(blocks, key="model", root=tmp_path)
    found: list[HostWeights] = []
    other = threading.Thread(
        target=lambda: found.append(HostWeights(some_blocks(), key="model", root=tmp_path)), daemon=True
    )
    other.start()
    fill(first, blocks)
    other.join(20)
    assert found[0].is_complete
    assert found[0].is_shared
    found[0].close()
    first.close()


def test_weights_in_shared_memory_are_found_even_when_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path)
    fill(store, blocks)
    store.close()
    monkeypatch.setattr(host_weights, "_room", lambda root: 0)
    again = HostWeights(some_blocks(), key="model", root=tmp_path)
    assert again.is_complete
    assert again.is_shared
    again.close()


def test_too_small_shared_memory_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_weights, "_room", lambda root: 0)
    HostWeights(some_blocks(), key="model", root=tmp_path).close()
    assert "shared memory is too small (0 MiB free): weights stay private" in caplog.text


def test_shared_memory_that_runs_full_while_packing_costs_sharing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path, cache=tmp_path / "disk")
    views = []
    for at, block in enumerate(blocks):
        if at == 1:
            monkeypatch.setattr(os, "posix_fallocate", no_room)
        data = block.carry_form(torch.device("cpu"), is_smaller)
        views.append((store.put(block, data.numel()), data))
        views[-1][0].copy_(data)
    store.seal()
    assert "ran full: weights stay private" in caplog.text
    assert all(torch.equal(view, data) for view, data in views)
    assert not store.is_shared
    assert store._checker is None, "nothing in one piece to keep on disk"
    assert drop_stores(tmp_path) == []
    store.close()


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_packing_needs_room_for_what_is_expected_not_for_what_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = some_blocks()
    raw = sum(block.raw_bytes for block in blocks)
    monkeypatch.setattr(host_weights, "_room", lambda root: raw * 4 // 5)
    assert not HostWeights(blocks, key="raw", root=tmp_path).is_shared
    store = HostWeights(blocks, key="packed", root=tmp_path, expected_bytes=raw * 3 // 4)
    assert store.is_shared
    store.close()


# The packed store on disk


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(host_weights, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(packed_store, "PIECE", 1024)  # several pieces per block


def checked(store: HostWeights) -> None:
    assert store._checker is not None
    store._checker.join(20)
    assert not store._checker.is_alive()


def pack_once(tmp_path: Path) -> list[torch.Tensor]:
    """A first worker packs, and leaves a store on disk and none in shared memory."""
    blocks = some_blocks()
    store = HostWeights(blocks, key="model", root=tmp_path / "shm", cache=tmp_path / "disk")
    kept = fill(store, blocks)
    checked(store)
    store.close()
    assert drop_stores(tmp_path / "shm") == ["zimg-weights-model"]
    return kept


def cold_start(tmp_path: Path) -> HostWeights:
    return HostWeights(some_blocks(), key="model", root=tmp_path / "shm", cache=tmp_path / "disk")


@pytest.mark.usefixtures("at_once")
def test_a_cold_start_reads_what_an_earlier_worker_packed(tmp_path: Path) -> None:
    kept = pack_once(tmp_path)
    store = cold_start(tmp_path)
    assert store.is_complete
    assert store.is_shared
    blocks = some_blocks()
    assert all(torch.equal(store.get(block), data) for block, data in zip(blocks, kept, strict=True))
    assert all(block.packed is not None for block in blocks)
    checked(store)
    store.close()


@pytest.mark.usefixtures("at_once")
def test_private_weights_are_read_from_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pack_once(tmp_path)
    monkeypatch.setattr(host_weights, "_room", lambda root: 0)
    store = cold_start(tmp_path)
    assert not store.is_shared
    assert store.is_complete
    assert torch.equal(store.get(some_blocks()[1]), kept[1])
    store.close()


def cut_short(data: Path) -> None:
    os.truncate(data, data.stat().st_size - 1)


def without_marker(data: Path) -> None:
    (data.parent / "index.json").unlink()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("harm", [cut_short, without_marker])
def test_half_a_store_on_disk_is_packed_and_written_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    pack_once(tmp_path)
    harm(tmp_path / "disk" / "zimg-weights-model" / "data")
    store = cold_start(tmp_path)
    assert not store.is_complete
    fill(store, some_blocks())
    checked(store)
    assert read_index(tmp_path / "disk" / "zimg-weights-model") is not None
    store.close()


@pytest.mark.usefixtures("at_once")
def test_a_flipped_bit_on_disk_is_found_in_the_background_and_packed_anew_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack_once(tmp_path)
    data = tmp_path / "disk" / "zimg-weights-model" / "data"
    content = bytearray(data.read_bytes())
    content[5000] ^= 1
    data.write_bytes(content)
    store = cold_start(tmp_path)
    assert store.is_complete, "its size is right"
    checked(store)
    assert "differ from what was packed (m.0)" in caplog.text
    store.close()
    assert not cold_start(tmp_path).is_complete


@pytest.mark.usefixtures("at_once")
def test_weights_that_were_checked_once_are_not_checked_again(tmp_path: Path) -> None:
    pack_once(tmp_path)
    first = cold_start(tmp_path)
    checked(first)
    first.close()
    second = cold_start(tmp_path)
    assert second._checker is None
    second.close()


@pytest.mark.usefixtures("at_once")
def test_a_disk_without_room_or_leave_to_write_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    for cache, room in ((tmp_path / "disk", 1 << 62), (tmp_path / "file" / "disk", 0)):
        monkeypatch.setattr(packed_store, "DISK_SLACK", room)
        caplog.clear()
        blocks = some_blocks()
        store = HostWeights(blocks, key=f"model{room}", root=tmp_path / "shm", cache=cache)
        kept = fill(store, blocks)
        checked(store)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "can not be kept on disk" in caplog.text
        assert torch.equal(store.get(blocks[0]), kept[0]), "work goes on"
        assert not list(tmp_path.glob("disk/*"))
        store.close()


@pytest.mark.usefixtures("at_once")
def test_a_store_on_disk_is_in_use_while_its_reader_runs(tmp_path: Path) -> None:
    pack_once(tmp_path)
    store = cold_start(tmp_path)
    assert drop_stores(tmp_path / "disk") == []
    store.close()
    assert drop_stores(tmp_path / "disk") == ["zimg-weights-model"]


def test_the_tightest_limit_of_the_cgroups_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "max"), (inner.parent, str(10 << 30))):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(str(9 << 30))
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {3 << 30}\n")
    (tmp_path / "self").write_text("0::/outer/inner\n")
    assert cgroup_room(tmp_path, tmp_path / "self") == 4 << 30
    (inner.parent / "memory.max").write_text("max")
    assert cgroup_room(tmp_path, tmp_path / "self") > 1 << 60


def test_a_tight_cgroup_refuses_the_weights_before_a_byte_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.offload.host_memory.cgroup_room", lambda: 2 << 30)
    with pytest.raises(host_weights.TooLittleMemory, match=r"need 15.0 GiB of host memory and 2.0 GiB are free"):
        HostWeights(some_blocks(), key="model", root=tmp_path, expected_bytes=14 << 30)
