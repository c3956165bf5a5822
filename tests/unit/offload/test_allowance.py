"""The allocator's limit: what the budget leaves it, taken at once, lifted while plans are tried out and at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB, Card
from tests.unit.offload.conftest import family_pipeline
from worker.offload import ImpossibleBudget, allowance
from worker.offload.apart import Pool
from worker.offload.assembly import Assembly
from worker.offload.device import Device
from worker.offload.engine import Engine
from worker.offload.placement import Placement
from worker.offload.plan import Plan

MIB = 1 << 20
BESIDE = 700 * MIB


class Allocator(Device):
    """A card whose allocator holds some memory, part of it in gaps, and takes from the card in pieces."""

    def __init__(self, held: int, gaps: list[int], *, small_gaps: tuple[int, ...] = (), room: int = 1 << 40) -> None:
        super().__init__(torch.device("cpu"))
        self.held, self.gaps, self.small_gaps, self.room = held, gaps, list(small_gaps), room
        self.limit: int | None = None
        self.asked: list[int] = []
        self.trims = 0
        self.pool_has, self._is_inside = 0, False

    @property
    def tells_memory(self) -> bool:
        return True

    def empty(self, nbytes: int) -> torch.Tensor:
        if self._is_inside:
            self._take_in_pool(nbytes)
            return torch.empty(nbytes, dtype=torch.uint8, device="meta")
        gaps = self.small_gaps if nbytes <= allowance.SMALL else self.gaps
        gap = min((size for size in gaps if size >= nbytes), default=0)
        if gap:
            gaps.remove(gap)
            gaps.append(gap - nbytes)
        else:
            if nbytes > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory (planted)")
            self.asked.append(nbytes)
            piece = 2 * MIB if nbytes <= allowance.SMALL else allowance.PIECE
            taken = -(-nbytes // piece) * piece
            self.held += taken
            gaps.append(taken - nbytes)
        return torch.empty(nbytes, dtype=torch.uint8, device="meta")

    def new_pool(self, free: int = 0, *, grows: bool = True) -> Pool:
        """One that has so much free in one piece, and grows to what is asked of it, or takes that much more."""
        self.pool_has, self._grows = free, grows

        @contextmanager
        def inside() -> Iterator[None]:
            self._is_inside = True
            try:
                yield
            finally:
                self._is_inside = False

        return inside

    def _take_in_pool(self, nbytes: int) -> None:
        if nbytes <= self.pool_has:
            return
        pieces = -(-(nbytes - (self.pool_has if self._grows else 0)) // allowance.PIECE)
        if self.limit is not None and self.held + pieces * allowance.PIECE > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        self.pool_has = max(self.pool_has, nbytes)
        self.held += pieces * allowance.PIECE

    def reserved_bytes(self) -> int:
        return self.held

    def trim(self) -> None:
        self.trims += 1

    def process_bytes(self) -> int:
        return self.held + BESIDE

    def limit_reserved(self, nbytes: int | None) -> None:
        self.limit = nbytes


def test_what_the_budget_leaves_is_taken_at_once_and_is_the_limit() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.grant(device, 1900 * MIB)
    left = 1900 * MIB - BESIDE - allowance.LATER_KERNELS
    assert left - allowance.PIECE < device.held <= left
    assert device.limit == device.held, "nothing more is ever taken"


def test_gaps_are_filled_before_the_card_is_asked_so_that_all_of_it_is_taken() -> None:
    gaps = [900 * MIB, 150 * MIB, 30 * MIB]
    device = Allocator(held=1000 * MIB, gaps=list(gaps))
    allowance.grant(device, 1900 * MIB)
    assert device.held > 1900 * MIB - BESIDE - allowance.LATER_KERNELS - allowance.PIECE


@pytest.mark.parametrize("free", [0, 30 * MIB, 100 * MIB])
def test_small_tensors_have_room_beyond_what_the_house_took_whatever_of_it_is_free(free: int) -> None:
    """At the limit a page more for them made the allocator give back all gaps (H200)."""
    device = Allocator(held=1000 * MIB, gaps=[], small_gaps=(free,))
    allowance.grant(device, 1900 * MIB)
    asked = sum(nbytes <= allowance.SMALL for nbytes in device.asked) * 2 * MIB
    assert allowance.SMALL_AHEAD - 2 * MIB <= asked <= allowance.SMALL_AHEAD


def test_where_small_tensors_have_gaps_in_plenty_nothing_is_taken_for_them() -> None:
    device = Allocator(held=1000 * MIB, gaps=[], small_gaps=(allowance.GAPS_ENOUGH * MIB,))
    allowance.grant(device, 1900 * MIB)
    assert all(nbytes > allowance.SMALL for nbytes in device.asked)


def test_small_tensors_take_no_more_than_half_of_what_is_left() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.grant(device, 1000 * MIB + BESIDE + allowance.LATER_KERNELS + 24 * MIB)
    assert sum(nbytes <= allowance.SMALL for nbytes in device.asked) * 2 * MIB <= 12 * MIB


def test_the_record_of_the_most_memory_is_what_the_budget_leaves() -> None:
    """Else torch copies what timed kernels write to the host: 640 MiB of it in a first start (H200)."""
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.note_peak(device, 3000 * MIB)
    assert 1000 * MIB + device.asked[0] == 3000 * MIB - BESIDE - allowance.LATER_KERNELS
    assert device.process_bytes() <= 3000 * MIB
    assert device.trims == 2, "gaps are no part of it, and none of it is kept"


def test_in_a_large_budget_the_record_is_no_more_than_copies_take() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.note_peak(device, 1 << 40)
    assert device.asked == [allowance.COPIES]


def test_where_others_have_filled_the_card_the_record_stays() -> None:
    device = Allocator(held=1000 * MIB, gaps=[], room=MIB)
    allowance.note_peak(device, 3000 * MIB)
    assert device.trims == 2


def test_a_budget_far_above_what_is_used_is_a_limit_and_is_not_taken() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.grant(device, 9000 * MIB)
    assert device.held <= 1000 * MIB + allowance.AHEAD
    assert device.limit == 9000 * MIB - BESIDE - allowance.LATER_KERNELS


def test_where_others_have_filled_the_card_the_limit_is_what_there_is() -> None:
    device = Allocator(held=1000 * MIB, gaps=[], room=allowance.SMALL)
    allowance.grant(device, 1900 * MIB)
    assert device.limit is not None
    assert device.held <= device.limit <= 1900 * MIB - BESIDE - allowance.LATER_KERNELS


def test_a_start_that_rides_nothing_first_leaves_what_an_earlier_one_held_beside_the_allocator() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.hold(device, 3000 * MIB, outside=BESIDE + 90 * MIB)
    assert device.limit == 3000 * MIB - BESIDE - 90 * MIB - allowance.LATER_KERNELS
    allowance.hold(device, 3000 * MIB, outside=BESIDE - 90 * MIB)
    assert device.limit == 3000 * MIB - BESIDE - allowance.LATER_KERNELS, "more lies there than then"


def test_its_pool_has_the_room_that_it_had_then_before_the_limit_stands() -> None:
    """A decode's 512 MiB were refused where 461 of them were free: all of a request counts (H200)."""
    device = Allocator(held=1000 * MIB, gaps=[])
    pool = device.new_pool(350 * MIB)
    allowance.hold(device, 1400 * MIB + BESIDE, BESIDE, pool, 700 * MIB)
    assert device.pool_has == 700 * MIB


def test_a_pool_that_can_not_grow_in_one_piece_keeps_the_budget_too() -> None:
    device = Allocator(held=3000 * MIB, gaps=[])
    allowance.grant(device, 4000 * MIB, device.new_pool(1500 * MIB, grows=False))
    assert device.process_bytes() <= 4000 * MIB - allowance.LATER_KERNELS


@pytest.mark.parametrize("has", [0, 350 * MIB, 2000 * MIB])
def test_a_pool_is_given_more_in_one_piece_than_it_has_and_all_else_the_rest(has: int) -> None:
    device = Allocator(held=3000 * MIB, gaps=[])
    pool = device.new_pool(has)
    allowance.grant(device, 3900 * MIB, pool)
    left = 3900 * MIB - BESIDE - allowance.LATER_KERNELS
    assert has < device.pool_has <= has + allowance.WIDER
    assert left - allowance.PIECE < device.held <= left
    assert device.limit == device.held


def test_a_pool_is_given_no_more_than_the_budget_leaves() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    pool = device.new_pool(350 * MIB)
    allowance.grant(device, 1000 * MIB + BESIDE + allowance.LATER_KERNELS + 25 * MIB, pool)
    has = device.pool_has
    assert 350 * MIB < has <= 350 * MIB + allowance.PIECE
    allowance.grant(device, device.process_bytes(), pool)
    assert device.pool_has == has


def test_a_budget_that_is_used_up_takes_nothing_and_gives_nothing_back() -> None:
    device = Allocator(held=1000 * MIB, gaps=[])
    allowance.grant(device, 1000 * MIB + BESIDE)
    assert device.asked == []
    assert device.limit == device.held


def test_the_limit_stands_while_jobs_ride_and_not_while_plans_are_tried_or_weights_go_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []

    class Limited(Card):
        def limit_reserved(self, nbytes: int | None) -> None:
            what = "lift" if nbytes is None else "limit"
            happened.extend([what] if happened[-1:] != [what] else [])

    place, put_together = Placement._place, Assembly.put_together

    def noting_place(self: Placement, plan: Plan) -> None:
        if happened[-1:] != ["plan"]:
            happened.append("plan")
        place(self, plan)

    def noting_end(self: Assembly, *, weights_in_place: bool) -> None:
        happened.append("home")
        put_together(self, weights_in_place)

    monkeypatch.setattr(Placement, "_place", noting_place)
    monkeypatch.setattr(Assembly, "put_together", noting_end)
    monkeypatch.setattr("worker.offload.allowance.GROWTH", 0)
    monkeypatch.setattr("worker.offload.allowance.SPARE", KIB)
    engine = Engine(family_pipeline("z-image"), 500 * KIB, Limited(lambda: 0), dataclasses.replace(CARRIED))
    engine.start()
    try:
        assert happened == ["plan", "limit"]
        engine.rebudget(700 * KIB, 60)
        assert happened == ["plan", "limit", "lift", "plan", "limit"]
        with pytest.raises(ImpossibleBudget):
            engine.rebudget(1 * KIB, 60)
        assert happened[5:] == ["lift", "limit"], "the old plan stands, and so does its limit"
    finally:
        engine.stop(60)
    assert happened[7:] == ["lift", "home"]
