"""The planner: a pure function from a byte budget and measured facts to what lies where.

The budget covers the whole process: CUDA context and libraries, the parts that always stay, the scratch (one unpacked
block), the ring, residents, activations, and the decode, for which memory is lent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

GIB = 1 << 30
MIB = 1 << 20
UNLIMITED = 1 << 50
#: With so many places one rider's state comes in and another's goes out while a third rides, so parking costs no time.
FLOWING_PLACES = 3
#: Riders are parked to make room for residents if a lone picture then takes less than this share of its time.
WORTHWHILE = 0.95


class ImpossibleBudget(ValueError):
    """Raised when the pipeline can not run in the budget; the message names the least one."""


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """One block: `raw` bytes unpacked, `carried` bytes over the bus, `turns` per picture."""

    name: str
    stage: int
    raw: int
    carried: int
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was measured, or is assumed until it is."""

    context: int = 700 * MIB  # CUDA context, libraries, kernels
    fixed: int = 0  # parts that always stay on the device
    activations: int = 450 * MIB  # most of all stages but the decode
    decode: int = 1400 * MIB  # the plain decode's own
    pieces: int = 384 * MIB  # free beside the plain decode's own, since its 512 MiB pieces do not fit every gap
    strips: int = 640 * MIB  # the decode's own in strips, of small pieces
    reserve: int = 64 * MIB  # for the allocator's rounding and fragments
    waiting: int = 100 * MIB  # of each further rider that waits at a block
    bandwidth: float = 50e9  # host to device, bytes per second
    block_seconds: tuple[float, ...] = ()  # per stage: one block's turn for one rider, unpacking included


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What lies where. Names are those of blocks."""

    strategy: str
    budget: int
    packing: bool
    in_place: frozenset[str]  # raw on the device, never carried
    residents: frozenset[str]  # packed on the device (yielding ones included)
    yielding: tuple[str, ...]  # residents whose memory the decode borrows
    lends_ring: bool  # the decode borrows scratch and ring as well
    scratch_bytes: int
    slot_bytes: int
    ring_slots: int
    decode_mode: str  # plain, or strips where the plain decode does not fit (see strips.py)
    seats: int  # riders of one sweep
    places: int  # riders whose state lies on the device at the same time; the others' is parked in host memory
    parked_bytes: int  # host memory for parked states
    facts: Facts
    peaks: dict[str, int]  # predicted bytes of the process per phase
    sweep_bytes: dict[str, int]  # carried per pass, per stage
    least_budget: int
    resident_bytes: int
    never_loaded: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def predicted_peak(self) -> int:
        return max(self.peaks.values(), default=0)

    def __str__(self) -> str:
        facts = self.facts
        lines = [
            f"strategy {self.strategy}, budget {_gib(self.budget)}, "
            f"weights {'packed to 12 bits' if self.packing else 'as they are'}",
            f"in place {len(self.in_place)} blocks, resident {len(self.residents)} ({_gib(self.resident_bytes)}), "
            f"of them yielding to the decode {len(self.yielding)}{', ring lent too' if self.lends_ring else ''}",
            f"ring {self.ring_slots} x {_gib(self.slot_bytes)}, scratch {_gib(self.scratch_bytes)}, "
            f"context {_gib(facts.context)}, fixed parts {_gib(facts.fixed)}",
            f"decode {self.decode_mode}, seats {self.seats}, states on the device {self.places}, "
            f"room in host memory for parked ones {_gib(self.parked_bytes)}",
            f"measured: activations {_gib(facts.activations)}, decode {_gib(facts.decode)}, in strips "
            f"{_gib(facts.strips)}, a waiting rider {_gib(facts.waiting)}, "
            f"reserve {_gib(facts.reserve)}, bus {facts.bandwidth / 1e9:.1f} GB/s, blocks "
            + "/".join(f"{seconds * 1e3:.2f}" for seconds in facts.block_seconds)
            + " ms",
            "peaks " + ", ".join(f"{phase} {_gib(value)}" for phase, value in self.peaks.items()),
            "carried per pass " + ", ".join(f"{stage} {_gib(value)}" for stage, value in self.sweep_bytes.items()),
            f"least budget {_gib(self.least_budget)}",
        ]
        if self.never_loaded:
            lines.append("never loaded: " + ", ".join(self.never_loaded))
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller fixed; None: the planner decides."""

    packing: bool = True
    ring_slots: int | None = None
    residents: int | None = None
    seats: int = 4  # riders of one sweep; fewer where the budget is too small
    places: int | None = None  # of them with their state on the device
    decode: str = "auto"  # plain, strips, auto: strips where the plain decode does not fit


def make_plan(  # noqa: PLR0917 - a pure function of plain facts
    strategy: str,
    blocks: Sequence[BlockFacts],
    stage_names: Sequence[str],
    budget: int,
    facts: Facts,
    wishes: Wishes = Wishes(),
    never_loaded: Sequence[str] = (),
) -> Plan:
    """The best plan within `budget` bytes; raises ImpossibleBudget."""
    if fits_in_place(blocks, budget, facts, wishes):
        return _in_place_plan(strategy, blocks, stage_names, budget, facts, wishes, never_loaded)
    ways = _ways(wishes)
    leasts = [_least(blocks, facts, mode, slots) for mode, slots in ways]
    if budget < min(leasts):
        mode, slots = ways[leasts.index(min(leasts))]
        raise ImpossibleBudget(
            f"{_gib(budget)} is too little for this pipeline: it needs at least {min(leasts) / GIB:.2f} GiB "
            f"(context {_gib(facts.context)}, fixed parts {_gib(facts.fixed)}, reserve {_gib(facts.reserve)}, scratch "
            f"and ring {_gib(_floor(blocks, slots))}, activations {_gib(facts.activations)}, "
            f"{mode} decode {_gib(_decode_bytes(facts, mode))})"
        )
    mode, slots = next(way for way, least in zip(ways, leasts, strict=True) if budget >= least)
    return _carried_plan(strategy, blocks, stage_names, budget, facts, wishes, never_loaded, (mode, slots), min(leasts))


def _carried_plan(  # noqa: PLR0917 - see make_plan
    strategy: str,
    blocks: Sequence[BlockFacts],
    stage_names: Sequence[str],
    budget: int,
    facts: Facts,
    wishes: Wishes,
    never_loaded: Sequence[str],
    way: tuple[str, int],
    least: int,
) -> Plan:
    mode, slots = way
    floor, decode = _floor(blocks, slots), _decode_bytes(facts, mode)
    seats, places = _seats_and_places(blocks, budget, _least(blocks, facts, mode, slots), facts, floor, decode, wishes)
    base = facts.context + facts.fixed + facts.reserve + (places - 1) * facts.waiting
    room = budget - base - floor - facts.activations
    chosen = choose_residents(blocks, room, facts, wishes.residents)
    cached = facts.activations if seats > 1 else 0  # the decode's memory is then apart: see Device.apart
    owed = max(base + floor + sum(block.carried for block in chosen) + cached + decode - budget, 0)
    yielding, lends_ring = _lenders(chosen, owed, floor)
    lent = sum(block.carried for block in yielding) + (floor if lends_ring else 0)
    total = base + floor + sum(block.carried for block in chosen)
    names = frozenset(block.name for block in chosen)
    return Plan(
        strategy=strategy,
        budget=budget,
        packing=wishes.packing,
        in_place=frozenset(),
        residents=names,
        yielding=tuple(block.name for block in yielding),
        lends_ring=lends_ring,
        scratch_bytes=_scratch(blocks),
        slot_bytes=_slot(blocks),
        ring_slots=slots,
        decode_mode=mode,
        seats=seats,
        places=places,
        parked_bytes=(seats + overtakers(seats) - places) * facts.waiting,
        facts=facts,
        peaks={"blocks": total + facts.activations, "decode": total - lent + cached + decode},
        sweep_bytes=_sweep_bytes(blocks, stage_names, names),
        least_budget=least,
        resident_bytes=sum(block.carried for block in chosen),
        never_loaded=tuple(never_loaded),
    )


def _ways(wishes: Wishes) -> list[tuple[str, int]]:
    """How to decode and how many slots the ring has, best first."""
    modes = ["plain", "strips"] if wishes.decode == "auto" else [wishes.decode]
    if wishes.ring_slots:
        return [(mode, wishes.ring_slots) for mode in modes]
    return [*[(mode, 2) for mode in modes], (modes[-1], 1)]


def _least(blocks: Sequence[BlockFacts], facts: Facts, mode: str, slots: int) -> int:
    decode = _decode_bytes(facts, mode) + (facts.pieces if mode == "plain" else 0)
    most = max(_floor(blocks, slots) + facts.activations, decode)
    return facts.context + facts.fixed + facts.reserve + most


def _decode_bytes(facts: Facts, mode: str) -> int:
    return facts.strips if mode == "strips" else facts.decode


def _floor(blocks: Sequence[BlockFacts], slots: int) -> int:
    return _scratch(blocks) + slots * _slot(blocks)


def _scratch(blocks: Sequence[BlockFacts]) -> int:
    return max((block.raw for block in blocks), default=0)


def _slot(blocks: Sequence[BlockFacts]) -> int:
    return max((block.carried for block in blocks), default=0)


def overtakers(seats: int) -> int:
    """Interactive riders that may board beyond the seats while batch riders are parked."""
    return min(seats, 4)


def _seats_and_places(  # noqa: PLR0917 - see make_plan
    blocks: Sequence[BlockFacts],
    budget: int,
    least: int,
    facts: Facts,
    floor: int,
    decode: int,
    wishes: Wishes,
) -> tuple[int, int]:
    """Riders, and how many of their states stay on the device: the others are parked where that must be, or pays."""
    wish = wishes.seats
    if wishes.places is not None:
        return wish, min(wishes.places, wish)
    fitting = _fitting(budget, least, facts, max(floor, decode), wish)
    if fitting < FLOWING_PLACES:
        return fitting, fitting
    few = min(FLOWING_PLACES, wish)
    spare = budget - facts.context - facts.fixed - facts.reserve - floor - facts.activations

    def seconds(places: int) -> float:
        room = max(spare - (places - 1) * facts.waiting, 0)
        return predicted_seconds(blocks, choose_residents(blocks, room, facts, wishes.residents), facts)

    return wish, few if seconds(few) < WORTHWHILE * seconds(fitting) else fitting


def _fitting(budget: int, least: int, facts: Facts, most: int, wish: int) -> int:
    """As many states as the least plan leaves room for; several need a decode apart, which may borrow the floor."""
    apart = facts.context + facts.fixed + facts.reserve + facts.activations + most
    room = budget - max(least, apart)
    if room < facts.waiting:
        return 1
    return min(wish, 1 + room // max(facts.waiting, 1))


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


def bare_plan(plan: Plan) -> Plan:
    """`plan` for one rider, with everything that can be lent lent to the decode: for the ride that measures."""
    return replace(plan, lends_ring=True, seats=1, places=1)


def fits_in_place(blocks: Sequence[BlockFacts], budget: int, facts: Facts, wishes: Wishes) -> bool:
    """Everything fits unpacked, so nothing need be carried."""
    if wishes.ring_slots is not None or wishes.residents is not None:
        return False
    peak = facts.context + facts.fixed + facts.reserve + max(facts.activations, facts.decode)
    return peak + sum(block.raw for block in blocks) <= budget


def _in_place_plan(  # noqa: PLR0917 - see make_plan
    strategy: str,
    blocks: Sequence[BlockFacts],
    stage_names: Sequence[str],
    budget: int,
    facts: Facts,
    wishes: Wishes,
    never_loaded: Sequence[str],
) -> Plan:
    total = facts.context + facts.fixed + facts.reserve + sum(block.raw for block in blocks)
    return Plan(
        strategy=strategy,
        budget=budget,
        packing=False,
        in_place=frozenset(block.name for block in blocks),
        residents=frozenset(),
        yielding=(),
        lends_ring=False,
        scratch_bytes=0,
        slot_bytes=0,
        ring_slots=0,
        decode_mode="strips" if wishes.decode == "strips" else "plain",
        seats=wishes.seats,
        places=wishes.seats + overtakers(wishes.seats),
        parked_bytes=0,
        facts=facts,
        peaks={"blocks": total + facts.activations, "decode": total + facts.decode},
        sweep_bytes=dict.fromkeys(stage_names, 0),
        least_budget=total + max(facts.activations, facts.decode),
        resident_bytes=sum(block.raw for block in blocks),
        never_loaded=tuple(never_loaded),
        notes=("everything fits: nothing is carried",),
    )


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


def _lenders(chosen: Sequence[BlockFacts], owed: int, floor: int) -> tuple[list[BlockFacts], bool]:
    """Who lends `owed` bytes to the decode: residents used latest after it; too few of them, ring and scratch first."""
    if owed <= 0:
        return [], False
    lends_ring = sum(block.carried for block in chosen) < owed
    left = owed - floor if lends_ring else owed
    yielding: list[BlockFacts] = []
    for block in sorted(chosen, key=lambda block: block.stage, reverse=True):
        if left <= 0:
            break
        yielding.append(block)
        left -= block.carried
    return yielding, lends_ring


def _sweep_bytes(blocks: Sequence[BlockFacts], stage_names: Sequence[str], residents: frozenset[str]) -> dict[str, int]:
    carried = dict.fromkeys(stage_names, 0)
    for block in blocks:
        if block.name not in residents:
            carried[stage_names[block.stage]] += block.carried
    return carried


def _gib(nbytes: int) -> str:
    return f"{nbytes / GIB:.2f} GiB"
