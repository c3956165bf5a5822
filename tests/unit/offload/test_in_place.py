"""Weights that all fit stay in place, with no other copy: a plan that leaves them there moves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.offload.conftest import Studio, same
from worker.offload import TooLittleMemory, blocks
from worker.offload.device import Device


@pytest.fixture
def _taken_for_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is brought to the host, taken for a card, is a copy, and nothing is measured."""
    monkeypatch.setattr(Device, "is_cuda", property(lambda _: True))
    monkeypatch.setattr("worker.offload.placement.Placement._measure", lambda _: None)


@pytest.mark.usefixtures("_taken_for_a_card")
@pytest.mark.parametrize("budgets", [(30.0,), (30.0, 50.0)], ids=str)
def test_another_budget_in_which_everything_fits_moves_no_weight(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch, budgets: tuple[float, ...]
) -> None:
    studio = open_studio(vram_budget_gib=40.0, compile="off", warm_up=((64, 64),))
    assert studio.carousel.plan.in_place
    where = addresses(studio.pipe)

    def never(*_: Any) -> None:
        raise AssertionError("moved")

    with monkeypatch.context() as patch:
        patch.setattr(blocks.Block, "flatten", never)
        for budget in budgets:
            studio.carousel.rebudget(budget)

    assert studio.carousel.plan.budget == int(budgets[-1] * 2**30)
    assert addresses(studio.pipe) == where
    assert same(studio.draw().result(60), studio.plain())


def addresses(pipe: Any) -> list[int]:
    return [weight.data_ptr() for weight in pipe.transformer.parameters()]


@pytest.mark.usefixtures("_taken_for_a_card")
def test_too_little_host_memory_for_a_smaller_budget_leaves_everything_as_it_was(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = open_studio(vram_budget_gib=40.0, compile="off", warm_up=((64, 64),))
    plan, where = studio.carousel.plan, addresses(studio.pipe)

    def refuse(_: int) -> None:
        raise TooLittleMemory("the weights need more")

    with monkeypatch.context() as patch:
        patch.setattr("worker.offload.host_weights.require_memory", refuse)
        with pytest.raises(TooLittleMemory):
            studio.carousel.rebudget(2.0)

    assert studio.carousel.plan == plan
    assert studio.carousel._engine._placement is not None
    assert studio.carousel._engine._placement.budget == plan.budget
    assert addresses(studio.pipe) == where
    assert same(studio.draw().result(60), studio.plain())


@pytest.mark.usefixtures("_taken_for_a_card")
def test_what_no_picture_needs_is_named_and_never_loaded(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(vram_budget_gib=40.0, compile="off", warm_up=((64, 64),))
    pipe = studio.pipe
    unneeded = [pipe.vae.encoder, pipe.text_encoder.norm, pipe.text_encoder.layers[-1]]
    assert sum(weight.numel() for module in unneeded for weight in module.parameters()) == 0
    last = len(pipe.text_encoder.layers) - 1
    assert {"vae.encoder", "text_encoder.norm", f"text_encoder.layers.{last}"} <= set(studio.carousel.plan.never_loaded)
    assert "never loaded: " in str(studio.carousel.plan)

    studio.carousel.close()

    assert all(weight.numel() for module in unneeded for weight in module.parameters())
