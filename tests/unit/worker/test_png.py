"""A PNG says what made it, and follows from that alone."""

import hashlib
import io
import json
import os
import threading
import time
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageChops

from core import __version__
from core.job import GenerationRequest
from core.model_profile import ModelProfile
from core.provenance import TRAINED_ALGORITHMIC_MEDIA
from worker.label import put_label
from worker.png import EncodedPicture, Marking, encode_png
from worker.spool import KEPT_SECONDS, Spool, Sweeper

PROFILE = ModelProfile("zimg-tiny", "r1", (512, 512), (448, 576), (576, 448))


IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
TC260 = "{http://www.tc260.org.cn/ns/AIGC/1.0/}"


def encode(prompt: str, seed: int = 7, *, producer: str = "", decode_mode: str = "") -> EncodedPicture:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    request = GenerationRequest(prompt=prompt, width=64, height=48, seed=seed, preset="turbo", model="zimg-tiny")
    image = Image.fromarray(pixels)
    if decode_mode:
        image.info["decode_mode"] = decode_mode
    return encode_png(image, request, PROFILE, marking=Marking(producer))


def read_xmp(picture: EncodedPicture) -> dict[str, str]:
    """The properties of a PNG's XMP packet, read by an XML parser of its own."""
    with Image.open(io.BytesIO(picture.png)) as image:
        packet = image.text["XML:com.adobe.xmp"]
    (description,) = ElementTree.fromstring(packet[packet.index("<x:") : packet.index("<?xpacket end")])[0]
    return {child.tag: child.text or "" for child in description}


def test_the_text_names_prompt_seed_preset_model_and_version():
    with Image.open(io.BytesIO(encode("a “red” mug\n霓虹灯 ☕").png)) as image:
        text = image.text

    assert text["prompt"] == "a “red” mug\n霓虹灯 ☕"
    assert (text["seed"], text["preset"], text["model"]) == ("7", "turbo", "zimg-tiny@r1")
    assert text["Software"] == f"zimg {__version__}"
    assert "Steps: 4, Sampler: Euler, CFG scale: 0, Seed: 7, Size: 64x48" in text["parameters"]


def test_a_variation_stands_in_the_text_and_changes_nothing_where_there_is_none():
    request = GenerationRequest(
        prompt='a mug，换一种光线, "soft"',
        width=64,
        height=48,
        seed=7,
        preset="turbo",
        model="m",
        variation='换一种光线, "soft"',
    )
    png = encode_png(Image.new("RGB", (64, 48)), request, PROFILE).png

    with Image.open(io.BytesIO(png)) as image:
        text = image.text
    assert text["variation"] == request.variation
    assert 'Variation: "换一种光线, \\"soft\\"", ' in text["parameters"]
    assert "variation" not in replace(request, variation="").to_json()


def test_the_same_request_gives_the_same_bytes_and_their_hash():
    first, second = encode("a mug"), encode("a mug")

    assert first == second
    assert first.sha256 == hashlib.sha256(first.png).hexdigest()
    assert encode("a cup").png != first.png


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (333, 7)])
def test_every_pixel_comes_back_and_the_chunks_stand_a_strict_check(size):
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    request = GenerationRequest(prompt="x", width=size[0], height=size[1], seed=1, preset="turbo", model="m")

    png = encode_png(Image.fromarray(pixels), request, PROFILE).png

    with Image.open(io.BytesIO(png)) as image:
        image.verify()  # checksums of every chunk
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == pixels).all()


def test_what_repeats_from_row_to_row_takes_little_room():
    stripes = np.random.default_rng(4).integers(0, 256, (1, 512, 3), dtype=np.uint8).repeat(512, axis=0)
    request = GenerationRequest(prompt="x", width=512, height=512, seed=1, preset="turbo", model="m")

    assert len(encode_png(Image.fromarray(stripes), request, PROFILE).png) < 20_000


def test_the_xmp_says_by_iptcs_terms_that_a_model_drew_it_and_which_one():
    read = read_xmp(encode("a “red” mug\n霓虹灯 ☕"))

    assert read[f"{IPTC}DigitalSourceType"] == TRAINED_ALGORITHMIC_MEDIA
    assert read[f"{IPTC}AIPromptInformation"] == "a “red” mug\n霓虹灯 ☕"
    assert (read[f"{IPTC}AISystemUsed"], read[f"{IPTC}AISystemVersionUsed"]) == ("zimg-tiny", "r1")
    assert f"{TC260}AIGC" not in read


@pytest.mark.parametrize(
    "prompt",
    ["</x:xmpmeta><evil/>", "<?xpacket end='w'?>", "]]><!-- & &amp; &#x41;", "\" x='y' >", "a\x01b\x0bc\x7f\ufffe"],
)
def test_no_prompt_can_put_markup_into_the_xmp(prompt):
    read = read_xmp(encode(prompt))

    assert set(read) == set(read_xmp(encode("a mug")))
    assert read[f"{IPTC}DigitalSourceType"] == TRAINED_ALGORITHMIC_MEDIA
    assert read[f"{IPTC}AIPromptInformation"] in (prompt, "a\ufffdb\ufffdc\x7f\ufffd")


def test_a_named_producer_adds_the_implicit_label_and_nothing_else():
    plain, labelled = read_xmp(encode("a mug")), read_xmp(encode("a mug", producer='Shop "北京" Ltd'))

    label = json.loads(labelled.pop(f"{TC260}AIGC"))
    assert labelled == plain
    assert (label["Label"], label["ContentProducer"]) == ("1", 'Shop "北京" Ltd')
    assert label["ProduceID"] == json.loads(read_xmp(encode("a mug", producer="x"))[f"{TC260}AIGC"])["ProduceID"]
    assert label["ProduceID"] != json.loads(read_xmp(encode("a cup", producer="x"))[f"{TC260}AIGC"])["ProduceID"]


@pytest.mark.parametrize("ground", ["white", "black", "red"])
@pytest.mark.parametrize("size", [(1024, 1024), (256, 256), (576, 1536)])
def test_the_visible_label_can_be_read_on_any_ground_and_touches_its_corner_only(ground, size):
    plain = Image.new("RGB", size, ground)

    labelled = put_label(plain)

    left, top, right, bottom = ImageChops.difference(plain, labelled).getbbox()
    assert labelled.size == size
    assert bottom - top >= min(size) * 0.05
    assert left > size[0] * 0.6
    assert top > size[1] * 0.85
    greys = labelled.crop((left, top, right, bottom)).convert("L").histogram()
    assert sum(greys[225:]) > 50
    assert sum(greys[:120]) > 50


def test_the_visible_label_is_put_on_where_wanted_and_the_text_stays_as_it_was():
    image = Image.new("RGB", (256, 256), "red")
    request = GenerationRequest(prompt="a", width=256, height=256, seed=1, preset="turbo", model="m")
    plain, labelled = (encode_png(image, request, PROFILE, marking=Marking(visible=on)).png for on in (False, True))

    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(labelled)) as other:
        assert one.text == other.text
        assert ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is not None


def test_a_decode_in_tiles_is_told_where_the_engine_names_it():
    def parameters(picture: EncodedPicture) -> str:
        with Image.open(io.BytesIO(picture.png)) as image:
            return str(image.text["parameters"])

    assert "Decode: tiled, Version" in parameters(encode("a", decode_mode="tiled"))
    assert "Decode" not in parameters(encode("a"))


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


def test_a_spool_forgets_what_ended_elsewhere_but_no_picture_that_still_waits_however_old(tmp_path):
    """Followers and long deadlines outlive a day; the job's own end says when nobody wants its picture."""
    for name in ("ended", "waiting"):
        (tmp_path / f"{name}.spooled").write_bytes(b"x")
    long_ago = time.time() - 7 * KEPT_SECONDS
    os.utime(tmp_path / "waiting.spooled", (long_ago, long_ago))

    Spool(tmp_path, ended=lambda ids: {"ended"} & set(ids)).sweep()

    assert [path.stem for path in tmp_path.iterdir()] == ["waiting"]


def test_a_worker_that_spools_nothing_any_more_forgets_what_ended_from_its_start_on(tmp_path):
    (tmp_path / "ended.spooled").write_bytes(b"x")
    asked = [threading.Event(), threading.Event(), threading.Event()]

    def ended(ids):
        next(event for event in asked if not event.is_set()).set()
        if not asked[1].is_set():
            raise ValueError("an answer that nobody expects")
        return ids

    sweeper = Sweeper(Spool(tmp_path, ended), every_seconds=0.01)
    sweeper.start()
    try:
        assert asked[1].wait(10), "and what goes wrong once does not end it"
        while list(tmp_path.iterdir()):
            assert not asked[2].wait(0.01)
    finally:
        sweeper.close()


def test_a_spool_forgets_what_was_never_written_whole_after_a_day(tmp_path):
    for name in ("old", "young"):
        (tmp_path / f"{name}.7.part").write_bytes(b"x")
    long_ago = time.time() - KEPT_SECONDS - 1
    os.utime(tmp_path / "old.7.part", (long_ago, long_ago))

    Spool(tmp_path).sweep()

    assert [path.name for path in tmp_path.iterdir()] == ["young.7.part"]


def test_a_picture_that_the_disk_does_not_take_is_said_to_be_kept_nowhere(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    assert not Spool(tmp_path / "file" / "below").keep("job", encode("a mug"))
