"""What the worker's settings make of the engine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.model_profile import read_profile
from core.settings import Settings
from models import tiny
from tests.unit.offload.tiny import z_image
from worker.offload import Carousel
from worker.pipeline import HOST_THREADS, LoadedModel, import_ahead, leave_host_to_others, load_model, make_engine
from worker.warm_parent import ASK_THE_DRIVER

OWN = """
from worker.offload import Stage, Strategy

STRATEGIES = (
    Strategy(
        name="my own",
        pipelines=("ZImagePipeline",),
        stages=(Stage(name="denoise", component="transformer", paths=("layers",), passes=0),),
    ),
)
"""


@pytest.mark.parametrize("is_changed", [False, True])
def test_weights_of_files_that_changed_while_they_were_read_are_kept_under_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    folder = tmp_path / "model"
    tiny.save(folder)
    monkeypatch.setenv("ZIMG_DATA_DIR", str(tmp_path))
    settings = replace(Settings.from_env(), model=str(folder), device="cpu", cpu_dtype="float32")
    model = load_model(settings)
    if is_changed:
        (folder / "a-file-of-the-next-version").touch()
    engine = make_engine(settings, model)
    try:
        assert isinstance(engine, Carousel)
        assert (engine._engine._options.identity == "") is is_changed
    finally:
        engine.close()


def test_a_strategy_named_in_the_environment_carries_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "strategy.py"
    file.write_text(OWN)
    monkeypatch.setenv("ZIMG_OFFLOAD_STRATEGY", str(file))
    monkeypatch.setenv("ZIMG_DATA_DIR", str(tmp_path))
    settings = Settings.from_env()
    model = LoadedModel(z_image(), "cpu", torch.bfloat16, read_profile(""))
    engine = make_engine(settings, model)
    try:
        assert isinstance(engine, Carousel)
        assert engine.plan.strategy == "my own"
        assert engine._engine._options.compile_cache == tmp_path / "weights" / "compiled"
        assert not engine._engine._options.guided, "the presets draw without guidance"
    finally:
        engine.close()
    left = [weight for layer in model.pipe.transformer.layers for weight in layer.parameters() if weight.numel()]
    assert left == [], "a worker that ends takes no memory for a pipeline that nobody will use"


def test_whether_there_is_a_card_is_asked_without_starting_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started amid the imports it took half a second of them, and no fork could use it."""
    asked: list[str | None] = []

    def is_available() -> bool:
        asked.append(os.environ.get(ASK_THE_DRIVER))
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    import_ahead(Settings(model="models/nowhere"))
    assert asked[0] == "1"


@pytest.mark.parametrize(
    ("device", "before", "after"), [("cuda:0", 32, HOST_THREADS), ("cuda:0", 1, 1), ("cpu", 32, 32)]
)
def test_where_a_card_draws_torch_uses_few_threads_on_the_host(device: str, before: int, after: int) -> None:
    usual = torch.get_num_threads()
    try:
        torch.set_num_threads(before)
        leave_host_to_others(device)
        assert torch.get_num_threads() == after
    finally:
        torch.set_num_threads(usual)
