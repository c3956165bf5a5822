"""Embedding tables in host memory: one copy that all workers share, and a pipeline that gets its own back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from worker.offload import host_weights
from worker.offload.blocks import Block
from worker.offload.device import Device
from worker.offload.host_tables import HostTables


class Pinning(Device):
    """A CPU that notes what is pinned, and refuses what comes after `most` of them."""

    def __init__(self, most: int = 99) -> None:
        super().__init__(torch.device("cpu"))
        self.pinned: list[int] = []
        self._most = most

    def pin(self, tensor: torch.Tensor) -> bool:
        if len(self.pinned) == self._most:
            return False
        self.pinned.append(tensor.data_ptr())
        return True

    def unpin(self, tensor: torch.Tensor) -> None:
        self.pinned.remove(tensor.data_ptr())


def some_tables(dtype: torch.dtype = torch.bfloat16, count: int = 1) -> list[Block]:
    torch.manual_seed(1)
    modules = [nn.Embedding(1000, 24).to(dtype) for _ in range(count)]
    return [
        Block(f"text.{at}", module, 0, at, once=False, unneeded=False, dtype=torch.bfloat16)
        for at, module in enumerate(modules)
    ]


def rows(table: Block) -> torch.Tensor:
    return table.parts[0].parameter.data


def test_the_next_worker_reads_the_table_that_the_first_one_put_there(tmp_path: Path) -> None:
    first, second = some_tables(), some_tables()
    original = rows(first[0]).clone()
    rows(second[0]).zero_()  # what it reads is not its own
    one, two = HostTables(Pinning()), HostTables(Pinning())

    assert one.keep(first, "a model", tmp_path)
    assert two.keep(second, "a model", tmp_path)

    assert torch.equal(rows(second[0]), original)
    assert one.nbytes == two.nbytes == (tmp_path / next(tmp_path.iterdir()) / "data").stat().st_size
    assert len(list(tmp_path.iterdir())) == 1
    one.close(puts_back=False)
    two.close(puts_back=False)


def test_a_table_of_another_model_is_not_mistaken_for_it(tmp_path: Path) -> None:
    first, second = some_tables(), some_tables()
    rows(second[0]).zero_()
    one, two = HostTables(Pinning()), HostTables(Pinning())
    one.keep(first, "a model", tmp_path)
    two.keep(second, "another model", tmp_path)

    assert not rows(second[0]).any()
    one.close(puts_back=False)
    two.close(puts_back=False)


def test_it_is_brought_to_its_type_on_its_way(tmp_path: Path) -> None:
    tables = some_tables(torch.float32)
    original = rows(tables[0]).clone()
    kept = HostTables(Pinning())
    kept.keep(tables, "", tmp_path)

    assert torch.equal(rows(tables[0]), original.to(torch.bfloat16))
    kept.close(puts_back=False)


def test_the_pipeline_has_a_table_of_its_own_again_and_nothing_stays_pinned(tmp_path: Path) -> None:
    device, tables = Pinning(), some_tables(count=2)
    originals = [rows(table).clone() for table in tables]
    kept = HostTables(device)
    kept.keep(tables, "a model", tmp_path)
    places = [rows(table).data_ptr() for table in tables]
    assert sorted(device.pinned) == sorted(places)

    kept.close(puts_back=True)

    assert all(torch.equal(rows(table), original) for table, original in zip(tables, originals, strict=True))
    assert not {rows(table).data_ptr() for table in tables} & set(places)
    assert device.pinned == []
    assert kept.nbytes == 0


def test_tables_that_are_not_put_back_are_empty_in_the_end(tmp_path: Path) -> None:
    device, tables = Pinning(), some_tables(count=2)
    kept = HostTables(device)
    kept.keep(tables, "a model", tmp_path)

    kept.close(puts_back=False)

    assert [rows(table).numel() for table in tables] == [0, 0]
    assert device.pinned == []


def test_where_pinning_is_refused_nothing_is_changed_and_nothing_stays_pinned(tmp_path: Path) -> None:
    device, tables = Pinning(most=1), some_tables(count=2)
    before = [rows(table).data_ptr() for table in tables]
    kept = HostTables(device)

    assert not kept.keep(tables, "a model", tmp_path)

    assert [rows(table).data_ptr() for table in tables] == before
    assert device.pinned == []
    assert kept.nbytes == 0


def test_too_little_host_memory_is_said_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = some_tables()
    before = rows(tables[0]).data_ptr()
    monkeypatch.setattr("worker.offload.host_memory.available_bytes", lambda: 1 << 20)

    with pytest.raises(host_weights.TooLittleMemory, match="GiB of host memory"):
        HostTables(Pinning()).keep(tables, "a model", tmp_path)

    assert rows(tables[0]).data_ptr() == before


def test_tables_are_whole_though_shared_memory_runs_full_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one, read again from where the second one lies, was zeros."""
    room, allocate = [1], os.posix_fallocate

    def fill_up(*arguments: int) -> None:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room.pop()
        allocate(*arguments)

    monkeypatch.setattr(os, "posix_fallocate", fill_up)
    tables = some_tables(count=2)
    originals = [rows(table).clone() for table in tables]
    kept = HostTables(Pinning())

    assert kept.keep(tables, "a model", tmp_path)

    assert all(torch.equal(rows(table), original) for table, original in zip(tables, originals, strict=True))
    kept.close(puts_back=False)


@pytest.mark.parametrize("fails", ["available_bytes", "write"])
def test_a_store_that_could_not_be_made_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Its lock stayed, and the next try in the same process waited for it for ever."""
    tables = some_tables()

    def refuse(*_: object) -> int:
        raise MemoryError("planted")

    with monkeypatch.context() as patch:
        if fails == "write":
            patch.setattr(Block, "write", refuse)
        else:
            patch.setattr("worker.offload.host_memory.available_bytes", lambda: 1 << 20)
        with pytest.raises((MemoryError, host_weights.TooLittleMemory)):
            HostTables(Pinning()).keep(tables, "a model", tmp_path)
    assert list(tmp_path.iterdir()) == []
    again = HostTables(Pinning())
    assert again.keep(tables, "a model", tmp_path)
    again.close(puts_back=False)
