"""The planner: a pure function from a byte budget and measured facts to what lies where.

The budget covers the whole process: CUDA context and libraries, the parts that always stay, the scratch (one unpacked
block), the ring, residents, activations, and the decode, for which memory is lent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from worker.offload.plan import GIB, BlockFacts, Facts, ImpossibleBudget, Plan, Wishes, gib
from worker.offload.residents import Head, choose_head, choose_residents, lend, less_head, predicted_seconds

#: With so many places one rider's state comes in and another's goes out while a third rides, so parking costs no time.
FLOWING_PLACES = 3
NO_WISHES = Wishes()
#: Riders are parked to make room for residents if a lone picture then takes less than this share of its time.
WORTHWHILE = 0.95


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is wanted for."""

    strategy: str
    blocks: Sequence[BlockFacts]
    stage_names: Sequence[str]
    budget: int
    facts: Facts
    wishes: Wishes
    never_loaded: Sequence[str]

    @property
    def scratch(self) -> int:
        return max((block.raw for block in self.blocks), default=0)

    @property
    def slot(self) -> int:
        return max((block.carried for block in self.blocks), default=0)

    @property
    def wished(self) -> int:
        """Bytes of the residents that the caller fixed."""
        count = self.wishes.residents
        return sum(block.carried for block in choose_residents(self.blocks, 0, self.facts, count)) if count else 0

    @property
    def always(self) -> int:
        """Bytes of the process whatever else is planned."""
        return self.facts.context + self.facts.fixed + self.facts.reserve


@dataclass(frozen=True, slots=True)
class Way:
    """How to decode, and how many slots the ring has."""

    mode: str
    slots: int

    def floor(self, question: Question) -> int:
        return question.scratch + self.slots * question.slot

    def decode(self, facts: Facts) -> int:
        return facts.strips if self.mode == "strips" else facts.decode

    def pieces(self, facts: Facts) -> int:
        return facts.pieces if self.mode == "plain" else 0

    def least(self, question: Question) -> int:
        facts = question.facts
        blocks = self.floor(question) + question.wished + facts.activations
        most = max(blocks, self.decode(facts) + self.pieces(facts))
        return question.always + most


def make_plan(  # noqa: PLR0917 - a pure function of plain facts
    strategy: str,
    blocks: Sequence[BlockFacts],
    stage_names: Sequence[str],
    budget: int,
    facts: Facts,
    wishes: Wishes = NO_WISHES,
    never_loaded: Sequence[str] = (),
) -> Plan:
    """The best plan within `budget` bytes; raises ImpossibleBudget."""
    question = Question(strategy, blocks, stage_names, budget, facts, wishes, never_loaded)
    if fits_in_place(blocks, budget, facts, wishes):
        return _in_place_plan(question)
    ways = _ways(wishes)
    leasts = [way.least(question) for way in ways]
    if budget < min(leasts):
        raise _refusal(question, ways[leasts.index(min(leasts))])
    way = next(way for way, least in zip(ways, leasts, strict=True) if budget >= least)
    return _carried_plan(question, way, min(leasts))


def bare_plan(plan: Plan) -> Plan:
    """`plan` for one rider, with everything that can be lent lent to the decode: for the ride that measures."""
    return replace(plan, lends_scratch=True, lends_ring=True, seats=1, places=1, parked_bytes=0)


def overtakers(seats: int) -> int:
    """Interactive riders that may board beyond the seats while batch riders are parked."""
    return min(seats, 4)


def fits_in_place(blocks: Sequence[BlockFacts], budget: int, facts: Facts, wishes: Wishes) -> bool:
    """Everything fits unpacked, so nothing need be carried."""
    if wishes.ring_slots is not None or wishes.residents is not None:
        return False
    peak = facts.context + facts.fixed + facts.reserve + max(facts.activations, facts.decode)
    return peak + sum(block.raw for block in blocks) <= budget


def _carried_plan(question: Question, way: Way, least: int) -> Plan:
    facts, wishes = question.facts, question.wishes
    seats, places = _seats_and_places(question, way)
    floor, decode = way.floor(question), way.decode(facts)
    base = question.always + (places - 1) * facts.waiting
    room = question.budget - base - floor - facts.activations
    chosen = choose_residents(question.blocks, room, facts, wishes.residents)
    resident_bytes = sum(block.carried for block in chosen)
    cached = facts.waiting if seats > 1 else 0  # its own state lies elsewhere then: see apart.py
    total = base + floor + resident_bytes
    loan = lend(chosen, total + cached + decode - question.budget, question.scratch, way.slots * question.slot)
    peaks = {
        "blocks": total + facts.activations,
        "decode": total - loan.nbytes(question.scratch, way.slots * question.slot) + cached + decode,
    }
    head = _head(question, way, chosen, peaks, gaps=loan.ring)
    return Plan(
        strategy=question.strategy,
        budget=question.budget,
        packing=wishes.packing,
        in_place=frozenset(),
        residents=frozenset(block.name for block in chosen),
        heads=((head.name, head.nbytes),) if head else (),
        yielding=tuple(block.name for block in loan.yielding),
        lends_scratch=loan.scratch,
        lends_ring=loan.ring,
        scratch_bytes=question.scratch,
        slot_bytes=question.slot,
        ring_slots=way.slots,
        decode_mode=way.mode,
        seats=seats,
        places=places,
        parked_bytes=(seats + overtakers(seats) - places) * facts.waiting,
        facts=facts,
        peaks={phase: peak + (head.nbytes if head else 0) for phase, peak in peaks.items()},
        sweep_bytes=_sweep_bytes(less_head(question.blocks, head), question.stage_names, chosen),
        least_budget=least,
        resident_bytes=resident_bytes + (head.nbytes if head else 0),
        never_loaded=tuple(question.never_loaded),
    )


def _head(
    question: Question, way: Way, chosen: Sequence[BlockFacts], peaks: dict[str, int], *, gaps: bool
) -> Head | None:
    """What the whole residents leave free, in every phase; with `gaps` the decode's large pieces need room too."""
    if question.wishes.residents is not None:
        return None
    decode = peaks["decode"] + (way.pieces(question.facts) if gaps else 0)
    return choose_head(question.blocks, chosen, question.budget - max(peaks["blocks"], decode), question.facts)


def _ways(wishes: Wishes) -> list[Way]:
    """How to decode and how many slots the ring has, best first."""
    modes = ["plain", "strips"] if wishes.decode == "auto" else [wishes.decode]
    if wishes.ring_slots:
        return [Way(mode, wishes.ring_slots) for mode in modes]
    return [*[Way(mode, 2) for mode in modes], Way(modes[-1], 1)]


def _refusal(question: Question, way: Way) -> ImpossibleBudget:
    facts, least = question.facts, way.least(question)
    return ImpossibleBudget(
        f"{gib(question.budget)} is too little for this pipeline: it needs at least "
        f"{math.ceil(100 * least / GIB) / 100:.2f} GiB "
        f"(context {gib(facts.context)}, fixed parts {gib(facts.fixed)}, reserve {gib(facts.reserve)}, scratch "
        f"and ring {gib(way.floor(question))}, activations {gib(facts.activations)}, "
        f"{way.mode} decode {gib(way.decode(facts))})",
        least,
    )


def _seats_and_places(question: Question, way: Way) -> tuple[int, int]:
    """Riders, and how many of their states stay on the device: the others are parked where that must be, or pays."""
    facts, wishes = question.facts, question.wishes
    wish = wishes.seats
    if wishes.places is not None:
        return wish, min(wishes.places, wish)
    fitting = _fitting(question, way)
    if fitting < FLOWING_PLACES:
        return fitting, fitting
    few = min(FLOWING_PLACES, wish)
    spare = question.budget - question.always - way.floor(question) - facts.activations

    def seconds(places: int) -> float:
        room = max(spare - (places - 1) * facts.waiting, 0)
        chosen = choose_residents(question.blocks, room, facts, wishes.residents)
        return predicted_seconds(question.blocks, chosen, facts)

    return wish, few if seconds(few) < WORTHWHILE * seconds(fitting) else fitting


def _fitting(question: Question, way: Way) -> int:
    """As many states as the least plan leaves room for; several need a decode apart, which may borrow the floor."""
    facts = question.facts
    apart = question.always + max(way.floor(question) + facts.activations, facts.waiting + way.decode(facts))
    room = question.budget - max(way.least(question), apart)
    if room < facts.waiting:
        return 1
    return min(question.wishes.seats, 1 + room // max(facts.waiting, 1))


def _in_place_plan(question: Question) -> Plan:
    facts, wishes = question.facts, question.wishes
    total = question.always + sum(block.raw for block in question.blocks)
    return Plan(
        strategy=question.strategy,
        budget=question.budget,
        packing=False,
        in_place=frozenset(block.name for block in question.blocks),
        residents=frozenset(),
        heads=(),
        yielding=(),
        lends_scratch=False,
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
        sweep_bytes=dict.fromkeys(question.stage_names, 0),
        least_budget=total + max(facts.activations, facts.decode),
        resident_bytes=sum(block.raw for block in question.blocks),
        never_loaded=tuple(question.never_loaded),
        notes=("everything fits: nothing is carried",),
    )


def _sweep_bytes(
    blocks: Sequence[BlockFacts], stage_names: Sequence[str], residents: Sequence[BlockFacts]
) -> dict[str, int]:
    carried, staying = dict.fromkeys(stage_names, 0), {block.name for block in residents}
    for block in blocks:
        if block.name not in staying:
            carried[stage_names[block.stage]] += block.carried
    return carried
