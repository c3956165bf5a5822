"""The ring: a few GPU slots through which streamed blocks pass. Two marks a slot, no waiting on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from worker.offload.blocks import Block
from worker.offload.device import Device
from worker.offload.marks import Mark


class Slot:
    """One buffer. `ready`: its block has arrived; `free`: its last block has been used."""

    def __init__(self, buffer: torch.Tensor) -> None:
        self.buffer = buffer
        self.block: Block | None = None
        self.ready = Mark()
        self.free = Mark()


class Ring:
    """Streamed blocks on the GPU: `prefetch` what comes, `take` one for its turn, `give` its slot back."""

    def __init__(
        self, device: Device, buffers: Sequence[torch.Tensor], heads: Mapping[Block, torch.Tensor] | None = None
    ) -> None:
        """`heads`: first bytes of blocks that lie on the device already, so that only the rest is carried."""
        self._device, self._heads = device, heads or {}
        self.slots = [Slot(buffer) for buffer in buffers]
        self._by_block: dict[Block, Slot] = {}
        self.reopen()

    def prefetch(self, upcoming: Sequence[Block]) -> None:
        """Start the copies of these blocks, soonest first, as far as there are slots that hold none of them."""
        wanted = list(dict.fromkeys(upcoming))[: len(self.slots)]
        for block in wanted:
            if block not in self._by_block:
                self._fetch(block, wanted)

    def take(self, block: Block) -> torch.Tensor:
        """The block's bytes, for work put into the compute stream from now on."""
        if block not in self._by_block:
            self._fetch(block, [block])
        slot = self._by_block[block]
        self._device.wait(slot.ready)
        assert block.host is not None
        return slot.buffer[: block.host.numel()]

    def give(self, block: Block) -> None:
        """The work that needed the block is in the compute stream: its slot may be overwritten after it."""
        slot = self._by_block.pop(block)
        slot.block = None
        slot.free = self._device.mark()

    def clear(self) -> None:
        """Forget what the slots hold (their memory was lent); copies under way are waited for on the GPU."""
        for slot in self.slots:
            self._device.wait(slot.ready)
            slot.block, slot.ready = None, Mark()
            slot.free = self._device.mark()
        self._by_block.clear()

    def reopen(self) -> None:
        """The slots' memory was the allocator's till now: copies may start once the compute stream has got here."""
        for slot in self.slots:
            slot.free = self._device.mark()

    def _fetch(self, block: Block, wanted: Sequence[Block]) -> None:
        slot = self._free_slot(wanted)
        if slot.block is not None:
            del self._by_block[slot.block]
        assert block.host is not None
        slot.block = block
        self._by_block[block] = slot
        head = self._heads.get(block)
        kept = 0 if head is None else head.numel()
        if head is not None:
            self._device.join(slot.buffer[:kept], head, slot.free)
        slot.ready = self._device.fetch(slot.buffer[kept : block.host.numel()], block.host[kept:], slot.free)

    def _free_slot(self, wanted: Sequence[Block]) -> Slot:
        """An empty slot, else the one whose block is not wanted."""
        for slot in self.slots:
            if slot.block is None:
                return slot
        return next(slot for slot in self.slots if slot.block not in wanted)
