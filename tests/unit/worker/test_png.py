"""A PNG says what made it, and follows from that alone."""

import hashlib
import io

import numpy as np
from PIL import Image

from core import __version__
from core.job import GenerationRequest
from core.model_profile import ModelProfile
from worker.png import EncodedPicture, encode_png
from worker.spool import KEPT_FILES, Spool

PROFILE = ModelProfile("zimg-tiny", "r1", (512, 512), (448, 576), (576, 448))


def encode(prompt: str, seed: int = 7) -> EncodedPicture:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    request = GenerationRequest(prompt=prompt, width=64, height=48, seed=seed, preset="turbo", model="zimg-tiny")
    return encode_png(Image.fromarray(pixels), request, PROFILE)


def test_the_text_names_prompt_seed_preset_model_and_version():
    with Image.open(io.BytesIO(encode("a “red” mug\n霓虹灯 ☕").png)) as image:
        text = image.text

    assert text["prompt"] == "a “red” mug\n霓虹灯 ☕"
    assert (text["seed"], text["preset"], text["model"]) == ("7", "turbo", "zimg-tiny@r1")
    assert text["Software"] == f"zimg {__version__}"
    assert "Steps: 4, Sampler: Euler, CFG scale: 0, Seed: 7, Size: 64x48" in text["parameters"]


def test_the_same_request_gives_the_same_bytes_and_their_hash():
    first, second = encode("a mug"), encode("a mug")

    assert first == second
    assert first.sha256 == hashlib.sha256(first.png).hexdigest()
    assert encode("a cup").png != first.png


def test_a_spooled_picture_comes_back_whole_or_not_at_all(tmp_path):
    spool, picture = Spool(tmp_path), encode("a mug")
    spool.keep("job", picture)
    assert spool.find("job") == picture

    path = tmp_path / "job.spooled"
    path.write_bytes(path.read_bytes()[:-5])
    assert spool.find("job") is None

    spool.drop("job")
    spool.drop("job")
    assert list(tmp_path.iterdir()) == []


def test_a_spool_holds_so_many_pictures_and_no_more(tmp_path):
    for number in range(KEPT_FILES + 3):
        (tmp_path / f"{number}.spooled").write_bytes(b"x")

    Spool(tmp_path).sweep()

    assert len(list(tmp_path.iterdir())) == KEPT_FILES
