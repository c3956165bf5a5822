"""Weights are packed where the bus time saved is more than the device time of unpacking, measured on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.unit.offload.tiny import z_image
from worker.offload import drop_stores, host_memory, packing_gain
from worker.offload.assembly import Assembly
from worker.offload.blocks import Pays
from worker.offload.device import Device
from worker.offload.host_weights import HOST_SLACK, SHARED_MEMORY, TooLittleMemory
from worker.offload.kernel_check import PackingChoice
from worker.offload.marks import Mark
from worker.offload.packing import Packed
from worker.offload.packing_gain import Rates, is_smaller, measure_rates
from worker.offload.stopwatch import Stopwatch
from worker.offload.strategies import find_strategy

UNPACKING = 3e11  # values per second, of an H200
COUNT = 1 << 20
USUAL = Packed(COUNT, COUNT // 4, 0)  # normally distributed weights
DENSE = Packed(COUNT, COUNT, COUNT // 50)  # weights that hardly pack


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking on the host takes its time."""
    monkeypatch.setattr(packing_gain, "VALUES", 1 << 16)
    monkeypatch.setattr(packing_gain, "DRAWN", 1 << 14)


class TimedCard(Device):
    """The host, taken for a card with such a bus and such a kernel."""

    def __init__(self, bus: float = 50e9, unpacking: float = UNPACKING) -> None:
        super().__init__(torch.device("cpu"))
        self._bus, self._unpacking = bus, unpacking
        self.trims = self.pinned = self.holds = 0

    @property
    def is_cuda(self) -> bool:
        return True

    def measure_bandwidth(self, source: torch.Tensor) -> float:
        assert self.pinned == 1
        return self._bus

    def pin(self, tensor: torch.Tensor) -> bool:
        self.pinned += 1
        return True

    def unpin(self, tensor: torch.Tensor) -> None:
        self.pinned -= 1

    def seconds_between(self, first: Mark, second: Mark) -> float:
        assert self.holds, "else the host's own time is measured"
        return packing_gain.RUNS * packing_gain.VALUES / self._unpacking

    def hold(self) -> None:
        self.holds += 1

    def trim(self) -> None:
        self.trims += 1


@pytest.mark.parametrize("gigabytes_per_second", [6, 12, 25, 55])
def test_over_pcie_usual_weights_are_packed(gigabytes_per_second: int) -> None:
    assert Rates(gigabytes_per_second * 1e9, UNPACKING).pays(USUAL, 2 * COUNT)


def test_over_a_bus_as_fast_as_the_kernel_they_travel_as_they_are() -> None:
    assert not Rates(400e9, UNPACKING).pays(USUAL, 2 * COUNT)


def test_on_one_machine_one_part_may_pay_and_another_not() -> None:
    rates = Rates(55e9, UNPACKING)

    assert rates.pays(USUAL, 2 * COUNT)
    assert is_smaller(DENSE, 2 * COUNT)
    assert not rates.pays(DENSE, 2 * COUNT)


def test_rates_are_measured_on_the_device_and_leave_nothing_behind() -> None:
    card = TimedCard(bus=25e9, unpacking=1e11)

    rates = measure_rates(card)

    assert (rates.bus_bytes_per_second, rates.unpacked_values_per_second) == (25e9, pytest.approx(1e11))
    assert (card.pinned, card.trims) == (0, 1)


@pytest.mark.parametrize(("bus", "packs"), [(50e9, True), (900e9, False)], ids=["PCIe", "as near as its own memory"])
def test_a_card_packs_what_its_bus_makes_worth_it(bus: float, packs: bool, tmp_path: Path) -> None:
    pipe, card = z_image(), TimedCard(bus)
    choice = PackingChoice(None, card, tmp_path)
    choice.settle([])
    assembly = Assembly(pipe, find_strategy(pipe), card)

    assembly.fill_host(choice.is_on, "", "", Stopwatch(), choice.pays)

    assert any(block.packed is not None for block in assembly.blocks) == packs
    carried = sum(block.carried_bytes for block in assembly.blocks)
    assert (carried < sum(block.raw_bytes for block in assembly.blocks)) == packs


def test_a_card_on_which_packing_does_not_pay_is_refused_where_the_weights_do_not_fit_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, card = z_image(), TimedCard(bus=900e9)
    assembly = Assembly(pipe, find_strategy(pipe), card)
    raw = sum(block.raw_bytes for block in assembly.blocks)
    choice = PackingChoice(None, card, tmp_path)
    monkeypatch.setattr(host_memory, "available_bytes", lambda: HOST_SLACK + raw - 1)

    with pytest.raises(TooLittleMemory, match="give the worker more memory"):
        assembly.fill_host(choice.is_on, "", "", Stopwatch(), choice.pays)

    assert assembly.host is None
    assert all(block.host is None for block in assembly.blocks)


def test_who_wishes_packing_or_none_has_nothing_measured(tmp_path: Path) -> None:
    for wish in (True, False):
        assert PackingChoice(wish, TimedCard(), tmp_path).pays() is is_smaller


@pytest.fixture
def _shared_memory() -> Iterator[None]:
    yield
    drop_stores(SHARED_MEMORY)


@pytest.mark.usefixtures("_shared_memory")
def test_weights_that_are_packed_already_are_not_measured_for(tmp_path: Path) -> None:
    pipe, measured = z_image(), []
    choice = PackingChoice(None, TimedCard(), tmp_path)
    identity, cache = f"test {tmp_path}", tmp_path / "packed"

    def measure() -> Pays:
        measured.append(1)
        return choice.pays()

    for _ in range(2):
        assembly = Assembly(pipe, find_strategy(pipe), TimedCard())
        assembly.fill_host(True, identity, cache, Stopwatch(), measure)
        pipe = z_image()
        assert assembly.host is not None
        assembly.host.close()

    assert len(measured) == 1
