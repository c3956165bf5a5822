"""Which blocks stay on the device, which of them lend their memory to the decode, and what a picture then takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.offload.plan import BlockFacts, Facts

#: A head starts and ends where the allocator's blocks do.
HEAD_MULTIPLE = 512
#: Less than this share of a block is not worth a copy of its own.
LEAST_HEAD = 1 / 16


@dataclass(frozen=True, slots=True)
class Head:
    """The first `nbytes` of a streamed block's carried bytes, which stay on the device: room too small for a block."""

    name: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Loan:
    """What the decode borrows."""

    yielding: tuple[BlockFacts, ...] = ()
    scratch: bool = False
    ring: bool = False

    def nbytes(self, scratch_bytes: int, ring_bytes: int) -> int:
        own = sum(block.carried for block in self.yielding)
        return own + (scratch_bytes if self.scratch else 0) + (ring_bytes if self.ring else 0)


def choose_residents(
    blocks: Sequence[BlockFacts], room: int, facts: Facts, count: int | None = None
) -> list[BlockFacts]:
    """Which blocks stay: the split between stages that makes one picture fastest, each stage's share spread evenly."""
    stages = sorted({block.stage for block in blocks})
    by_stage = {stage: [block for block in blocks if block.stage == stage] for stage in stages}
    if count is not None:
        return _strided(list(blocks), count)
    best: list[BlockFacts] = []
    best_cost = float("inf")
    main = max(stages, key=lambda stage: sum(block.turns * block.carried for block in by_stage[stage]), default=None)
    if main is None:
        return []
    for share in range(len(by_stage[main]) + 1):
        chosen = _strided(by_stage[main], share)
        left = room - sum(block.carried for block in chosen)
        if left < 0:
            break
        for stage in reversed([stage for stage in stages if stage != main]):
            fitting = _most_fitting(by_stage[stage], left)
            chosen = chosen + fitting
            left -= sum(block.carried for block in fitting)
        cost = predicted_seconds(blocks, chosen, facts)
        if cost <= best_cost:
            best, best_cost = chosen, cost
    return best


def choose_head(blocks: Sequence[BlockFacts], residents: Sequence[BlockFacts], room: int, facts: Facts) -> Head | None:
    """What is left of the room, given to the streamed block where it saves most; None where it is too little."""
    staying = {block.name for block in residents}
    best, best_cost = None, predicted_seconds(blocks, residents, facts)
    for stage in sorted({block.stage for block in blocks}):
        streamed = [block for block in blocks if block.stage == stage and block.name not in staying]
        turns = max((block.turns for block in streamed), default=0)
        often = [block for block in streamed if block.turns == turns]
        if not often:
            continue
        block = often[len(often) // 2]
        nbytes = min(room, block.carried) // HEAD_MULTIPLE * HEAD_MULTIPLE
        if nbytes < LEAST_HEAD * block.carried:
            continue
        cost = predicted_seconds(less_head(blocks, Head(block.name, nbytes)), residents, facts)
        if cost < best_cost:
            best, best_cost = Head(block.name, nbytes), cost
    return best


def less_head(blocks: Sequence[BlockFacts], head: Head | None) -> list[BlockFacts]:
    """The blocks with what they carry beside the head."""
    if head is None:
        return list(blocks)
    return [replace(block, carried=block.carried - head.nbytes * (block.name == head.name)) for block in blocks]


def predicted_seconds(blocks: Sequence[BlockFacts], residents: Sequence[BlockFacts], facts: Facts) -> float:
    """Seconds of all turns of one picture, alone: each stage is bound by its copies or by its computing."""
    staying = {block.name for block in residents}
    copied: dict[int, float] = {}
    computed: dict[int, float] = {}
    for block in blocks:
        per_turn = facts.block_seconds[block.stage] if block.stage < len(facts.block_seconds) else 0.0
        moved = 0 if block.name in staying else block.carried
        copied[block.stage] = copied.get(block.stage, 0.0) + block.turns * moved / facts.bandwidth
        computed[block.stage] = computed.get(block.stage, 0.0) + block.turns * per_turn
    return sum(max(copied[stage], computed[stage]) for stage in copied)


def lend(chosen: Sequence[BlockFacts], owed: int, scratch_bytes: int, ring_bytes: int) -> Loan:
    """Who lends `owed` bytes to the decode.

    First the scratch, which holds nothing then; next residents, those used latest after the decode first; too few of
    them, the ring before any of them, though it could fetch ahead meanwhile.
    """
    if owed <= 0:
        return Loan()
    ring = scratch_bytes + sum(block.carried for block in chosen) < owed
    left = owed - scratch_bytes - (ring_bytes if ring else 0)
    yielding: list[BlockFacts] = []
    for block in sorted(chosen, key=lambda block: block.stage, reverse=True):
        if left <= 0:
            break
        yielding.append(block)
        left -= block.carried
    return Loan(tuple(yielding), scratch=True, ring=ring)


def _strided(blocks: list[BlockFacts], count: int) -> list[BlockFacts]:
    """`count` of the blocks, spread evenly over the running order."""
    count = min(count, len(blocks))
    return [blocks[int((place + 0.5) * len(blocks) / count)] for place in range(count)]


def _most_fitting(blocks: list[BlockFacts], room: int) -> list[BlockFacts]:
    for count in range(len(blocks), 0, -1):
        chosen = _strided(blocks, count)
        if sum(block.carried for block in chosen) <= room:
            return chosen
    return []
