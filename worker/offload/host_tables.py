"""Embedding tables that never travel whole: host memory that all workers share, of which a device reads single rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from worker.offload.blocks import Block
from worker.offload.device import Device
from worker.offload.host_weights import SHARED_MEMORY, HostWeights, store_key


class HostTables:
    """Tables in host memory, one copy per host, pinned; made from the pipeline's own at the first start."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._tables: list[Block] = []
        self._store: HostWeights | None = None

    @property
    def nbytes(self) -> int:
        """Host memory that they take, page rounding included."""
        return self._store.nbytes if self._store is not None else 0

    def keep(self, tables: Sequence[Block], identity: str, root: Path = SHARED_MEMORY) -> bool:
        """Let the tables look at the host's copy; False, and as they were, where it can not be pinned.

        Raises TooLittleMemory when there is no room for it. No second copy goes on disk: the model's own files have it.
        """
        key = store_key(tables, identity, packing=False) if identity else ""
        store = HostWeights(tables, key=key, root=root, expected_bytes=sum(table.raw_bytes for table in tables))
        try:
            places = [store.get(table) for table in tables] if store.is_complete else _fill(store, tables)
            is_pinned = self._pin(places)
        except BaseException:
            store.close()  # else its lock is held for as long as this process lives
            raise
        if not is_pinned:
            store.close()
            return False
        for table, place in zip(tables, places, strict=True):
            table.host = place
            table.bind(place)
        self._tables, self._store = list(tables), store
        return True

    def _pin(self, places: Sequence[torch.Tensor]) -> bool:
        """Pin all or none."""
        for at, place in enumerate(places):
            if not self._device.pin_all([place]):
                for pinned in places[:at]:
                    self._device.unpin(pinned)
                return False
        return True

    def close(self, *, puts_back: bool) -> None:
        """Stop using the host's copy: the pipeline has tables of its own again, where they were, or empty ones."""
        for table in self._tables:
            assert table.host is not None
            if puts_back:
                table.restore(table.host)
            else:
                table.let_go()
            self._device.unpin(table.host)
            table.host = None
        if self._store is not None:
            self._store.close()
        self._tables, self._store = [], None


def _fill(store: HostWeights, tables: Sequence[Block]) -> list[torch.Tensor]:
    """Bring the tables into an empty store; where each lies, which may be in several pieces of memory."""
    places = []
    for table in tables:
        place = store.put(table, table.raw_bytes)
        table.write(place)
        places.append(place)
    store.seal()
    return places
