"""Each door of the running service - page, OpenAI's client, product list - leads the whole real way to a picture."""

import csv
import io

import httpx
from openai import OpenAI
from PIL import Image
from playwright.sync_api import expect

from tests.fixtures.stack import wait_until

DRAW_MS = 60_000


def open_png(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert picture.format == "PNG"
    return picture


def test_a_prompt_typed_in_the_page_becomes_a_picture_that_the_browser_shows(stack, page, complaints):
    page.goto(stack.url)
    page.fill("#prompt", "a paper boat on a puddle")
    page.press("#prompt", "Enter")

    card = page.locator(".card", has_text="a paper boat on a puddle")
    expect(card).to_have_attribute("data-status", "succeeded", timeout=DRAW_MS)
    picture = card.locator("img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("picture => picture.naturalWidth") > 0
    assert complaints.lines == []


def test_the_openai_client_gets_a_picture_with_only_its_base_url_changed(stack):
    client = OpenAI(base_url=f"{stack.url}/v1", api_key="none")

    made = client.images.generate(model="z-image-turbo", prompt="a red mug", size="256x256")

    assert open_png(httpx.get(made.data[0].url, timeout=20).content).size == (256, 256)


def test_a_product_list_comes_back_with_pictures_that_open(stack):
    sheet = "sku,title,shelf\nA-1,blue bottle,7\nB-2,wooden bowl,9\n"
    with stack.http as http:
        answer = http.post("/v1/batches", files={"file": ("products.csv", sheet, "text/csv")}, data={"size": "256x256"})
        assert answer.is_success, answer.text
        batch = f"/v1/batches/{answer.json()['id']}"
        wait_until(lambda: http.get(batch).json()["status"] == "completed", seconds=DRAW_MS / 1000)

        rows = list(csv.DictReader(io.StringIO(http.get(f"{batch}/manifest.csv").content.decode("utf-8-sig"))))

        assert {(row["sku"], row["shelf"]) for row in rows} == {("A-1", "7"), ("B-2", "9")}
        links = [value for row in rows for value in row.values() if value and "/i/" in value]
        assert len(set(links)) == 4
        for link in links:
            open_png(http.get(link).content)
