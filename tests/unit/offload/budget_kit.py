"""What tests of a budget share: a CPU that reads its memory as a card does, and an engine on it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import pytest
import torch

from tests.unit.offload.conftest import family_pipeline, plain_picture, same
from worker.offload import allowance, drop_stores
from worker.offload.carousel import Options
from worker.offload.device import Device
from worker.offload.engine import Engine
from worker.offload.ticket import Order, Ticket

KIB = 1 << 10
CARRIED = Options(device="cpu", ring_slots=2, packing=True)


class Card(Device):
    """The CPU as a card that reads its weights' bytes and what `unplanned` says beside them."""

    def __init__(self, unplanned: Callable[[], int]) -> None:
        super().__init__(torch.device("cpu"))
        self._unplanned = unplanned
        self._made: list[weakref.ref[torch.Tensor]] = []

    @property
    def tells_memory(self) -> bool:
        return True

    def empty(self, nbytes: int) -> torch.Tensor:
        tensor = super().empty(nbytes)
        self._made.append(weakref.ref(tensor))
        return tensor

    def process_bytes(self) -> int:
        alive = [made() for made in self._made]
        return self._unplanned() + sum(one.untyped_storage().nbytes() for one in alive if one is not None)


@pytest.fixture(name="open_engine")
def open_engine_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    monkeypatch.setattr(allowance, "GROWTH", 0)
    monkeypatch.setattr(allowance, "SPARE", KIB)
    monkeypatch.setattr(allowance, "GAPS", 0)
    opened: list[Engine] = []

    def opener(budget: int, unplanned: Callable[[], int], options: Options = CARRIED) -> Engine:
        opened.append(Engine(family_pipeline("z-image"), budget, Card(unplanned), options))
        opened[-1].start()
        return opened[-1]

    yield opener
    for engine in opened:
        engine.stop(60)
    drop_stores()


def draws(engine: Engine) -> bool:
    order = Order(prompt="a mug", height=64, width=64, seed=3, steps=2)
    image = engine.enter(Ticket(order)).result(60)
    return same(image, plain_picture("z-image", "a mug", 3, 2, 64, 64, 0.0))
