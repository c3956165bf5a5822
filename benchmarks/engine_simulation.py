"""The engine's time by simulation: `python -m benchmarks.engine_simulation` prints a table. Computed, nothing is run.

The engine's own turntable and look-ahead turn over the model's stops; copies go one after another through a ring of
slots, as `worker/offload/ring.py` orders them; computing goes on beside them. Figures of one H100, from the timeline of
run 3 and the times of run 5 (benchmarks/LOG.md): 50 GB/s beside computing, 3.1 ms a denoiser block.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from worker.offload.blocks import Block, Stop
from worker.offload.turn import Route, Turntable

TEXT_BLOCKS, DENOISE_BLOCKS, ONCE = 35, 34, (2, 3)
TEXT, DENOISE, DECODE = 0, 1, 2
#: The engine's: turns that it looks ahead.
HORIZON = 12

Place = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Milliseconds of each piece of work, by stage where there are two."""

    copy: tuple[float, float] = (3.0, 5.4)
    compute: tuple[float, float] = (0.8, 3.1)
    unpack: tuple[float, float] = (0.117, 0.215)
    refiner: float = 0.3  # one that sees the caption alone
    decode: float = 40.0


#: The same card with weights packed to 11.1 bits a value, where the measured runs had 12; unpacking is a guess.
TIGHTER = Machine(copy=(2.77, 4.98), unpack=(0.14, 0.26))


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """What the plan says: residents of the denoiser, how many of them yield, the ring."""

    residents: int = 11
    yielding: int = 4
    head: float = 0.0  # share of one denoiser block that stays
    slots: int = 2
    lends_ring: bool = False


@dataclass(frozen=True)
class Outcome:
    """Of one simulation: seconds from picture to picture, and the copies' share of them."""

    seconds: float
    bus: float

    @property
    def images_per_s(self) -> float:
        return 1 / self.seconds


@dataclass
class Rider:
    """A picture under way."""

    stop: Stop | None
    passes_left: int
    lane: str = "interactive"
    waited: int = 0
    refined: bool = False
    fresh: bool = True

    def ride(self, route: Route) -> None:
        if self.stop is not None:
            self.fresh = self.fresh and self.stop.stage != route.looping
            self.stop, self.passes_left, self.refined = route.after(self.stop, self.passes_left, self.refined)


@dataclass
class Slot:
    """One place of the ring: what it holds, since when, and from when it may be written."""

    block: Place | None = None
    ready: float = 0.0
    free: float = 0.0


@dataclass
class Bus:
    """Copies one after another: into slots, and into yielding residents' own places."""

    machine: Machine
    arrangement: Arrangement
    resident: dict[Place, float | None]  # when it is there; None: it yielded
    headed: Place  # the streamed block whose head stays
    slots: list[Slot]
    end: float = 0.0
    busy: float = 0.0
    returned: float = 0.0  # when the decode gave back what it borrowed

    def prefetch(self, upcoming: Sequence[Place], without: Sequence[Place] = ()) -> None:
        for place in upcoming:
            if place in self.resident and place not in without:
                self.fill(place)
        streamed = [place for place in upcoming if place not in self.resident]
        wanted = list(dict.fromkeys(streamed))[: len(self.slots)]
        for place in wanted:
            self.find(place, wanted)

    def find(self, place: Place, wanted: Sequence[Place]) -> Slot:
        """The slot that holds `place`, fetched now unless it is there."""
        slot = next((slot for slot in self.slots if slot.block == place), None)
        if slot is None:
            slot = next((slot for slot in self.slots if slot.block is None), None)
            slot = slot or next(slot for slot in self.slots if slot.block not in wanted)
            slot.block, slot.ready = place, self._copy(place, slot.free)
        return slot

    def fill(self, place: Place) -> float:
        """When a resident is there."""
        there = self.resident[place]
        if there is None:
            there = self.resident[place] = self._copy(place, self.returned)
        return there

    def _copy(self, place: Place, after: float) -> float:
        length = self.machine.copy[place[0]] * (1 - self.arrangement.head * (place == self.headed))
        self.end = max(self.end, after) + length
        self.busy += length
        return self.end


@dataclass
class Engine:
    """One engine with as many pictures in flight at all times."""

    machine: Machine
    arrangement: Arrangement
    in_flight: int
    forwards: int
    now: float = 0.0
    drawn: int = 0
    riders: list[Rider] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = self.arrangement.residents
        stages = (_stops(TEXT, TEXT_BLOCKS), _stops(DENOISE, DENOISE_BLOCKS))
        self.table = Turntable(Route(stages, DENOISE, Stop(DECODE, 0)))
        spread = [int((at + 0.5) * DENOISE_BLOCKS / count) for at in range(count)]
        places = [(DENOISE, at) for at in spread if at not in ONCE]
        self.yielding = places[len(places) - self.arrangement.yielding :]
        slots = [Slot() for _ in range(self.arrangement.slots)]
        self.bus = Bus(self.machine, self.arrangement, dict.fromkeys(places, 0.0), self._headed(places), slots)
        self.riders = [self._newcomer() for _ in range(self.in_flight)]

    @staticmethod
    def _headed(residents: Sequence[Place]) -> Place:
        streamed = [(DENOISE, at) for at in range(DENOISE_BLOCKS) if at not in ONCE and (DENOISE, at) not in residents]
        return streamed[len(streamed) // 2] if streamed else (DENOISE, DENOISE_BLOCKS)

    def _newcomer(self) -> Rider:
        return Rider(self.table.route.start(), self.forwards)

    def turn(self) -> None:
        """One turn of the table; who got home makes room for another."""
        group = self.table.turn(self.riders)
        stop = group[0].stop
        assert stop is not None
        ahead = [(s.stage, s.position) for s in self.table.ahead(self.riders, group, HORIZON) if s.block is not None]
        if stop.block is None:
            self._decode(ahead)
        else:
            self._ride((stop.stage, stop.position), len(group), ahead)
        for rider in group:
            rider.ride(self.table.route)
        self.drawn += sum(rider.stop is None for rider in self.riders)
        self.riders = [self._newcomer() if rider.stop is None else rider for rider in self.riders]

    def _decode(self, ahead: list[Place]) -> None:
        bus = self.bus
        for place in self.yielding:
            bus.resident[place] = None
        if not self.arrangement.lends_ring:
            bus.prefetch(ahead, without=self.yielding)
        self.now += self.machine.decode
        bus.returned = self.now
        if self.arrangement.lends_ring:
            for slot in bus.slots:
                slot.block, slot.free = None, self.now
        bus.prefetch(ahead)

    def _ride(self, place: Place, riders: int, ahead: list[Place]) -> None:
        bus, stage = self.bus, place[0]
        if place in bus.resident:
            self.now = max(self.now, bus.fill(place)) + self.machine.unpack[stage]
        else:
            slot = bus.find(place, [place])
            self.now = max(self.now, slot.ready) + self.machine.unpack[stage]
            slot.block, slot.free = None, self.now
        bus.prefetch(ahead)
        each = self.machine.refiner if place in [(DENOISE, at) for at in ONCE] else self.machine.compute[stage]
        self.now += each * riders


def simulate(
    arrangement: Arrangement,
    in_flight: int,
    forwards: int,
    machine: Machine = Machine(),
    pictures: int = 40,
) -> Outcome:
    """The engine's pace when as many pictures are in flight at all times, the first few left out."""
    engine = Engine(machine, arrangement, in_flight, forwards)
    while engine.drawn < 2 * in_flight:
        engine.turn()
    begun, drawn, busy = engine.now, engine.drawn, engine.bus.busy
    while engine.drawn < drawn + pictures:
        engine.turn()
    spent = engine.now - begun
    return Outcome(spent / (engine.drawn - drawn) / 1e3, (engine.bus.busy - busy) / spent)


def _stops(stage: int, count: int) -> tuple[Stop, ...]:
    once = ONCE if stage == DENOISE else ()
    empty = nn.Module()
    return tuple(Block(f"{stage}.{at}", empty, stage, at, once=at in once, unneeded=False).stop for at in range(count))


#: What is compared: names of arrangements, and milliseconds of their decode.
CASES = (
    ("run 5, 5.8 GiB", Arrangement(residents=11, yielding=5), Machine()),
    ("scratch lent", Arrangement(residents=11, yielding=4), Machine()),
    ("and a head of 0.09 GiB", Arrangement(residents=11, yielding=4, head=0.37), Machine()),
    ("and one more resident", Arrangement(residents=12, yielding=4), Machine()),
    ("that one and a head", Arrangement(residents=12, yielding=4, head=0.37), Machine()),
    ("ring lent for two residents", Arrangement(residents=11, yielding=2, lends_ring=True), Machine()),
    ("three slots for a resident", Arrangement(residents=10, yielding=4, slots=3), Machine()),
    ("everything resident", Arrangement(residents=34, yielding=0), Machine()),
    ("3.0 GiB, plain, two yield", Arrangement(residents=2, yielding=2, lends_ring=True), Machine()),
    ("3.0 GiB, strips of 0.18 s", Arrangement(residents=0, yielding=0, lends_ring=True), Machine(decode=180.0)),
    ("11 bits: scratch lent and a head", Arrangement(residents=12, yielding=5, head=0.1), TIGHTER),
    ("11 bits: one more resident", Arrangement(residents=13, yielding=5, head=0.1), TIGHTER),
    ("11 bits: two more residents", Arrangement(residents=14, yielding=5, head=0.1), TIGHTER),
    ("11 bits: 3.0 GiB, plain, two yield", Arrangement(residents=2, yielding=2, lends_ring=True), TIGHTER),
)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print("| arrangement | 4 forwards, 1 in flight | 8, 1 | 4, 4 | 8, 4 |\n|---|---|---|---|---|")
    for name, arrangement, machine in CASES:
        alone = [simulate(arrangement, 1, forwards, machine).seconds for forwards in (4, 8)]
        company = [simulate(arrangement, 4, forwards, machine).images_per_s for forwards in (4, 8)]
        cells = [f"{seconds:.3f} s" for seconds in alone] + [f"{rate:.2f}/s" for rate in company]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
