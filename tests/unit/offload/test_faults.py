"""Faults of the engine's own work: each ends in a defined state, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from tests.unit.offload.budget_kit import CARRIED, KIB, Card, draws, open_engine_fixture  # noqa: F401 - the fixture
from tests.unit.offload.conftest import Studio, family_pipeline, same
from tests.unit.offload.tiny import z_image
from worker.offload import CarouselEnded, ImpossibleBudget, placement
from worker.offload.card_memory import is_out_of_memory
from worker.offload.engine import Engine
from worker.offload.parking import Lot
from worker.offload.placement import Placement
from worker.offload.ticket import Order, let_go_of_frames
from worker.offload.weights import Weights

GIB = 1 << 30


def plant(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: Exception) -> None:
    """Let the next call of a method fail, and only that one."""
    original = getattr(owner, name)

    def once(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(owner, name, original)
        raise error

    monkeypatch.setattr(owner, name, once)


@pytest.mark.parametrize("lets_go", [True, False], ids=["", "and the card refuses whatever is asked"])
def test_an_error_between_rides_ends_the_carousel_tells_everybody_and_restores_the_pipeline(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch, *, lets_go: bool
) -> None:
    before = {name: weight.clone() for name, weight in family_pipeline("z-image").transformer.named_parameters()}
    studio = open_studio(residents=1, ring_slots=2, packing=True, places=2)
    everybody_came = threading.Event()

    def fails(*_: object) -> None:
        assert everybody_came.wait(60)
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(Weights, "prepare", fails)
        if not lets_go:
            patch.setattr(Lot, "forget", fails)
        tickets = [studio.draw(seed=seed) for seed in range(6)]
        everybody_came.set()
        studio.carousel._engine.join(60)
    for ticket in tickets:
        with pytest.raises(RuntimeError, match="planted"):
            ticket.result(60)
    with pytest.raises(CarouselEnded, match="RuntimeError: planted"):
        studio.draw()
    with pytest.raises(CarouselEnded, match="planted"):
        studio.carousel.refresh()
    after = dict(studio.pipe.transformer.named_parameters())
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    arguments = {"height": 64, "width": 64, "num_inference_steps": 1, "guidance_scale": 0.0}
    assert studio.pipe("a mug", **arguments).images, "the pipeline works without the carousel"


@pytest.mark.parametrize("text", ["CUDA error: out of memory", "Triton Error [CUDA]: out of memory", "ALLOC_FAILED"])
def test_whoever_says_that_memory_ran_out_is_believed(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_memory_that_runs_out_while_another_budget_is_tried_leaves_the_old_plan(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(500 * KIB, lambda: 0)
    plan = engine.plan
    plant(monkeypatch, placement, "Weights", torch.OutOfMemoryError("CUDA out of memory (planted)"))
    with pytest.raises(torch.OutOfMemoryError):
        engine.rebudget(700 * KIB, 60)
    assert engine.plan == plan
    assert draws(engine)


def test_two_budgets_at_once_are_tried_one_after_the_other(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first one's trial rides waited for the second, which waited for the first, nobody moved any more."""
    engine = open_engine(500 * KIB, lambda: 0)
    other = threading.Thread(target=engine.rebudget, args=(520 * KIB, 120))

    def settle(placement: Placement) -> None:
        if other.ident is None:
            other.start()
            while not engine._quiet_errands:
                pass
        placement._ride([Order(prompt="a mug", height=64, width=64, seed=3, steps=1)])

    monkeypatch.setattr(Placement, "settle", settle)
    engine.rebudget(600 * KIB, 120)
    other.join(120)
    assert engine.plan.budget == 520 * KIB


def test_a_budget_that_nobody_waits_for_any_more_is_not_tried(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio(residents=1, ring_slots=2)
    before = studio.carousel.plan
    rides = threading.Event()
    riding = studio.draw(steps=400, on_step=lambda *_: rides.set())
    assert rides.wait(60)
    with pytest.raises(TimeoutError, match="did not end in time"):
        studio.carousel.rebudget(3.0, timeout=0.01)
    riding.cancel()
    assert same(studio.draw().result(60), studio.plain())
    assert studio.carousel.plan == before


def test_out_of_memory_changes_neither_the_decode_of_unnamed_sizes_nor_compiles_anything(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = {"compile": "on", "compile_backend": "eager", "warm_up": ((96, 96),), "captions": (128,)}
    studio = open_studio(vram_budget_gib=500 * KIB / GIB, ring_slots=2, packing=True, **forms)
    unnamed = {"prompt": "tea " * 30, "height": 80, "width": 64, "steps": 1}
    assert "decode plain (strips for sizes that are not compiled for)" in str(studio.carousel.plan)
    first = studio.draw(**unnamed).result(60)
    compiled = counters["stats"]["unique_graphs"]
    plant(monkeypatch, Weights, "retake", torch.OutOfMemoryError("CUDA out of memory (planted)"))
    for _ in range(2):
        studio.draw(height=96, width=96, steps=1).result(60)
    again = studio.draw(**unnamed).result(60)
    assert first.info["decode_mode"] == again.info["decode_mode"] == "strips"
    assert again.tobytes() == first.tobytes()
    assert counters["stats"]["unique_graphs"] == compiled


def test_what_shrinking_has_taught_holds_for_the_next_budget(open_engine: Callable[..., Engine]) -> None:
    engine = open_engine(900 * KIB, lambda: 0)
    assert engine._placement is not None
    before = engine.plan.resident_bytes
    engine._placement.shrink()
    shrunk = engine.plan.resident_bytes
    assert shrunk < before
    engine.rebudget(890 * KIB, 60)
    assert engine.plan.resident_bytes <= shrunk


def test_a_start_that_met_want_of_memory_on_what_was_remembered_forgets_it(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    options = replace(CARRIED, compile_cache=tmp_path, identity=f"test {tmp_path}")
    open_engine(500 * KIB, lambda: 60 * KIB, options).stop(60)
    with monkeypatch.context() as patch:
        plant(patch, placement, "Weights", torch.OutOfMemoryError("CUDA out of memory (planted)"))
        with pytest.raises(torch.OutOfMemoryError):
            open_engine(500 * KIB, lambda: 60 * KIB, options)
    again = open_engine(500 * KIB, lambda: 60 * KIB, options)
    assert again._placement is not None
    assert not again._placement.was_remembered
    assert draws(again)


def test_a_buffer_inside_a_module_is_nobodys_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parked with one rider it was empty under all the others."""

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.ones(5000))

    shared, own = Inner(), torch.ones(7000)
    frame = {"table": shared.table[:4000], "own": own}
    lot = Lot(Card(lambda: 0), 1, 1 << 20, 1)
    lot.shared = frozenset([shared.table.untyped_storage().data_ptr()])
    monkeypatch.setattr(
        "worker.offload.parking.storages_of", lambda _: [tensor.untyped_storage() for tensor in frame.values()]
    )
    rider = type("Somebody", (), {"frame": None, "state": None, "given": frozenset()})()
    assert [storage.nbytes() for storage in lot._state(rider)] == [own.nbytes]


def test_frames_of_causes_and_contexts_are_let_go_of_though_they_form_a_circle() -> None:
    def fails() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise RuntimeError("second") from ValueError("cause")

    with pytest.raises(RuntimeError) as caught:
        fails()
    error = caught.value
    context = error.__context__
    assert context is not None
    assert context.__traceback__ is not None
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    let_go_of_frames(error)
    assert context.__traceback__ is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_start_that_fails_and_can_not_be_taken_down_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a card that refuses whatever is asked: who started it waited for ever."""

    def refuse(_: Placement) -> None:
        raise RuntimeError("the context is lost")

    monkeypatch.setattr(Placement, "close", refuse)
    engine, told = Engine(z_image(), 1 * KIB, Card(lambda: 0), replace(CARRIED)), list[BaseException]()

    def start() -> None:
        try:
            engine.start()
        except BaseException as error:
            told.append(error)

    waits = threading.Thread(target=start, daemon=True)
    waits.start()
    waits.join(60)
    assert [type(error) for error in told] == [ImpossibleBudget]
