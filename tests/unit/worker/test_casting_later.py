"""A model whose files hold float32 is loaded without memory for it and becomes bfloat16 on its way to the card.

Z-Image-Turbo's denoiser is stored so: cast while it is loaded it would take 12 GiB that the packed weights need.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, ZImageTransformer2DModel

from core.errors import ConfigurationError
from tests.unit.offload.tiny import z_image
from worker import model_files
from worker.model_files import stored_in_float32
from worker.offload import Carousel, blocks, drop_stores
from worker.offload.device import Device
from worker.offload.host_weights import SHARED_MEMORY
from worker.offload.strategies import find_strategy
from worker.pipeline import read_pipeline

CARRIED = {"residents": 1, "ring_slots": 2, "packing": True}
ORDER = {"prompt": "a red mug", "height": 64, "width": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipe, folder = z_image(), tmp_path_factory.mktemp("stored")
    generator = torch.Generator().manual_seed(1)
    pipe.transformer.to(torch.float32)
    for weight in pipe.transformer.parameters():  # more than bfloat16 holds
        weight.data *= 1 + 0.01 * torch.rand(weight.shape, generator=generator)
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host, taken for a card that tells nothing of its memory; every part is a large one."""
    monkeypatch.setattr(Device, "is_cuda", property(lambda _: True))
    monkeypatch.setattr("worker.offload.placement.Placement._measure", lambda _: None)
    monkeypatch.setattr("worker.pipeline.stored_in_float32", lambda folder: stored_in_float32(folder, 1))
    yield
    drop_stores(SHARED_MEMORY)


def plain_pipe(folder: Path) -> Any:
    kind: Any = DiffusionPipeline
    return kind.from_pretrained(folder, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def plain(folder: Path) -> bytes:
    pipe = plain_pipe(folder)
    generator = torch.Generator("cpu").manual_seed(3)
    return bytes(pipe(**ORDER, num_inference_steps=2, guidance_scale=0.0, generator=generator).images[0].tobytes())


def draw(folder: Path, **options: Any) -> tuple[bytes, Any]:
    """The picture, and the pipeline when it is home."""
    pipe, cast = read_pipeline(str(folder), torch.bfloat16, casts_later=True)
    assert cast == {"transformer": torch.bfloat16}
    assert {weight.dtype for weight in pipe.transformer.parameters()} == {torch.float32}
    options |= {"device": "cpu", "compile": "off", "warm_up": ((64, 64),), "cast": cast}
    with Carousel(pipe, 40.0, **options) as carousel:
        return carousel.submit(**ORDER, seed=3, steps=2).result(60).tobytes(), pipe


@pytest.mark.parametrize("options", [CARRIED, {**CARRIED, "packing": False}, {}], ids=["packed", "carried", "in place"])
def test_the_picture_is_that_of_a_pipeline_loaded_in_bfloat16(
    folder: Path, plain: bytes, options: dict[str, Any]
) -> None:
    assert draw(folder, **options)[0] == plain


def test_on_a_cpu_it_is_cast_before_anything_else(folder: Path, plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "is_cuda", property(lambda _: False))

    assert draw(folder)[0] == plain


@pytest.mark.parametrize("options", [CARRIED, {}], ids=["carried", "in place"])
def test_the_pipeline_comes_home_in_bfloat16(folder: Path, options: dict[str, Any]) -> None:
    _, pipe = draw(folder, **options)

    expected = plain_pipe(folder).transformer.state_dict()
    found = pipe.transformer.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == torch.bfloat16 and torch.equal(found[name], expected[name]) for name in expected)


def test_a_start_that_finds_packed_weights_reads_none_of_the_files(
    folder: Path, plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**CARRIED, "identity": f"test {tmp_path}", "weights_cache": tmp_path}
    assert draw(folder, **options)[0] == plain

    def never(*_: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(blocks.Block, "flatten", never)
    assert draw(folder, **options)[0] == plain


def test_weights_lie_in_their_files_until_they_are_wanted(folder: Path) -> None:
    pipe, _ = read_pipeline(str(folder), torch.bfloat16, casts_later=True)

    spans = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line
    ]
    ranges = [(int(first, 16), int(last, 16)) for first, last in spans]
    weights = [weight.data_ptr() for weight in pipe.transformer.parameters()]
    assert all(any(first <= where < last for first, last in ranges) for where in weights)


def test_an_error_while_it_is_brought_there_leaves_the_rest_in_its_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, cast = read_pipeline(str(folder), torch.bfloat16, casts_later=True)
    last = pipe.transformer.layers[-1].attention.to_q.weight
    where, carry_form = last.data_ptr(), blocks.Block.carry_form

    def fail_late(block: blocks.Block, *arguments: Any) -> torch.Tensor:
        if block.name == "transformer.layers.1":
            raise RuntimeError("planted")
        return carry_form(block, *arguments)

    monkeypatch.setattr(blocks.Block, "carry_form", fail_late)
    with pytest.raises(RuntimeError, match="planted"):
        Carousel(pipe, 40.0, device="cpu", compile="off", warm_up=((64, 64),), cast=cast, **CARRIED)

    assert last.data_ptr() == where


def test_what_a_strategy_never_runs_says_that_it_is_bfloat16_too(folder: Path) -> None:
    pipe, cast = read_pipeline(str(folder), torch.bfloat16, casts_later=True)
    usual = find_strategy(pipe)
    stages = [replace(stage, unneeded_last=1) if stage.passes == 0 else stage for stage in usual.stages]
    options = {"strategy": replace(usual, stages=tuple(stages)), "warm_up": ((64, 64),), "cast": cast, **CARRIED}

    with Carousel(pipe, 40.0, device="cpu", compile="off", **options):
        assert {weight.dtype for weight in pipe.transformer.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in pipe.transformer.parameters()} == {torch.bfloat16}


def test_damaged_files_are_told_as_they_are_elsewhere(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "damaged")
    file = next((copy / "transformer").glob("*.safetensors"))
    os.truncate(file, file.stat().st_size // 2)

    with pytest.raises(ConfigurationError, match="could not be loaded"):
        read_pipeline(str(copy), torch.bfloat16, casts_later=True)


def test_a_link_that_nobody_needs_may_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "linked")
    (copy / "transformer" / "diffusion_pytorch_model.fp16.safetensors").symlink_to("gone")

    pipe, cast = read_pipeline(str(copy), torch.bfloat16, casts_later=True)

    assert not cast
    assert pipe.transformer.dtype == torch.bfloat16


@pytest.mark.parametrize("model", ["/no/such/folder", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_model_of_the_hub_is_refused_with_a_sentence(model: str) -> None:
    with pytest.raises(ConfigurationError, match="Name a folder in diffusers' format or a model on the hub"):
        read_pipeline(model, torch.bfloat16, casts_later=True)


def test_a_part_that_keeps_some_of_itself_in_float32_is_cast_when_it_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ZImageTransformer2DModel, "_keep_in_fp32_modules", ["cap_embedder"])

    pipe, cast = read_pipeline(str(folder), torch.bfloat16, casts_later=True)

    assert not cast
    assert pipe.transformer.layers[0].attention.to_q.weight.dtype == torch.bfloat16
    assert pipe.transformer.cap_embedder[1].weight.dtype == torch.float32


def test_small_parts_and_those_that_are_stored_otherwise_are_no_case(folder: Path, tmp_path: Path) -> None:
    assert stored_in_float32(folder) == [], "too small"
    assert stored_in_float32(folder, 1) == ["transformer"]
    plain_pipe(folder).save_pretrained(tmp_path)
    assert stored_in_float32(tmp_path, 1) == []
    assert stored_in_float32(tmp_path / "nowhere", 1) == []
    assert model_files.LARGE_BYTES < 24 << 30
