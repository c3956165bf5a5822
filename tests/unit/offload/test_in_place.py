"""Weights that all fit stay in place: they can still be uploaded again, and come home without leaving the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.unit.offload.tiny import z_image
from worker.offload.assembly import Assembly
from worker.offload.device import Device
from worker.offload.plan import Facts, Plan, Wishes
from worker.offload.planner import make_plan
from worker.offload.stopwatch import Stopwatch
from worker.offload.strategies import find_strategy
from worker.offload.weights import Weights


class Card(Device):
    """The host, taken for a card: what is brought to it is a copy."""

    @property
    def is_cuda(self) -> bool:
        return True


@pytest.fixture
def assembly() -> Assembly:
    pipe = z_image()
    return Assembly(pipe, find_strategy(pipe), Card(torch.device("cpu")))


@pytest.fixture
def before(assembly: Assembly) -> dict[str, torch.Tensor]:
    return {name: weight.data for name, weight in weights_of(assembly)}


def weights_of(assembly: Assembly) -> Iterator[tuple[str, Any]]:
    for block in assembly.blocks:
        for name, weight in block.module.named_parameters():
            yield f"{block.name}.{name}", weight


def in_place_plan(assembly: Assembly) -> Plan:
    nothing = Facts(context=0, fixed=0, activations=0, decode=0, pieces=0, strips=0, reserve=0, waiting=0)
    stages = [stage.name for stage in assembly.strategy.stages]
    plan = make_plan("z-image", assembly.facts(4), stages, 1 << 40, nothing, Wishes())
    assert plan.in_place
    return plan


def is_alike(assembly: Assembly, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight.data, before[name]) for name, weight in weights_of(assembly))


@pytest.mark.parametrize("has_host", [False, True], ids=["from the model itself", "from packed host memory"])
def test_spoilt_weights_in_place_are_uploaded_again(
    assembly: Assembly, before: dict[str, torch.Tensor], *, has_host: bool
) -> None:
    before = {name: weight.clone() for name, weight in before.items()}
    if has_host:
        assembly.fill_host(True, "", "", Stopwatch())
    placed = Weights(assembly.device, in_place_plan(assembly), assembly.blocks)
    assert is_alike(assembly, before)
    for _, weight in weights_of(assembly):
        weight.data.fill_(float("nan"))

    placed.refresh()

    assert is_alike(assembly, before)


def test_weights_that_lay_in_host_memory_come_home_as_they_were(
    assembly: Assembly, before: dict[str, torch.Tensor]
) -> None:
    """Nothing is copied back from the device: the very tensors are there again."""
    placed = Weights(assembly.device, in_place_plan(assembly), assembly.blocks)
    assert not {weight.data_ptr() for _, weight in weights_of(assembly)} & {w.data_ptr() for w in before.values()}

    assembly.put_together(weights_in_place=False)
    placed.drop()

    assert all(
        weight.data is not None and weight.data_ptr() == before[name].data_ptr()
        for name, weight in weights_of(assembly)
    )


def test_weights_in_place_that_must_be_carried_after_all_leave_nothing_behind(
    assembly: Assembly, before: dict[str, torch.Tensor]
) -> None:
    Weights(assembly.device, in_place_plan(assembly), assembly.blocks)
    expected = {name: weight.clone() for name, weight in before.items()}

    assembly.fill_host(True, "", "", Stopwatch())

    assert all(not block._before for block in assembly.blocks)
    assembly.put_together(weights_in_place=False)
    assert is_alike(assembly, expected)
