"""Packed weights are used only where the device's unpacking gives every bit back; else the same pictures unpacked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.offload.conftest import Studio, same
from worker.offload import packing
from worker.offload.device import Device, Unpack
from worker.offload.kernel_check import DeviceLost, KernelCheck, PackingChoice

CPU = torch.device("cpu")
COUNTS = (12_288, 12_288 + 512)
STREAMED = {"residents": 1, "ring_slots": 2, "packing": True, "poison": True}


def right(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    packing.decode(source, packed, target)


def without_escapes(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    known = target[packing.parts_of(source, packed).positions.long()].clone()
    right(source, packed, target)
    target[packing.parts_of(source, packed).positions.long()] = known


def one_bit_of_one_pattern(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    right(source, packed, target)
    target[target == 0x1234] = 0x1235


def whole_groups_only(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    whole = packed.count // packing.GROUP * packing.GROUP
    known = target[whole:].clone()
    right(source, packed, target)
    target[whole:] = known


def beyond_the_end(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    right(source, packed, target)
    target[packed.count : packed.groups * packing.GROUP] = 0


def last_of_sixteen_escapes_lost(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    right(source, packed, target)
    if packed.escapes == 16:
        target[int(packing.parts_of(source, packed).positions[-1])] = 0


def can_not_be_compiled(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    raise NotImplementedError("this architecture is not known to the compiler")


BROKEN: list[Unpack] = [
    without_escapes, one_bit_of_one_pattern, whole_groups_only, beyond_the_end, last_of_sixteen_escapes_lost,
    can_not_be_compiled,
]  # fmt: skip


@pytest.mark.parametrize("unpack", BROKEN)
def test_a_fault_in_unpacking_is_found(unpack: Unpack, tmp_path: Path) -> None:
    assert KernelCheck(Device(CPU, unpack), tmp_path).fault(COUNTS)


def test_the_last_groups_of_the_plans_own_blocks_are_tried(tmp_path: Path) -> None:
    def wrong_for_one_tail(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
        right(source, packed, target)
        if packed.count % packing.GROUP == 512:
            target[packed.count - 1] ^= 1

    check = KernelCheck(Device(CPU, wrong_for_one_tail), tmp_path)
    assert check.fault([12_288]) == ""
    assert check.fault(COUNTS) == "a last group of 512 values: 1 of 4608 values differ, the first at 4607"


def test_a_device_that_unpacks_rightly_goes_on_packing(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(**STREAMED, unpack=right)
    assert studio.carousel.plan.packing
    assert "packing: off" not in str(studio.carousel.plan)
    assert "weights: kernel check" in studio.carousel.report["start_seconds"]
    assert same(studio.draw().result(60), studio.plain())


@pytest.mark.parametrize("unpack", [without_escapes, can_not_be_compiled])
def test_a_device_that_unpacks_wrongly_draws_the_same_pictures_without_packing(
    open_studio: Callable[..., Studio], unpack: Unpack, caplog: pytest.LogCaptureFixture
) -> None:
    usual = open_studio(**STREAMED).carousel
    packed = usual.plan
    usual.close()
    studio = open_studio(**STREAMED, unpack=unpack)
    plan = studio.carousel.plan
    assert not plan.packing
    assert "packing: off (kernel check failed: " in str(plan)
    assert sum(plan.sweep_bytes.values()) > sum(packed.sweep_bytes.values()), "planned anew for plain bf16"
    assert same(studio.draw(seed=3).result(60), studio.plain(seed=3))
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "packing: off" in errors[0]
    assert "To do:" in errors[0]


def test_everything_in_place_or_packing_not_wished_checks_nothing(open_studio: Callable[..., Studio]) -> None:
    for options in ({"packing": False, "residents": 1}, {"packing": True}):
        studio = open_studio(**options, unpack=can_not_be_compiled)
        assert studio.carousel.plan.packing_fault == ""
        assert same(studio.draw().result(60), studio.plain())
        studio.carousel.close()


class Fragile(Device):
    """Does not answer any more once unpacking failed, as a card whose kernel read beyond its memory."""

    def answers(self) -> bool:
        return False


def test_a_fault_that_takes_the_device_along_is_known_to_the_next_start(tmp_path: Path) -> None:
    check = KernelCheck(Fragile(CPU, can_not_be_compiled), tmp_path)
    with pytest.raises(DeviceLost, match="the next start does not pack"):
        check.fault(COUNTS)
    later = PackingChoice(True, Device(CPU, right), tmp_path)
    later.settle(COUNTS)
    assert not later.is_on
    assert later.fault.startswith("an earlier start ended with NotImplementedError")
    note = next(tmp_path.iterdir())
    assert later.fault.endswith(f"delete {note} to try again")
    note.unlink()
    healed = PackingChoice(True, Device(CPU, right), tmp_path)
    healed.settle(COUNTS)
    assert healed.is_on


def test_where_the_fault_can_not_be_noted_the_start_fails_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceLost):
        KernelCheck(Fragile(CPU, can_not_be_compiled), tmp_path / "file").fault(COUNTS)
