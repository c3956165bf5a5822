"""Strategies: known ones by class name, unknown models automatically, the user's own, the tutorial's text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.unit.offload.tiny import z_image
from worker.offload import Carousel, Stage, Strategy
from worker.offload.strategies import automatic_strategy, find_strategy, largest_lists, modules_at

TUTORIAL = Path(__file__).parents[3] / "docs" / "adapt-a-model.md"


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small = nn.ModuleList([nn.Linear(2, 2)])
        self.large = nn.ModuleList([nn.Sequential(nn.Linear(64, 64), nn.ModuleList([nn.Linear(8, 8)]))])
        self.one = nn.Linear(64, 64)


def test_the_largest_outermost_lists_are_found_and_small_ones_are_not() -> None:
    assert largest_lists(Nested()) == ("large",)


def test_a_path_names_a_lists_children_a_module_or_every_child() -> None:
    root = Nested()
    assert [name for name, _ in modules_at(root, "large")] == ["large.0"]
    assert [name for name, _ in modules_at(root, "one")] == ["one"]
    assert [name for name, _ in modules_at(root, "*")] == ["small.0", "large.0", "one"]
    with pytest.raises(ValueError, match="nothing at 'absent'"):
        modules_at(root, "absent")


def test_a_model_without_a_strategy_is_carried_by_its_largest_lists() -> None:
    pipe = z_image()
    generator = torch.Generator("cpu").manual_seed(2)
    arguments = {"height": 64, "width": 64, "num_inference_steps": 2, "guidance_scale": 0.0}
    plain = pipe("a mug", generator=generator, **arguments).images[0]
    strategy = automatic_strategy(pipe)
    assert {stage.component: stage.paths for stage in strategy.stages} == {
        "text_encoder": ("layers",),
        "transformer": ("noise_refiner", "context_refiner", "layers"),
    }
    with Carousel(pipe, device="cpu", strategy=strategy, residents=1, ring_slots=2, packing=True) as carousel:
        image = carousel.submit(prompt="a mug", height=64, width=64, seed=2, steps=2).result(60)
    assert image.tobytes() == plain.tobytes()


def test_a_strategy_without_a_stage_that_loops_is_refused_with_a_sentence() -> None:
    once = Strategy(
        name="text only",
        pipelines=("ZImagePipeline",),
        stages=(Stage(name="text", component="text_encoder", paths=("layers",), passes=1),),
    )
    with pytest.raises(ValueError, match="names no stage that loops"):
        Carousel(z_image(), device="cpu", strategy=once)


def test_the_users_own_strategy_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from worker.offload import Stage, Strategy\n"
        "stage = Stage(name='denoise', component='transformer', paths=('layers',), passes=0)\n"
        "STRATEGIES = (Strategy(name='mine', pipelines=('ZImagePipeline',), stages=(stage,)),)\n"
    )
    assert find_strategy(z_image(), file).name == "mine"
    assert find_strategy(z_image()).name == "z-image"


def test_a_file_without_strategies_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text("x = 1\n")
    with pytest.raises(ValueError, match="must define STRATEGIES"):
        find_strategy(z_image(), file)
    with pytest.raises(ValueError, match="not a Python file"):
        find_strategy(z_image(), tmp_path / "absent.py")


def test_the_tutorials_text_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "tutorial.py"
    program.write_text("\n".join(blocks))
    names: dict[str, object] = {"__name__": "tutorial"}
    exec(compile(program.read_text(), str(program), "exec"), names)
    assert names["equal"] is True
