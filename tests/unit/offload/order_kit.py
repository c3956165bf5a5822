"""A CPU that knows a card's streams: it computes at once, and remembers who has waited for whom.

Each stream counts its work (the one that carries finished pictures out is left out: its sources live until they are
there). A mark is what its stream knew of all streams when it was made, and who waits for it knows that too (vector
clocks: Fidge 1988, Mattern 1989). Two accesses to the same bytes, one of them a write, must be ordered so; where they
are only ordered by luck, a card may mix them up one day, and `races` names them.
"""

from __future__ import annotations

import itertools
import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from worker.offload import packing
from worker.offload.device import Device, State
from worker.offload.marks import Mark
from worker.offload.parking import Lot, storages_of
from worker.offload.rider import Rider
from worker.offload.weights import Weights

STREAMS = COMPUTE, CARRY_IN, STATES_OUT, STATES_IN = "compute", "carry_in", "states_out", "states_in"
Clock = dict[str, int]


@dataclass(frozen=True, slots=True)
class Access:
    """Of the bytes from `start` to `end`, by the work number `count` of a stream."""

    start: int
    end: int
    stream: str
    count: int
    writes: bool
    what: str


class StreamsKnown(Device):
    """The CPU flavour with the streams of the CUDA one."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self._known: dict[str, Clock] = defaultdict(lambda: defaultdict(int))
        self._accesses: list[Access] = []
        self.races: list[str] = []
        self.compared = 0

    def fetch(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        self._learn(CARRY_IN, after)
        self._touch(CARRY_IN, "a copy of weights", writes=target)
        super().fetch(target, source, after)
        return self._mark(CARRY_IN)

    def join(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> None:
        self._learn(CARRY_IN, after)
        self._touch(CARRY_IN, "a head's copy", writes=target, reads=source)
        super().join(target, source, after)

    def _move_state(self, state: State, after: tuple[Mark, ...], *, is_out: bool) -> Mark:
        stream = STATES_OUT if is_out else STATES_IN
        for mark in after:
            self._learn(stream, mark)
        for here, there in state:
            source, target = (here, there) if is_out else (there, here)
            self._touch(stream, "a state's copy", writes=target, reads=source)
        super()._move_state(state, after, is_out=is_out)
        return self._mark(stream)

    def mark(self) -> Mark:
        return self._mark(COMPUTE)

    def wait(self, mark: Mark) -> None:
        self._learn(COMPUTE, mark)

    def _own_unpack(self, source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:  # type: ignore[override]
        self._touch(COMPUTE, "unpacking", writes=target, reads=source)
        packing.decode(source, packed, target)

    def synchronize(self) -> None:
        """The host has waited for all: whatever it asks for next comes after."""
        for stream, other in itertools.product(STREAMS, STREAMS):
            self._learn(stream, self._mark(other))

    def count(self) -> int:
        """The number of the compute stream's next work."""
        self._known[COMPUTE][COMPUTE] += 1
        return self._known[COMPUTE][COMPUTE]

    def compute(self, what: str, start: int, nbytes: int, count: int = 0, writes: bool = True) -> None:
        """The compute stream's next work, or the one with that `count`, uses these bytes."""
        self._compare(Access(start, start + nbytes, COMPUTE, count or self.count(), writes, what))

    def _mark(self, stream: str) -> Mark:
        return Clocked(dict(self._known[stream]))

    def _learn(self, stream: str, mark: Mark) -> None:
        for other, count in getattr(mark, "clock", {}).items():
            self._known[stream][other] = max(self._known[stream][other], count)

    def _touch(self, stream: str, what: str, writes: torch.Tensor, reads: torch.Tensor | None = None) -> None:
        self._known[stream][stream] += 1
        count = self._known[stream][stream]
        for tensor, is_write in ((writes, True), (reads, False)):
            if tensor is not None and tensor.numel():
                start = tensor.data_ptr()
                end = start + tensor.numel() * tensor.element_size()
                self._compare(Access(start, end, stream, count, is_write, what))

    def _compare(self, now: Access) -> None:
        rest = []
        for one in self._accesses:
            if one.start >= now.end or one.end <= now.start:
                rest.append(one)
                continue
            self.compared += 1
            is_ordered = one.count <= self._known[now.stream][one.stream]
            if not is_ordered and (one.writes or now.writes):
                self.races.append(f"{now.what} ({now.stream}) does not wait for {one.what} ({one.stream})")
            if not (now.writes and now.start <= one.start and one.end <= now.end):
                rest.append(one)  # else whoever is ordered behind this one is behind that one too
        self._accesses = [*rest, now]


class Clocked(Mark):
    """A mark with what its stream knew."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock


def watched_device(monkeypatch: pytest.MonkeyPatch) -> StreamsKnown:
    """One that knows whose states a ride uses, and that what is lent, taken back or freed is anybody's."""
    device = StreamsKnown()
    watch_rides(monkeypatch, device)
    watch_parking(monkeypatch, device)
    watch_weights(monkeypatch, device)
    return device


def watch_rides(monkeypatch: pytest.MonkeyPatch, device: StreamsKnown) -> None:
    """Tell what of a rider's state its rides use; what it shares with others they only read."""
    ride, seat = Rider.ride, Lot.seat
    riders_known: weakref.WeakSet[Any] = weakref.WeakSet()

    def tell(rider: Any, what: str) -> None:
        others = [other for other in riders_known if other is not rider and not other.dead]
        shared = {storage.data_ptr() for other in others for storage in storages_of(other.frame)}
        for storage in storages_of(rider.frame):
            is_own = storage.data_ptr() not in shared
            device.compute(what, storage.data_ptr(), storage.nbytes(), writes=is_own)

    def ride_and_tell(rider: Any, *error: Any) -> Any:
        riders_known.add(rider)
        picture = ride(rider, *error)
        if not rider.dead:
            tell(rider, "a ride's end")
        return picture

    def seat_and_tell(lot: Any, rider: Any, following: Any, riders: Any) -> None:
        seat(lot, rider, following, riders)
        tell(rider, "a ride's begin")

    monkeypatch.setattr(Rider, "ride", ride_and_tell)
    monkeypatch.setattr(Lot, "seat", seat_and_tell)


def watch_parking(monkeypatch: pytest.MonkeyPatch, device: StreamsKnown) -> None:
    """Tell that a parked state's memory on the card is anybody's."""
    park = Lot._park

    def park_and_tell(lot: Any, rider: Any, riders: Any) -> None:
        held = [(storage, storage.data_ptr(), storage.nbytes()) for storage in lot._state(rider)]
        park(lot, rider, riders)
        for storage, start, nbytes in held:
            if not storage.nbytes():
                device.compute("whoever gets a parked state's memory", start, nbytes)

    monkeypatch.setattr(Lot, "_park", park_and_tell)


def watch_weights(monkeypatch: pytest.MonkeyPatch, device: StreamsKnown) -> None:
    """Tell that the memory of weights is anybody's while it is lent, and once it is dropped."""
    lend, retake, drop = Weights.lend, Weights.retake, Weights.drop

    def lend_and_tell(weights: Any) -> None:
        lent = weights._lent
        start, nbytes = (0, 0) if lent is None else (lent.data_ptr(), lent.untyped_storage().nbytes())
        lend(weights)
        if nbytes and weights._is_lent:
            device.compute("the decode in lent memory", start, nbytes)

    def retake_and_tell(weights: Any) -> None:
        was_lent, before = weights._is_lent, device.count()
        retake(weights)
        if was_lent:  # the allocator's, in the compute stream's order, until then
            lent = weights._lent
            device.compute("who had the memory before", lent.data_ptr(), lent.numel(), before)

    def drop_and_tell(weights: Any) -> None:
        held = [(whole.data_ptr(), whole.numel()) for whole in (weights._kept, weights._lent) if whole is not None]
        is_there = not weights._is_lent
        drop(weights)
        for start, nbytes in held if is_there else ():
            device.compute("whoever gets the memory of weights", start, nbytes)

    monkeypatch.setattr(Weights, "lend", lend_and_tell)
    monkeypatch.setattr(Weights, "retake", retake_and_tell)
    monkeypatch.setattr(Weights, "drop", drop_and_tell)
