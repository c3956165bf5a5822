"""Parking: riders beyond the places on the card wait with their hidden states in pinned host memory.

A rider's state is what the frames of its suspended pipeline hold: large floating-point tensors that are nobody else's.
Their storages are copied out and emptied, and later filled again where the tensors still look. Copies run on streams of
their own beside others' rides; the compute stream waits for them, the host never.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from worker.offload.device import Device
from worker.offload.marks import Mark
from worker.offload.plan import Plan

ALIGNMENT = 512
#: Smaller storages stay on the card: moving them costs more than it frees.
SMALLEST = 1 << 20
#: Host memory for parked states where nothing was measured.
SMALLEST_LOT = 4 << 20


@dataclass(slots=True)
class Parked:
    """The emptied storages of a rider's state, as bytes, each with its place in host memory."""

    state: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


class Parking(Protocol):
    """What the lot needs of a rider."""

    parked: Parked | None
    state: list[torch.UntypedStorage] | None
    arriving: Mark | None
    left: Mark
    rode: int
    waited: int
    given: frozenset[int]

    @property
    def frame(self) -> FrameType | None: ...


class Lot:
    """`places` riders' states lie on the card, those of others in `nbytes` of pinned host memory made once."""

    def __init__(self, device: Device, places: int, nbytes: int, smallest: int | None = None) -> None:
        self._device, self.places = device, places
        self._smallest = SMALLEST if smallest is None else smallest
        self._host = device.pinned_room(nbytes)
        self.shared: frozenset[int] = frozenset()  # addresses of the pipeline's own weights and buffers
        self._taken: list[tuple[int, int]] = []
        self._last_recall = Mark()
        self._rides = 0
        self.parkings = 0

    @property
    def nbytes(self) -> int:
        return self._host.numel()

    @property
    def is_used(self) -> bool:
        """Somebody's state is parked here."""
        return bool(self._taken)

    def order(self, group: Sequence[Any]) -> list[Any]:
        """Those who rode last ride first: they are still on the card, so a sweep moves as few states as it can."""
        if all(rider.parked is None for rider in group):
            return list(group)
        return sorted(group, key=lambda rider: (rider.parked is not None, -rider.rode))

    def seat(self, rider: Parking, following: Parking | None, riders: Sequence[Parking]) -> None:
        """Have `rider`'s state on the card for work put into the compute stream from now on; start the next one's."""
        self._recall(rider, riders, (rider,))
        if following is not None and self.places > 1:
            self._recall(following, riders, (rider, following))
        self._arrive(rider)
        rider.state = None  # what it lets go of while it rides must be free
        self._rides += 1
        rider.rode = self._rides

    def forget(self, rider: Parking, riders: Sequence[Parking] = ()) -> None:
        """The rider goes home: its space is free, and no copy writes into its memory any more.

        Its state is on the card again where there is room: what its pipeline does at its end may look at it.
        """
        parked = rider.parked
        with contextlib.suppress(Exception):  # a card without memory, or a lost one
            self._recall(rider, riders, (rider,))
        self._arrive(rider)
        rider.state = None
        if parked is not None:
            self._release(parked)
            rider.parked = None

    def close(self) -> None:
        self._device.unpin(self._host)
        self._host = torch.empty(0, dtype=torch.uint8)

    def _recall(self, rider: Parking, riders: Sequence[Parking], keep: tuple[Parking, ...]) -> None:
        """Start bringing a state back, when others have made room."""
        self._make_room(riders, keep, self.places - (rider.parked is not None))
        parked = rider.parked
        if parked is None:
            return
        try:
            for here, there in parked.state:
                here.untyped_storage().resize_(there.numel())
        except BaseException:  # no memory: the rider stays parked
            for here, _ in parked.state:
                here.untyped_storage().resize_(0)
            raise
        rider.parked = None
        if parked.state:
            rider.arriving = self._last_recall = self._device.recall(parked.state, self._device.mark())
        self._release(parked)

    def _make_room(self, riders: Sequence[Parking], keep: tuple[Parking, ...], places: int) -> None:
        """Park until at most `places` states lie on the card: first of those not in this turn, then by last ride."""
        on_card = [rider for rider in riders if rider.parked is None]
        movable = [rider for rider in on_card if not any(rider is kept for kept in keep)]
        movable.sort(key=lambda rider: (rider.waited == 0, rider.rode))
        for rider in movable[: max(len(on_card) - places, 0)]:
            self._park(rider, riders)

    def _park(self, rider: Parking, riders: Sequence[Parking]) -> None:
        """Copy a state out and free its memory for work put into the compute stream from now on."""
        if rider.arriving is not None:
            self._arrive(rider)
            rider.left = self._device.mark()
        others = {s.data_ptr() for r in riders if r is not rider for s in self._state(r)}
        rider.parked = Parked()
        for storage in self._state(rider):
            at = None if storage.data_ptr() in others else self._space(storage.nbytes())
            if at is not None:
                there = self._host[at : at + storage.nbytes()]
                rider.parked.state.append((_bytes_of(storage, self._device), there))
        if rider.parked.state:
            self._device.wait(self._device.stow(rider.parked.state, rider.left, self._last_recall))
            self.parkings += 1
        for here, _ in rider.parked.state:
            here.untyped_storage().resize_(0)

    def _state(self, rider: Parking) -> list[torch.UntypedStorage]:
        """What of a rider's state could be moved; its frames, which stand still, are looked through once a stop."""
        if rider.state is None:
            where = self._device.where.type
            rider.state = [
                storage
                for storage in storages_of(rider.frame)
                if storage.device.type == where
                and storage.resizable()
                and storage.nbytes() >= self._smallest
                and storage.data_ptr() not in self.shared
                and storage.data_ptr() not in rider.given
            ]
        return rider.state

    def _arrive(self, rider: Parking) -> None:
        if rider.arriving is not None:
            self._device.wait(rider.arriving)
            rider.arriving = None

    def _space(self, nbytes: int) -> int | None:
        """The first gap of host memory that is large enough, or None."""
        size, start = -(-nbytes // ALIGNMENT) * ALIGNMENT, 0
        for first, last in sorted(self._taken):
            if first - start >= size:
                break
            start = last
        if start + size > self._host.numel():
            return None
        self._taken.append((start, start + size))
        return start

    def _release(self, parked: Parked) -> None:
        starts = {there.storage_offset() for _, there in parked.state}
        self._taken = [span for span in self._taken if span[0] not in starts]


def storages_of(frame: FrameType | None) -> list[torch.UntypedStorage]:
    """Storages of floating-point tensors that a suspended pipeline's frames hold; its modules' own are left out."""
    found: dict[int, torch.UntypedStorage] = {}
    owned: set[int] = set()
    while frame is not None:
        names = frame.f_locals
        for value in list(names.values()):
            if isinstance(value, nn.Module):
                owned |= addresses_of(vars(value).values(), 2)
            for tensor in _tensors([value], 4):
                if isinstance(tensor, nn.Parameter):
                    owned.add(tensor.untyped_storage().data_ptr())
                elif tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta:
                    storage = tensor.untyped_storage()
                    found.setdefault(storage.data_ptr(), storage)
        if isinstance(names, dict):
            names.clear()  # before Python 3.13 it is a copy that the frame would keep, and its tensors with it
        frame = frame.f_back
    return [storage for at, storage in found.items() if at and at not in owned]


def addresses_of(values: Iterable[Any], depth: int = 4) -> set[int]:
    """Of the storages of tensors among `values` and inside their lists, tuples and dicts."""
    return {
        tensor.untyped_storage().data_ptr()
        for tensor in _tensors(values, depth)
        if tensor.layout is torch.strided and not tensor.is_meta
    }


def _tensors(values: Iterable[Any], depth: int) -> Iterator[torch.Tensor]:
    """Tensors among `values` and inside their lists, tuples and dicts."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif not depth or not isinstance(value, dict | list | tuple) or not value:
            continue
        elif isinstance(value, dict):
            yield from _tensors(list(value.values()), depth - 1)
        else:
            yield from _tensors(value, depth - 1)


def _bytes_of(storage: torch.UntypedStorage, device: Device) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=device.where).set_(storage)


def fitting_lot(device: Device, plan: Plan, lot: Lot | None) -> Lot:
    """A lot that holds what the plan parks: `lot` while it is large enough, or in use."""
    nbytes = max(plan.parked_bytes, SMALLEST_LOT)
    if lot is not None and (lot.nbytes >= nbytes or lot.is_used):
        return lot
    if lot is not None:
        lot.close()
    return Lot(device, plan.places, nbytes, None if device.is_cuda else 1)
