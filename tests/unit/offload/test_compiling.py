"""Nothing is compiled while jobs ride, and the form of a shape does not depend on what came before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from greenlet import getcurrent
from torch._dynamo.utils import counters

from tests.unit.offload.tiny import z_image
from worker.offload import Carousel
from worker.offload.compiling import FOLDERS, VARIANTS, CompiledForms, keep_compiled
from worker.offload.rider import Rider
from worker.offload.strategies import Z_IMAGE
from worker.offload.ticket import Order, Ticket

ROOT = Path(__file__).parents[3]
SUBJECT = "a white ceramic teapot on a pure white background "


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize(
    "lengths", [(1, 9, 30, 60, 99), pytest.param(range(1, 101), marks=pytest.mark.slow)], ids=["some", "a hundred"]
)
def test_prompts_of_all_lengths_and_pictures_of_all_sizes_compile_nothing_after_the_start(
    lengths: Sequence[int],
) -> None:
    options = {"compile": "on", "compile_backend": "eager", "warm_up": ((96, 96),), "captions": (128,)}
    with Carousel(z_image(), device="cpu", residents=2, ring_slots=2, packing=True, **options) as carousel:
        compiled = counters["stats"]["unique_graphs"]
        assert compiled > 4, "the blocks are compiled"
        for words in lengths:
            size = {"height": 64 + 16 * (words % 5), "width": 64 + 16 * (words % 4)}
            carousel.submit(prompt=f"{words} " + "tea pot " * words, seed=words, steps=1, **size).result(60)
            if words in lengths[-5:]:
                carousel.submit(prompt=f"{words} tea", seed=1, steps=1, guidance_scale=2.0, **size).result(60)
        assert counters["stats"]["unique_graphs"] == compiled
        named = {"prompt": SUBJECT, "height": 96, "width": 96, "seed": 1, "steps": 1}
        other = {"prompt": SUBJECT * 4, "height": 80, "width": 64, "seed": 2, "steps": 1}
        first = [carousel.submit(**order).result(60).tobytes() for order in (named, other)]
        second = [carousel.submit(**order).result(60).tobytes() for order in (other, named)]
        assert first == second[::-1], "the form of a shape does not depend on what came before"
        modes = [carousel.submit(**order).result(60).info.get("decode_mode", "plain") for order in (named, other)]
        assert modes == ["plain", "strips"], "only named sizes have a decoder compiled for them"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU")
def test_a_second_process_finds_every_form_in_the_folder_and_compiles_none(tmp_path: Path) -> None:
    first, second = _compile_once(tmp_path), _compile_once(tmp_path)
    assert first == {"forms": 2, "later": 0, "compiled": 2, "found": 0, "whole": 0}
    assert second == {"forms": 2, "later": 0, "compiled": 0, "found": 2, "whole": 2}


def _compile_once(folder: Path) -> dict[str, int]:
    environ = {name: value for name, value in os.environ.items() if name not in FOLDERS}
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.offload.compile_once", str(folder)],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_folders_that_the_user_named_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere")
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    keep_compiled("")
    assert "TRITON_CACHE_DIR" not in os.environ
    monkeypatch.setenv("TRITON_CACHE_DIR", "")  # so that it is put back afterwards
    monkeypatch.delenv("TRITON_CACHE_DIR")
    keep_compiled(tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/somewhere"
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "triton")


def test_what_the_compiler_was_told_holds_inside_every_ride() -> None:
    """torch keeps its settings by context since 2.12, and a coroutine would begin with an empty one."""
    seen: list[int] = []

    def draw(_: Rider) -> torch.Tensor:
        seen.append(torch._dynamo.config.recompile_limit)
        return torch.zeros(1)

    def engine() -> None:
        CompiledForms(Z_IMAGE, "eager")
        order = Order(prompt="a mug", height=64, width=64, seed=0, steps=1)
        Rider(Ticket(order), 1, draw, getcurrent()).switch()

    thread = threading.Thread(target=engine)
    thread.start()
    thread.join()
    assert seen == [VARIANTS]


def test_guided_pictures_have_forms_of_their_own_only_where_that_was_named() -> None:
    block = torch.nn.Linear(4, 4)
    for guided, expected in ((False, 0), (True, 1)):
        torch._dynamo.reset()
        counters.clear()
        forward = CompiledForms(Z_IMAGE, "eager", guided=guided).both(block.forward)
        assert torch.equal(forward(torch.ones(2, 3, 4)), block(torch.ones(2, 3, 4)))
        assert counters["stats"]["unique_graphs"] == expected


def test_shapes_that_an_earlier_start_rode_have_forms_of_their_own_and_no_others() -> None:
    first = CompiledForms(Z_IMAGE, "eager")
    ridden, other = torch.zeros(1, 4, 8), torch.zeros(1, 5, 8)
    assert first.knows(ridden, attention_mask=None)
    again = CompiledForms(Z_IMAGE, "eager")
    again.recall(first.layouts)
    assert again.knows(ridden, attention_mask=None)
    assert not again.knows(other)
    assert again.layouts == first.layouts
