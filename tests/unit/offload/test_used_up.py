"""A pipeline that is used up is not put together: a worker's end takes neither time nor host memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.offload.budget_kit import KIB, Card
from tests.unit.offload.test_host_tables import Pinning
from tests.unit.offload.tiny import z_image
from worker.offload import Carousel, ImpossibleBudget
from worker.offload.carousel import Options
from worker.offload.device import Device
from worker.offload.engine import Engine
from worker.offload.ticket import Order, Ticket

CARRIED = {"device": "cpu", "ring_slots": 2, "residents": 1, "packing": True, "compile": "off"}


def bytes_of(blocks: Any) -> int:
    return sum(weight.untyped_storage().nbytes() for block in blocks for weight in block.parameters())


@pytest.mark.parametrize("puts_back", [True, False])
def test_blocks_have_their_weights_again_unless_the_pipeline_is_used_up(puts_back: bool) -> None:
    pipe = z_image()
    whole = bytes_of(pipe.transformer.layers)
    carousel = Carousel(pipe, 40.0, puts_back=puts_back, **CARRIED)
    carousel.submit(prompt="a mug", height=64, width=64, seed=1, steps=2).result(60)

    carousel.close()

    assert bytes_of(pipe.transformer.layers) == (whole if puts_back else 0)


def test_a_start_that_is_refused_says_so_and_takes_no_host_memory_for_the_pipeline_either() -> None:
    pipe = z_image()

    engine = Engine(pipe, KIB, Card(lambda: 0), Options(device="cpu", ring_slots=2, packing=True, puts_back=False))

    with pytest.raises(ImpossibleBudget, match="at least"):
        engine.start()

    assert bytes_of(pipe.transformer.layers) == 0


def test_its_gates_are_gone_all_the_same() -> None:
    pipe = z_image()
    Carousel(pipe, 40.0, puts_back=False, **CARRIED).close()

    assert not any("forward" in vars(module) for module in pipe.transformer.modules())


@pytest.mark.parametrize("puts_back", [True, False])
def test_a_table_on_the_host_is_the_pipelines_own_again_or_nothing(
    monkeypatch: pytest.MonkeyPatch, puts_back: bool
) -> None:
    monkeypatch.setattr(Device, "is_cuda", property(lambda _: True))
    monkeypatch.setattr("worker.offload.placement.Placement._measure", lambda _: None)
    pipe = z_image()
    table = pipe.text_encoder.get_input_embeddings().weight
    before = table.data_ptr(), table.detach().clone()
    carousel = Carousel(pipe, 40.0, device="cpu", compile="off", warm_up=((64, 64),), puts_back=puts_back)
    on_host = table.data_ptr()
    assert on_host != before[0]
    assert carousel.report["host_bytes"] >= before[1].nbytes

    carousel.close()

    assert table.data_ptr() != on_host
    assert torch.equal(table, before[1]) if puts_back else table.numel() == 0


@pytest.mark.parametrize("puts_back", [True, False])
def test_nothing_stays_pinned_in_the_end(puts_back: bool) -> None:
    device = Pinning()
    options = Options(device="cpu", ring_slots=2, residents=1, packing=True, places=1, seats=3, puts_back=puts_back)
    engine = Engine(z_image(), 40 << 30, device, options)
    engine.start()
    tickets = [
        engine.enter(Ticket(Order(prompt=f"mug {seed}", height=64, width=64, seed=seed, steps=2))) for seed in range(3)
    ]
    assert all(ticket.result(60) for ticket in tickets)
    assert len(device.pinned) > 3, "blocks, parked states and prompts"

    engine.stop(60)

    assert device.pinned == []
