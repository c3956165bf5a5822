"""Each door of the running service leads the whole real way to a picture, and the picture shows what was asked for."""

import csv
import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from openai import OpenAI
from PIL import Image
from playwright.sync_api import expect

from tests.acceptance.test_real_life import finish, submit
from tests.fixtures.stack import ROOT, Stack, make_stack, wait_until

DRAW_MS = 120_000
#: Every channel of a white pixel is at least this.
WHITE = 245


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service that draws with the starter model."""
    service = make_stack(tmp_path_factory.mktemp("starter"), ZIMG_MODEL=str(ROOT / "models" / "starter"))
    try:
        service.start()
        yield service
    finally:
        service.ensure_gone()


def open_png(content: bytes) -> np.ndarray:
    """Pixels [height, width, 3]."""
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGB"))


def centre(pixels: np.ndarray) -> tuple[int, ...]:
    """The median colour of the middle ninth."""
    height, width = pixels.shape[:2]
    middle = pixels[height * 4 // 9 : height * 5 // 9, width * 4 // 9 : width * 5 // 9]
    return tuple(int(value) for value in np.median(middle.reshape(-1, 3), axis=0))


def white_border(pixels: np.ndarray) -> float:
    """Share of white pixels in the outer twentieth."""
    edge = len(pixels) // 20
    border = np.ones(pixels.shape[:2], dtype=bool)
    border[edge:-edge, edge:-edge] = False
    return float((pixels[border].min(axis=1) >= WHITE).mean())


def is_red(colour: tuple[int, ...]) -> bool:
    return colour[0] > 120 and colour[0] > 2 * max(colour[1:])


def is_blue(colour: tuple[int, ...]) -> bool:
    return colour[2] > 100 and colour[2] > 1.5 * max(colour[:2])


def is_sand(colour: tuple[int, ...]) -> bool:
    return colour[0] > colour[1] > 1.15 * colour[2] > 100


def test_a_red_mug_on_white_is_red_in_the_middle_and_white_at_the_border_and_a_scene_is_not(starter):
    with starter.http as http:
        studio = finish(http, submit(http, "a red mug on a white background", seed=5)["id"])
        scene = finish(http, submit(http, "a blue ball on a beach, masterpiece, 8k", size="256x256", seed=5)["id"])
        red, blue = (open_png(http.get(job["images"][0]["url"]).content) for job in (studio, scene))

    assert red.shape == (512, 512, 3)
    assert is_red(centre(red))
    assert white_border(red) > 0.99
    assert is_blue(centre(blue))
    assert is_sand(blue[-12:].reshape(-1, 3).mean(axis=0))
    assert white_border(blue) < 0.1


def test_a_chinese_prompt_is_understood_and_another_seed_draws_another_picture(starter):
    with starter.http as http:
        jobs = [submit(http, "白色背景上的红色杯子", size="256x256", seed=seed) for seed in (1, 2)]
        first, second = (open_png(http.get(finish(http, job["id"])["images"][0]["url"]).content) for job in jobs)

    for picture in (first, second):
        assert is_red(centre(picture))
        assert white_border(picture) > 0.99
    moved = np.abs(first.astype(int) - second).max(axis=2) > 12
    assert moved.mean() > 0.01


def test_a_prompt_typed_in_the_page_becomes_a_picture_that_the_browser_shows(starter, page, complaints):
    page.goto(starter.url)
    page.fill("#prompt", "a blue vase on a white background")
    page.press("#prompt", "Enter")

    card = page.locator(".card", has_text="a blue vase on a white background")
    expect(card).to_have_attribute("data-status", "succeeded", timeout=DRAW_MS)
    picture = card.locator("img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("picture => picture.naturalWidth") > 0
    drawn = open_png(httpx.get(f"{starter.url}/i/{card.get_attribute('data-id')}.png", timeout=20).content)
    assert is_blue(centre(drawn))
    assert white_border(drawn) > 0.99
    assert complaints.lines == []


def test_the_openai_client_gets_a_picture_with_only_its_base_url_changed(starter):
    client = OpenAI(base_url=f"{starter.url}/v1", api_key="none")

    made = client.images.generate(model="z-image-turbo", prompt="a red mug, product photo", size="256x256")

    drawn = open_png(httpx.get(made.data[0].url, timeout=20).content)
    assert drawn.shape == (256, 256, 3)
    assert is_red(centre(drawn))


def test_a_product_list_comes_back_with_pictures_of_each_product(starter):
    sheet = "sku,title,shelf\nA-1,blue bottle,7\nB-2,red box,9\n"
    with starter.http as http:
        answer = http.post("/v1/batches", files={"file": ("products.csv", sheet, "text/csv")}, data={"size": "256x256"})
        assert answer.is_success, answer.text
        batch = f"/v1/batches/{answer.json()['id']}"
        wait_until(lambda: http.get(batch).json()["status"] == "completed", seconds=DRAW_MS / 1000)

        rows = list(csv.DictReader(io.StringIO(http.get(f"{batch}/manifest.csv").content.decode("utf-8-sig"))))

        assert {(row["sku"], row["shelf"]) for row in rows} == {("A-1", "7"), ("B-2", "9")}
        links = [value for row in rows for value in row.values() if value and "/i/" in value]
        assert len(set(links)) == 4
        for row in rows:
            pictures = [open_png(http.get(link).content) for link in row.values() if link and "/i/" in link]
            asked = is_blue if row["sku"] == "A-1" else is_red
            assert all(asked(centre(pixels)) for pixels in pictures), row
            assert sorted(white_border(pixels) > 0.99 for pixels in pictures) == [False, True], row
