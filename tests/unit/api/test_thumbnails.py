"""Thumbnails stay small, whatever is on the picture."""

import io
import random

import pytest
from PIL import Image, ImageDraw

from api.thumbnails import HISTORY_BYTES, HISTORY_WIDTHS, WIDTHS, Thumbnails, bytes_most, shrink

HISTORY, HISTORY_BYTES_MOST = 200, 5_000_000
SHAPES = ((512, 512), (448, 576), (576, 448), (1024, 1024), (576, 1536))


def png(picture):
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


def noise(size, seed):
    return png(Image.frombytes("RGB", size, random.Random(seed).randbytes(size[0] * size[1] * 3)))


def drawing(size, seed):
    """Many small shapes of many colours, as a busy picture has."""
    rng, picture = random.Random(seed), Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(400):
        x, y, width = rng.randrange(size[0]), rng.randrange(size[1]), rng.randrange(4, 80)
        draw.ellipse((x, y, x + width, y + width), fill=tuple(rng.randrange(256) for _ in range(3)))
    return png(picture)


@pytest.mark.parametrize("draw", [noise, drawing])
@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("width", HISTORY_WIDTHS)
def test_a_history_of_200_has_less_than_5_mb_even_of_pictures_that_compress_badly(draw, size, width):
    made = shrink(draw(size, 1), width)

    assert HISTORY * len(made) < HISTORY_BYTES_MOST
    with Image.open(io.BytesIO(made)) as small:
        assert small.width == min(width, size[0])


def test_the_bound_is_what_the_promise_needs():
    assert HISTORY * HISTORY_BYTES < HISTORY_BYTES_MOST


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_has_its_bound(width):
    assert len(shrink(noise((1024, 1024), 2), width)) <= bytes_most(width)


def test_an_ordinary_picture_keeps_the_best_quality():
    """The bound costs only those that need it: a calm picture is the same with and without."""
    calm = png(Image.linear_gradient("L").resize((512, 512)).convert("RGB"))
    with Image.open(io.BytesIO(calm)) as picture:
        out = io.BytesIO()
        picture.resize((320, 320), Image.Resampling.LANCZOS, reducing_gap=2.0).save(out, "WEBP", quality=78, method=4)

    assert shrink(calm, 320) == out.getvalue()


def test_a_thumbnail_is_made_once_and_read_from_memory_then():
    reads, kept = [], Thumbnails()

    def read():
        reads.append(1)
        return drawing((256, 256), 3)

    assert kept.get("a", 160, read) == kept.get("a", 160, read)
    assert len(reads) == 1
