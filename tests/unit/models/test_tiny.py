"""The tiny model is a true pipeline: small, the same each time, and obedient to prompt and seed."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ZImagePipeline

from core.model_profile import read_profile
from models import tiny


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny") / "model"
    tiny.save(made)
    return made


@pytest.fixture(scope="module")
def pipe(folder: Path) -> ZImagePipeline:
    loaded = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def draw(pipe: ZImagePipeline, prompt: str, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    image = pipe(prompt=prompt, height=256, width=256, num_inference_steps=2, guidance_scale=0.0, generator=generator)
    return np.asarray(image.images[0]).astype(float)


def test_it_is_at_most_two_megabytes(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 2_000_000


def test_building_it_again_gives_the_same_bytes_and_replaces_what_was_there(folder, tmp_path):
    again = tmp_path / "model"
    again.mkdir()
    (again / "stale").write_text("of an older version")

    tiny.save(again)

    assert contents(again) == contents(folder)


def test_its_weights_are_bfloat16(folder):
    from safetensors import safe_open

    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"torch.bfloat16"}  # noqa: SIM118


def test_its_profile_names_its_sizes(folder):
    profile = read_profile(str(folder))

    assert (profile.id, profile.square) == ("zimg-tiny", (512, 512))
    assert (profile.portrait, profile.landscape) == ((448, 576), (576, 448))


def test_another_prompt_or_seed_gives_a_visibly_different_picture(pipe):
    mug = draw(pipe, "a red mug", 1)

    assert mug.std() > 20
    assert np.abs(mug - draw(pipe, "霓虹灯+暗夜雨景", 1)).mean() > 4
    assert np.abs(mug - draw(pipe, "a red mug", 2)).mean() > 20
    assert np.array_equal(mug, draw(pipe, "a red mug", 1))


@pytest.mark.parametrize("text", ["a mug", "霓虹灯", "☕️🧵", 'quo"tes\n\tand lines', "\u202e", "é" * 300])
def test_any_text_encodes_and_decodes_to_itself(text):
    tokenizer = tiny.build_tokenizer()

    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_knows_enable_thinking():
    tokenizer = tiny.build_tokenizer()
    message = [{"role": "user", "content": "hi"}]

    thinking, plain = (
        tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=on)
        for on in (True, False)
    )

    assert thinking == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert plain.startswith(thinking)
    assert "<think>" in plain
