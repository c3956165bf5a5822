"""Riders beyond the places wait in host memory: same pixels, same weight traffic, and who makes room for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from greenlet import getcurrent, greenlet

from tests.unit.offload.conftest import Studio, same
from tests.unit.offload.tiny import FAMILIES
from worker.offload import TicketCanceled
from worker.offload.device import Device
from worker.offload.marks import Mark
from worker.offload.parking import Lot, Parked, addresses_of, storages_of

CARRIED = {"residents": 1, "ring_slots": 2, "packing": True, "poison": True}


class Guest(greenlet):  # type: ignore[misc]
    """A rider that holds one state and nothing else."""

    def __init__(self, value: float) -> None:
        super().__init__(self.live)
        self.value = value
        self.parked: Parked | None = None
        self.state: list[torch.UntypedStorage] | None = None
        self.arriving: Mark | None = None
        self.left = Mark()
        self.rode = self.waited = 0
        self.given: frozenset[int] = frozenset()
        self.sums: list[float] = []

    @property
    def frame(self) -> object:
        return self.gr_frame

    def live(self) -> None:
        state = torch.full((1000,), self.value)
        nested = {"deep": [state * 2]}
        while True:
            getcurrent().parent.switch()
            self.sums.append(float(state.sum() + nested["deep"][0].sum()))


def guests(count: int) -> list[Guest]:
    made = [Guest(float(at + 1)) for at in range(count)]
    for guest in made:
        guest.switch()
    return made


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_states_than_places_lie_on_the_card_and_each_comes_back_whole(places: int) -> None:
    lot, everybody = Lot(Device(torch.device("cpu")), places, 1 << 20, smallest=1000), guests(6)
    for _ in range(3):
        for guest, following in zip(everybody, [*everybody[1:], None], strict=True):
            lot.seat(guest, following, everybody)
            assert sum(bool(storages_of(one.gr_frame)) for one in everybody) <= places
            guest.switch()
    assert [guest.sums for guest in everybody] == [[3000.0 * (at + 1)] * 3 for at in range(6)]


def test_a_sweep_there_and_back_moves_only_those_who_have_no_place() -> None:
    device = Device(torch.device("cpu"))
    lot, everybody = Lot(device, 3, 1 << 20, smallest=1000), guests(5)
    moved = []
    for _ in range(4):
        before = device.state_bytes
        order = lot.order(everybody)
        for guest, following in zip(order, [*order[1:], None], strict=True):
            lot.seat(guest, following, everybody)
        moved.append(device.state_bytes - before)
    assert moved[1:] == [2 * 2 * 8000] * 3, "two out and two in, of two tensors of 4000 bytes"


def test_frames_are_looked_through_once_a_stop_and_hold_nothing_of_one_who_rides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[object] = []
    monkeypatch.setattr(
        "worker.offload.parking.storages_of",
        lambda frame: looks.append(frame) or storages_of(frame),  # type: ignore[func-returns-value]
    )
    lot, everybody = Lot(Device(torch.device("cpu")), 2, 1 << 20, smallest=1000), guests(5)
    for _ in range(4):
        for guest, following in zip(everybody, [*everybody[1:], None], strict=True):
            lot.seat(guest, following, everybody)
            assert guest.state is None, "else what it lets go of would stay"
            guest.switch()
    assert len(looks) <= len(everybody) * (4 + 1), "each stood still five times"
    for guest in everybody:
        lot.forget(guest)
        assert guest.state is None
    assert [guest.sums for guest in everybody] == [[3000.0 * (at + 1)] * 4 for at in range(5)]


def test_a_lot_that_is_full_leaves_the_state_on_the_card() -> None:
    lot, everybody = Lot(Device(torch.device("cpu")), 1, 9_000, smallest=1000), guests(3)
    for guest in everybody * 2:
        lot.seat(guest, None, everybody)
        guest.switch()
    assert [guest.sums for guest in everybody] == [[3000.0 * (at + 1)] * 2 for at in range(3)]


def test_who_leaves_while_parked_frees_its_space() -> None:
    made = guests(3)
    lot = Lot(Device(torch.device("cpu")), 1, 1 << 20, smallest=1)
    for guest in made:
        lot.seat(guest, None, made)
    parked = [guest for guest in made if guest.parked is not None]
    assert len(parked) == 2
    assert lot.is_used

    for guest in made:
        lot.forget(guest)

    assert not lot.is_used
    assert all(guest.parked is None for guest in made)


def test_what_modules_keep_is_nobodys_state() -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cache = {"table": torch.ones(5000)}
            self.weight = torch.nn.Parameter(torch.ones(5000))

        def forward(self) -> None:
            table, weight, own = self.cache["table"], self.weight.data, torch.ones(7000)
            getcurrent().parent.switch()
            del table, weight, own

    layer = Layer()
    rider = greenlet(layer.forward)
    rider.switch()
    assert [storage.nbytes() for storage in storages_of(rider.gr_frame)] == [28_000]


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_parked_riders_are_the_plain_pipelines(open_studio: Callable[..., Studio], family: str) -> None:
    studio = open_studio(family, **CARRIED, seats=4, places=1)
    wishes = [
        {"prompt": "a mug", "seed": 1, "steps": 2},
        {"prompt": "a lamp", "seed": 2, "steps": 1, "height": 96, "width": 64},
        {"prompt": "a mug", "seed": 3, "steps": 2},
    ]
    tickets = [studio.draw(**wish) for wish in wishes]
    for ticket, wish in zip(tickets, wishes, strict=True):
        assert same(ticket.result(60), studio.plain(**wish)), wish
    assert studio.carousel.report["parkings"] > 5


def test_parking_carries_no_weight_twice(open_studio: Callable[..., Studio]) -> None:
    carried = []
    for places in (4, 1):
        studio = open_studio(**CARRIED, seats=4, places=places)
        for ticket in [studio.draw(seed=seed, prompt=f"{seed}", steps=3) for seed in range(4)]:
            ticket.result(60)
        carried.append(studio.carousel.report["fetched_bytes"])
        studio.carousel.close()
    assert abs(carried[0] - carried[1]) < 0.1 * carried[0], "but for who met whom in which sweep"


def test_cancelling_a_parked_ride_frees_its_space(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**CARRIED, seats=3, places=1)
    for seed in range(20):
        reached = threading.Event()
        long = [studio.draw(seed=seed, steps=300, on_step=lambda *_: reached.set()) for _ in range(2)]  # noqa: B023
        assert reached.wait(30)
        for ticket in long:
            ticket.cancel()
            with pytest.raises(TicketCanceled):
                ticket.result(60)
    assert not studio.carousel._engine._placement.lot.is_used  # type: ignore[union-attr]
    assert same(studio.draw(seed=4).result(60), studio.plain(seed=4))


def test_interactive_tickets_take_the_places_of_batch_tickets(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**CARRIED, seats=2, places=2)
    reached = threading.Event()
    batch = [studio.draw(seed=seed, steps=200, lane="batch", on_step=lambda *_: reached.set()) for seed in range(2)]
    assert reached.wait(30)
    quick = [studio.draw(seed=seed, steps=2) for seed in (7, 8)]
    for seed, ticket in zip((7, 8), quick, strict=True):
        assert same(ticket.result(60), studio.plain(seed=seed, steps=2))
    assert not any(ticket.done() for ticket in batch), "they came first, and wait"
    assert studio.carousel.report["parkings"] > 0
    for ticket in batch:
        ticket.cancel()


def test_a_tensor_of_two_riders_is_emptied_for_neither_of_them() -> None:
    """Whoever was parked first no longer counted, so the other one's parking took what both look at."""
    shared = torch.ones(1000)

    def live(guest: Guest) -> None:
        mine, own = shared, torch.full((1000,), guest.value)
        while True:
            getcurrent().parent.switch()
            guest.sums.append(float(mine.sum() + own.sum()))

    made = [Guest(float(at)) for at in range(3)]
    for guest in made:
        guest.run = lambda guest=guest: live(guest)
        guest.switch()
    lot = Lot(Device(torch.device("cpu")), 1, 1 << 20, smallest=1000)
    for guest in made * 2:
        lot.seat(guest, None, made)
        assert shared.untyped_storage().nbytes() == 4000
        guest.switch()
    assert [guest.sums for guest in made] == [[1000.0 * (1 + at)] * 2 for at in range(3)]
    assert lot.parkings > 0


def test_what_the_caller_gave_stays_the_callers(open_studio: Callable[..., Studio]) -> None:
    made = torch.Generator().manual_seed(0)
    studio = open_studio("flux", residents=1, ring_slots=2, seats=4, places=1)
    embeds, pooled = (torch.randn(*shape, generator=made).to(torch.bfloat16) for shape in ((1, 48, 32), (1, 32)))
    before = embeds.clone()
    order = {"prompt": None, "height": 64, "width": 64, "guidance_scale": 1.0, "pooled_prompt_embeds": pooled}

    tickets = [studio.carousel.submit(seed=7, steps=3, prompt_embeds=embeds, **order) for _ in range(4)]

    pictures = {ticket.result(60).tobytes() for ticket in tickets}
    assert len(pictures) == 1
    assert studio.carousel.report["parkings"] > 0
    assert torch.equal(embeds, before)


def test_who_goes_home_while_parked_may_look_at_its_state_once_more() -> None:
    """A pipeline's own `finally` that read its tensors read memory that was nobody's: the process died."""

    def live(guest: Guest) -> None:
        state = torch.full((1000,), guest.value)
        try:
            getcurrent().parent.switch()
        finally:
            guest.sums.append(float(state.sum()))

    made = [Guest(float(at + 1)) for at in range(2)]
    for guest in made:
        guest.run = lambda guest=guest: live(guest)
        guest.switch()
    lot = Lot(Device(torch.device("cpu")), 1, 1 << 20, smallest=1000)
    for guest in made:
        lot.seat(guest, None, made)
    assert made[0].parked is not None

    lot.forget(made[0], made)
    with pytest.raises(TicketCanceled):
        made[0].throw(TicketCanceled("planted"))

    assert made[0].sums == [1000.0]
    lot.forget(made[1], made)
    assert not lot.is_used


def test_what_has_no_storage_is_nobodys_state() -> None:
    """A sparse tensor in one pipeline's frame ended the carousel for all."""

    def live(guest: Guest) -> None:
        adjacency, dense = torch.eye(40).to_sparse(), torch.ones(1000)
        nowhere = torch.ones(1000, device="meta")
        getcurrent().parent.switch()
        guest.sums.append(float(adjacency.sum() + dense.sum()) + nowhere.numel())

    guest = Guest(0.0)
    guest.run = lambda: live(guest)
    guest.switch()
    assert [storage.nbytes() for storage in storages_of(guest.gr_frame)] == [4000]


def test_who_goes_home_frees_its_space_though_its_state_can_not_be_brought_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, made = Device(torch.device("cpu")), guests(2)
    lot = Lot(device, 1, 1 << 20, smallest=1000)
    for guest in made:
        lot.seat(guest, None, made)
    assert lot.is_used

    def refuse(*_: object) -> Mark:
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")

    monkeypatch.setattr(lot, "_make_room", refuse)
    lot.forget(made[0], made)

    assert made[0].parked is None
    assert not lot.is_used


def test_what_the_caller_gave_is_not_moved_while_its_rider_is_parked() -> None:
    """Whoever looks at the own tensor meanwhile would read memory that is nobody's."""
    given = torch.ones(1000)

    def live(guest: Guest) -> None:
        mine, own = given, torch.full((1000,), 2.0)
        getcurrent().parent.switch()
        guest.sums.append(float(mine.sum() + own.sum()))

    made = guests(2)
    made[0] = Guest(0.0)
    made[0].given = frozenset(addresses_of([{"embeds": [given]}]))
    made[0].run = lambda: live(made[0])
    made[0].switch()
    lot = Lot(Device(torch.device("cpu")), 1, 1 << 20, smallest=1000)
    for guest in made:
        lot.seat(guest, None, made)

    assert made[0].parked is not None
    assert [here.numel() for here, _ in made[0].parked.state] == [4000], "its own alone"
    assert float(given.sum()) == 1000.0
