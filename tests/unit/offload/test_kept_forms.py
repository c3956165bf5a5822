"""A compiled form is found by the next process as it is, and what goes wrong with its file costs that form alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from tests.unit.offload.form_kit import BACKEND, Small, Start, files, rows
from tests.unit.offload.tiny import z_image
from worker.offload import Carousel
from worker.offload.compiling import FOLDERS, CompiledForms
from worker.offload.kept_forms import LIST_SUFFIX, SUFFIX, Form, KeptForms, _How
from worker.offload.strategies import Z_IMAGE

ROOT = Path(__file__).parents[3]


def test_a_second_start_finds_every_form_and_traces_nothing(tmp_path: Path, block: Small) -> None:
    pictures = []
    for loaded in (0, 2):
        start = Start(tmp_path)
        outputs = [start.run(block, rows(3))]
        start.freeze()
        outputs += [start.run(block, rows(count)) for count in (5, 3, 9)]
        assert start.saw(loaded=loaded, compiled=2 - loaded)
        assert bool(start.traced) == (loaded == 0)
        pictures.append(outputs)
    assert all(torch.equal(one, other) for one, other in zip(*pictures, strict=True))
    assert all(torch.equal(output, block(rows(output.shape[1]))) for output in pictures[1])
    assert [file.suffix for file in tmp_path.iterdir()] == [SUFFIX] * 2, "no drafts are left"


def test_of_zimgs_own_code_a_form_depends_on_one_small_file_so_an_upgrade_keeps_it(
    tmp_path: Path, block: Small
) -> None:
    start = Start(tmp_path)
    start.run(block, rows(3))
    (forms,) = start.kept._forms.values()
    sources = [name for form in forms.values() for name in form.sources if name.startswith("worker.")]
    assert sources == ["worker.offload.form_body"]


def test_what_the_last_start_used_is_loaded_ahead_of_the_first_call(tmp_path: Path, block: Small) -> None:
    for _ in range(2):
        start = Start(tmp_path)
        start.forms.prepare([block, nn.Linear(2, 2), None])
        ahead = start.kept.counts["loaded"]
        start.run(block, rows(3))
        start.freeze()
        assert torch.equal(start.run(block, rows(5)), block(rows(5)))
        start.forms.note_used()
    assert ahead == 2
    assert start.saw(loaded=2, compiled=0)
    other = KeptForms(tmp_path, "cpu", BACKEND, "another model")
    other.load_ahead([Small.forward])
    assert other.counts["loaded"] == 0, "each model's start loads what that model used"


def test_loading_starts_no_processes_that_compile(
    tmp_path: Path, block: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inductor forks them, and hashes all of torch for them, before it looks whether anything is to be compiled."""
    start = Start(tmp_path)
    start.run(block, rows(3))
    start.forms.note_used()
    threads: list[int] = []
    unpack = Form.unpack

    def note(data: bytes, forward: Callable[..., Any]) -> Form:
        threads.append(torch._inductor.async_compile.get_compile_threads())
        return unpack(data, forward)

    monkeypatch.setattr(Form, "unpack", note)
    with torch._inductor.config.patch(compile_threads=4):  # monkeypatch would take the setting away afterwards
        Start(tmp_path).forms.prepare([block])
        assert threads == [1]
        assert torch._inductor.async_compile.get_compile_threads() == 4


def test_a_form_that_is_needed_in_mid_ride_is_loaded_outside_the_riders_pool(
    tmp_path: Path, block: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool is of one thread: what stays in it for good would part its room."""
    Start(tmp_path).run(block, rows(3))
    threads: list[int] = []
    unpack = Form.unpack

    def note(data: bytes, forward: Callable[..., Any]) -> Form:
        threads.append(threading.get_ident())
        return unpack(data, forward)

    monkeypatch.setattr(Form, "unpack", note)
    again = Start(tmp_path)
    assert torch.equal(again.run(block, rows(3)), block(rows(3)))
    assert again.saw(loaded=1, compiled=0)
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("damage", ["list", "form", "class"])
def test_forms_that_can_not_be_loaded_ahead_are_looked_for_at_the_call(
    tmp_path: Path, block: Small, damage: str
) -> None:
    start = Start(tmp_path)
    start.run(block, rows(3))
    start.forms.note_used()
    (used,) = tmp_path.glob(f"*{LIST_SUFFIX}")
    if damage == "list":
        used.write_text("{")
    elif damage == "form":
        files(tmp_path)[0].unlink()
    again = Start(tmp_path)
    again.forms.prepare([nn.Linear(2, 2)] if damage == "class" else [block])
    assert again.saw(loaded=0)
    assert torch.equal(again.run(block, rows(3)), block(rows(3)))
    assert again.saw(compiled=int(damage == "form"))


def test_a_folder_that_refuses_the_list_is_told_once(tmp_path: Path, block: Small, told: Callable[[], str]) -> None:
    (tmp_path / "file").write_text("")
    start = Start(tmp_path / "file")
    start.run(block, rows(3))
    start.forms.note_used()
    start.forms.note_used()
    assert told().count("NotADirectoryError") + told().count("FileExistsError") == 1


def test_writers_of_one_file_whose_pids_are_the_same_leave_it_whole(tmp_path: Path) -> None:
    """As in two containers that share the folder."""
    file, bodies = tmp_path / f"key-0{SUFFIX}", [bytes([number]) * 1_000_000 for number in range(4)]

    def write(body: bytes) -> None:
        for _ in range(10):
            KeptForms._write(file, body)

    with ThreadPoolExecutor(len(bodies)) as pool:
        list(pool.map(write, bodies))
    assert file.read_bytes() in bodies
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_inductor_chooses_kernels_by_rule_so_that_every_start_draws_the_same_bits() -> None:
    """By timing each start chose anew, and a picture's last bits with it (two starts in run 9 of benchmarks/LOG.md)."""
    for dynamic in (False, True):
        assert _How("inductor", dynamic).compiler().config["deterministic"] is True
    usual = CompiledForms(Z_IMAGE, "inductor")._by_torch(Small().forward, dynamic=False)
    assert usual.get_compiler_config()["deterministic"] is True, "where forms are not kept, too"


def test_one_form_serves_every_block_of_a_class_with_the_weights_that_lie_there_now(tmp_path: Path) -> None:
    Start(tmp_path).run(Small(), rows(3))
    start, blocks = Start(tmp_path), [Small(position=position) for position in range(3)]
    for each in blocks:
        assert torch.equal(start.run(each, rows(3)), each(rows(3)))
        before = start.run(each, rows(3))
        each.inner.weight.data = torch.randn(8, 8, dtype=torch.bfloat16)
        after = start.run(each, rows(3))
        assert torch.equal(after, each(rows(3)))
        assert not torch.equal(after, before)
    assert start.saw(loaded=1, compiled=0)


@pytest.mark.parametrize("damage", ["one byte", "cut short", "empty", "not ours"])
def test_a_damaged_file_is_told_and_replaced(
    tmp_path: Path, block: Small, damage: str, told: Callable[[], str]
) -> None:
    Start(tmp_path).run(block, rows(3))
    [file] = files(tmp_path)
    whole = file.read_bytes()
    broken = {"one byte": whole[:-1] + bytes([whole[-1] ^ 1]), "cut short": whole[:100], "empty": b""}
    file.write_bytes(broken.get(damage, b"something else"))
    start = Start(tmp_path)
    assert torch.equal(start.run(block, rows(3)), block(rows(3)))
    assert start.saw(loaded=0, compiled=1, kept=1)
    assert "a kept form is compiled anew: the file is damaged" in told()
    assert Start(tmp_path).run(block, rows(3)) is not None
    again = Start(tmp_path)
    again.run(block, rows(3))
    assert again.saw(loaded=1, compiled=0)


def test_a_folder_that_can_not_be_written_costs_the_next_start_alone(
    tmp_path: Path, block: Small, told: Callable[[], str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    start = Start(tmp_path / "file")
    assert torch.equal(start.run(block, rows(3)), block(rows(3)))
    assert start.saw(compiled=1, kept=0)
    assert told().count("a compiled form is not kept, the next start traces it again") == 1


class Broken(Small):
    def forward(self, x: torch.Tensor, twice: bool = False) -> torch.Tensor:
        torch._dynamo.graph_break()
        return super().forward(x, twice)


def test_what_torch_can_not_keep_is_compiled_as_before(tmp_path: Path, told: Callable[[], str]) -> None:
    start, block = Start(tmp_path), Broken()
    for _ in range(2):
        assert torch.equal(start.run(block, rows(3)), block(rows(3)))
    assert start.saw(compiled=0)
    assert start.kept.counts["left to torch"] == 1
    assert not files(tmp_path)
    assert told().count("a compiled form is not kept") == 1


def test_arguments_that_have_no_description_go_the_usual_way(tmp_path: Path, told: Callable[[], str]) -> None:
    start, block = Start(tmp_path), Small()
    output = start.run(block, rows(3), twice=Path("yes"))
    assert torch.equal(output, block(rows(3), twice=True))
    assert "an argument is a PosixPath" in told()


def test_a_form_that_does_not_run_is_given_up(
    tmp_path: Path, block: Small, monkeypatch: pytest.MonkeyPatch, told: Callable[[], str]
) -> None:
    def fail(self: Form, *_: Any, **__: Any) -> None:
        raise RuntimeError("a kernel is missing")

    Start(tmp_path).run(block, rows(3))
    monkeypatch.setattr(Form, "__call__", fail)
    assert torch.equal(Start(tmp_path).run(block, rows(3)), block(rows(3)))
    assert "it does not run" in told()


def test_full_memory_is_not_taken_for_a_broken_form(
    tmp_path: Path, block: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Form, *_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    Start(tmp_path).run(block, rows(3))
    monkeypatch.setattr(Form, "__call__", fail)
    with pytest.raises(torch.OutOfMemoryError):
        Start(tmp_path).run(block, rows(3))


def test_sizes_that_a_form_for_any_size_was_not_made_for_get_one_of_their_own(tmp_path: Path) -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x if x.shape[1] == x.shape[2] else x + x

    for loaded in (0, 2):
        start = Start(tmp_path)
        start.freeze()
        for size in (8, 5, 8, 7):
            square = Square()
            assert torch.equal(start.run(square, rows(size)), square(rows(size)))
        assert start.saw(loaded=loaded, compiled=2 - loaded)


def test_a_text_layer_is_kept_though_transformers_may_record_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hooks ask a context variable, which torch can not trace, and have other numbers in every layer."""
    pipe = z_image()
    with torch.no_grad():
        pipe.text_encoder(torch.ones(1, 4, dtype=torch.int64), output_hidden_states=True)
    layers = list(pipe.text_encoder.layers)[:2]
    assert all(layer.self_attn._forward_hooks for layer in layers)
    x, turns = torch.ones(1, 4, 32, dtype=torch.bfloat16), torch.ones(1, 4, 8, dtype=torch.bfloat16)
    start = Start(tmp_path, backend="keepable_eager")
    for layer in layers:
        assert torch.equal(
            start.run(layer, x, position_embeddings=(turns, turns + 1)),
            layer(x, None, position_embeddings=(turns, turns + 1)),
        )
    assert start.saw(compiled=1, kept=1)
    assert start.kept.counts["left to torch"] == 0
    monkeypatch.setenv("ZIMG_TEST_OTHER", "a variable that its attention does not ask for")
    again = Start(tmp_path, backend="keepable_eager")
    again.run(layers[0], x, position_embeddings=(turns, turns + 1))
    assert again.saw(loaded=1, compiled=0)


@pytest.mark.slow
def test_an_engine_that_starts_again_traces_nothing_and_draws_the_same(tmp_path: Path) -> None:
    options = {"compile": "on", "compile_backend": "keepable_eager", "warm_up": ((64, 64),), "captions": (64,)}
    options |= {"residents": 2, "ring_slots": 2, "packing": True, "decode": "strips", "compile_cache": tmp_path}
    pixels, reports = [], []
    for _ in range(2):
        torch._dynamo.reset()
        counters.clear()
        with Carousel(z_image(), device="cpu", **options) as carousel:
            ready = dict(carousel.report["forms"])
            image = carousel.submit(prompt="a white teapot", height=64, width=64, seed=1, steps=1).result(60)
            pixels.append(image.tobytes())
            assert carousel.report["forms"] == ready, "nothing is compiled or loaded after the start"
            reports.append((ready, int(counters["stats"]["unique_graphs"])))
    (first, traced), (second, traced_again) = reports
    assert first["compiled"] == first["kept"] == second["loaded"] > 4
    assert traced
    assert (second["compiled"], second["left to torch"], traced_again) == (0, 0, 0)
    assert pixels[0] == pixels[1]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on the CPU")
def test_a_second_process_runs_what_inductor_compiled_in_the_first(tmp_path: Path) -> None:
    first, second = (_run_once(tmp_path) for _ in range(2))
    assert (first["compiled"], first["loaded"], second["compiled"], second["loaded"]) == (2, 0, 0, 2)
    assert second["traced"] == 0
    assert (first["compiler"], second["compiler"]) == (True, False), "inductor itself is not even imported"
    assert first["outputs"] == second["outputs"]


def _run_once(folder: Path) -> dict[str, Any]:
    environ = {name: value for name, value in os.environ.items() if name not in FOLDERS}
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.offload.keep_once", str(folder)],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
