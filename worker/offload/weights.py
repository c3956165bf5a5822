"""Where every block's weights are on the device, and how they get ready for a turn.

Four ways: *in place* (raw on the device, nothing to do), *resident* (packed on the device, unpacked into the scratch at
its turn), *streamed* (through the ring, then unpacked; its head may be resident), and *yielding* (resident, but its
memory is lent to the decode and fetched again when its turn comes).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from worker.offload.apart import Pool
from worker.offload.blocks import ALIGNMENT, Block
from worker.offload.device import Device
from worker.offload.marks import Mark
from worker.offload.plan import Plan
from worker.offload.ring import Ring

#: Poison for tests: 0xFF bytes are NaN in bf16 and in float32.
POISON = 0xFF


class Berth:
    """A resident block's own place; an empty one is fetched before its next turn."""

    def __init__(self, buffer: torch.Tensor) -> None:
        self.buffer = buffer
        self.filled = False
        self.ready = Mark()
        self.free = Mark()


class Weights:
    """Device memory for weights: one kept and one lendable allocation, made once.

    In company the lendable one lies in `pool`, a pool of its own, and so do the temporaries of blocks and the decode;
    not where all weights are in place, which nobody lends.
    """

    def __init__(self, device: Device, plan: Plan, blocks: Sequence[Block], poison: bool = False) -> None:
        self._device, self._plan, self._poison = device, plan, poison
        self._blocks = {block.name: block for block in blocks}
        self._in_scratch: Block | None = None
        self._berths: dict[Block, Berth] = {}
        self._heads: dict[Block, torch.Tensor] = {}
        self._is_lent = False
        self.pool: Pool | None = device.new_pool() if plan.seats > 1 and not plan.in_place else None
        self._kept: torch.Tensor | None = None
        self._lent: torch.Tensor | None = None
        moved = [block for block in blocks if block.name not in plan.in_place]
        self._scratch = self._allocate(moved)
        for block in moved:
            block.bind(self._scratch)
        self._in_place = self._place([block for block in blocks if block.name in plan.in_place])
        self.refresh()

    def prepare(self, block: Block) -> None:
        """Put the block's weights where its parameters look; in the compute stream, after all earlier turns."""
        if self._is_lent:
            self.retake()  # it was in vain after the decode, for want of memory
        if block.name in self._plan.in_place or self._in_scratch is block:
            return
        berth = self._berths.get(block)
        source = self._from_berth(block, berth) if berth else self.ring.take(block)
        self._in_scratch = None  # until all of it is there
        self._unpack(block, source, self._scratch)
        if self._poison and berth is None:
            source.fill_(POISON)
        if berth is None:
            self.ring.give(block)
        self._in_scratch = block

    def prefetch(self, upcoming: Sequence[Block]) -> None:
        """Start copies for the next turns, soonest first; none into memory that is lent."""
        if self._is_lent and self._plan.lends_ring:
            return
        streamed = []
        for block in upcoming:
            berth = self._berths.get(block)
            if berth is not None:
                if not (self._is_lent and block.name in self._plan.yielding):
                    self._fill(block, berth)
            elif block.name not in self._plan.in_place:
                streamed.append(block)
        self.ring.prefetch(streamed)

    def lend(self) -> None:
        """Give the lendable memory to the allocator (for the decode that comes next in the compute stream)."""
        if self._lent is None or self._is_lent:
            return
        if self._plan.lends_ring:
            self.ring.clear()
        if self._plan.lends_scratch:
            self._in_scratch = None
        for name in self._plan.yielding:
            berth = self._berths[self._blocks[name]]
            self._device.wait(berth.ready)
            berth.filled = False
        self._lent.untyped_storage().resize_(0)
        self._is_lent = True

    def retake(self) -> None:
        """Take the lent memory back; every view of it is valid again and empty."""
        if self._lent is None or not self._is_lent:
            return
        with self._inside():
            self._lent.untyped_storage().resize_(self._lent.numel())
        if self._poison:  # it may be the very memory that it was, with all that lay there
            self._lent.fill_(POISON)
        self._is_lent = False
        if self._plan.lends_ring:
            self.ring.reopen()
        for name in self._plan.yielding:
            self._berths[self._blocks[name]].free = self._device.mark()

    def unpacking_seconds(self, block: Block, times: int = 4) -> float:
        """Device time that the block takes from its carried form to its parameters' place, once it has arrived."""
        if block.name in self._plan.in_place:
            return 0.0
        berth = self._berths.get(block)
        source = self._from_berth(block, berth) if berth else self.ring.take(block)
        first = self._device.timed_mark()
        for _ in range(times):
            self._unpack(block, source, self._scratch)
        last = self._device.timed_mark()
        if berth is None:
            self.ring.give(block)
        self._in_scratch = None
        self._device.synchronize()
        return self._device.seconds_between(first, last) / times

    @property
    def arena_bytes(self) -> int:
        """All device memory of weights."""
        return self.lent_bytes + (0 if self._kept is None else self._kept.numel())

    @property
    def lent_bytes(self) -> int:
        """What the decode borrows."""
        return 0 if self._lent is None else self._lent.numel()

    def adopt(self, plan: Plan) -> None:
        """Go on with a plan that leaves everything where it is."""
        self._plan = plan

    def refresh(self) -> None:
        """Carry all that lies on the device anew from host memory (after set-up, and before a clean retry).

        Weights that are in place have no other copy. What is lent is taken back first; raises torch.OutOfMemoryError.
        """
        if self._is_lent:
            self.retake()
        self._in_scratch = None
        self.ring.clear()
        for block, head in self._heads.items():
            assert block.host is not None
            self._device.fetch(head, block.host[: head.numel()], self._device.mark())
        for block, berth in self._berths.items():
            berth.filled, berth.free = False, self._device.mark()
            self._fill(block, berth)

    def forget_scratch(self) -> None:
        """After a turn of poisoned tests: nobody may rely on what the scratch held."""
        if self._poison:
            self._scratch.fill_(POISON)
            self._in_scratch = None

    def drop(self) -> None:
        """Release all device memory of weights (the parameters must have been restored)."""
        self._device.synchronize()  # copies under way write into what is given back at once
        self._berths.clear()
        self._heads.clear()
        self.ring = Ring(self._device, [])
        for whole in (self._kept, self._lent, *self._in_place):
            if whole is not None:
                whole.untyped_storage().resize_(0)  # the blocks' parameters still look at it
        self._kept = self._lent = self.pool = None
        self._in_place.clear()
        self._scratch = self._device.empty(0)

    def _place(self, blocks: Sequence[Block]) -> list[torch.Tensor]:
        """Bring these blocks to the device as they are; on the CPU they are there unless they were carried."""
        flats = []
        for block in blocks:
            if block.host is None and not self._device.is_cuda:
                continue
            flat = block.flatten(self._device.where) if block.host is None else self._device.empty(block.raw_bytes)
            if block.host is not None:
                self._unpack(block, block.host.to(self._device.where), flat)
            block.bind(flat)
            flats.append(flat)
        return flats

    def _allocate(self, moved: Sequence[Block]) -> torch.Tensor:
        """Make both allocations and share them out; returns the scratch."""
        plan, slots = self._plan, [self._plan.slot_bytes] * self._plan.ring_slots
        lent = [*([plan.scratch_bytes] if plan.lends_scratch else []), *(slots if plan.lends_ring else [])]
        kept = [*([] if plan.lends_scratch else [plan.scratch_bytes]), *([] if plan.lends_ring else slots)]
        yielding = [self._blocks[name] for name in plan.yielding]
        resident = [block for block in moved if block.name in plan.residents and block not in yielding]
        heads = [(self._blocks[name], nbytes) for name, nbytes in plan.heads]
        sizes = [*kept, *[block.carried_bytes for block in resident], *[nbytes for _, nbytes in heads]]
        self._kept, kept_views = self._slice(sizes)
        with self._inside():
            self._lent, lent_views = self._slice([*lent, *[block.carried_bytes for block in yielding]])
            self._device.empty(_temporary_bytes(plan))  # in one piece, whoever rides first
        scratch, *buffers = lent_views[: len(lent)] + kept_views[: len(kept)]
        views = lent_views[len(lent) :] + kept_views[len(kept) :]
        names = [*yielding, *resident, *[block for block, _ in heads]]
        own = dict(zip(names, views, strict=True))
        self._berths = {block: Berth(own[block]) for block in (*yielding, *resident)}
        self._heads = {block: own[block] for block, _ in heads}
        self.ring = Ring(self._device, buffers, self._heads)
        return scratch

    def _inside(self) -> AbstractContextManager[None]:
        return nullcontext() if self.pool is None else self.pool()

    def _slice(self, sizes: Sequence[int]) -> tuple[torch.Tensor | None, list[torch.Tensor]]:
        """One allocation cut into aligned pieces."""
        if not sizes:
            return None, []
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        whole = self._device.empty(end)
        return whole, [whole[start : start + size] for start, size in zip(starts, sizes, strict=True)]

    def _fill(self, block: Block, berth: Berth) -> None:
        if not berth.filled:
            assert block.host is not None
            berth.ready = self._device.fetch(berth.buffer, block.host, berth.free)
            berth.filled = True

    def _from_berth(self, block: Block, berth: Berth) -> torch.Tensor:
        self._fill(block, berth)
        self._device.wait(berth.ready)
        berth.ready = Mark()
        return berth.buffer

    def _unpack(self, block: Block, source: torch.Tensor, target: torch.Tensor) -> None:
        if block.packed is None:
            target[: source.numel()].copy_(source)
        else:
            self._device.unpack(source, block.packed, target[: block.packed.count * 2].view(torch.int16))


def _temporary_bytes(plan: Plan) -> int:
    """Most that one ride takes beyond its rider's state."""
    return max(plan.facts.activations - plan.facts.waiting, 0)
