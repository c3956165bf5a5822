"""What a plan is made of: the blocks' facts, what was measured, what the caller wishes, and the plan itself."""

from __future__ import annotations

from dataclasses import dataclass, field

GIB = 1 << 30
MIB = 1 << 20
UNLIMITED = 1 << 50


class ImpossibleBudget(ValueError):
    """Raised when the pipeline can not run in the budget; the message names the least one.

    `least_bytes`: the same as a number; 0 where none is known.
    """

    def __init__(self, message: str, least_bytes: int = 0) -> None:
        super().__init__(message)
        self.least_bytes = least_bytes


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
    strips: int = 900 * MIB  # the decode's own in strips
    reserve: int = 64 * MIB  # for the allocator's rounding and fragments
    waiting: int = 100 * MIB  # of each further rider that waits at a block
    bandwidth: float = 50e9  # host to device, bytes per second
    block_seconds: tuple[float, ...] = ()  # per stage: a block's usual turn for one rider, unpacking included


#: Of a device whose memory is nobody's concern.
NO_FACTS = Facts(context=0, activations=0, decode=0, pieces=0, strips=0, reserve=0, waiting=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What lies where. Names are those of blocks."""

    strategy: str
    budget: int
    packing: bool
    in_place: frozenset[str]  # raw on the device, never carried
    residents: frozenset[str]  # packed on the device (yielding ones included)
    heads: tuple[tuple[str, int], ...]  # streamed blocks of whose carried bytes the first so many stay on the device
    yielding: tuple[str, ...]  # residents whose memory the decode borrows
    lends_scratch: bool  # the decode borrows the scratch
    lends_ring: bool  # and the ring as well
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
    unnamed_decode: str = ""  # how sizes without a compiled form of their own are decoded, where that differs
    packing_fault: str = ""  # why weights are not packed though that was wished

    @property
    def resting_bytes(self) -> int:
        """Bytes of weights on the device, and of room for them, while nobody rides."""
        return self.facts.fixed + self.scratch_bytes + self.ring_slots * self.slot_bytes + self.resident_bytes

    @property
    def predicted_peak(self) -> int:
        return max(self.peaks.values(), default=0)

    @property
    def _lent(self) -> str:
        """What else the decode borrows and what else stays, in words."""
        ring = ", ring lent too" if self.lends_ring else ", scratch lent too" if self.lends_scratch else ""
        heads = "".join(f", {gib(nbytes)} of {name} resident" for name, nbytes in self.heads)
        return ring + heads

    @property
    def _unnamed(self) -> str:
        return f" ({self.unnamed_decode} for sizes that are not compiled for)" if self.unnamed_decode else ""

    def __str__(self) -> str:
        facts = self.facts
        lines = [
            f"strategy {self.strategy}, budget {gib(self.budget)}, "
            f"weights {'packed to 11 bits' if self.packing else 'as they are'}",
            f"in place {len(self.in_place)} blocks, resident {len(self.residents)} ({gib(self.resident_bytes)}), "
            f"of them yielding to the decode {len(self.yielding)}{self._lent}",
            f"ring {self.ring_slots} x {gib(self.slot_bytes)}, scratch {gib(self.scratch_bytes)}, "
            f"context {gib(facts.context)}, fixed parts {gib(facts.fixed)}",
            f"decode {self.decode_mode}{self._unnamed}, seats {self.seats}, states on the device {self.places}, "
            f"room in host memory for parked ones {gib(self.parked_bytes)}",
            f"measured: activations {gib(facts.activations)}, decode {gib(facts.decode)}, in strips "
            f"{gib(facts.strips)}, a waiting rider {gib(facts.waiting)}, "
            f"reserve {gib(facts.reserve)}, bus {facts.bandwidth / 1e9:.1f} GB/s, blocks "
            + "/".join(f"{seconds * 1e3:.2f}" for seconds in facts.block_seconds)
            + " ms",
            "peaks " + ", ".join(f"{phase} {gib(value)}" for phase, value in self.peaks.items()),
            "carried per pass " + ", ".join(f"{stage} {gib(value)}" for stage, value in self.sweep_bytes.items()),
            f"least budget {gib(self.least_budget)}",
        ]
        if self.never_loaded:
            lines.append("never loaded: " + ", ".join(self.never_loaded))
        if self.packing_fault:
            lines.append(f"packing: off (kernel check failed: {self.packing_fault})")
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


def gib(nbytes: int) -> str:
    return f"{nbytes / GIB:.2f} GiB"
