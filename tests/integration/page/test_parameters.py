"""A dropped picture shows and repeats its parameters, and says where this service can not; so do again and vary."""

import base64
from dataclasses import replace

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from core.job import GenerationRequest
from core.workers import WorkerInfo
from tests.integration.page.conftest import PAINTER, sign_in
from worker.png import encode_png

JOB = ".card:not([data-status=unsent])"
DONE = ".card[data-status=succeeded]"
DROP = """(base64) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "a.png", { type: "image/png" }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def drop(page, profile, *, preset="turbo", variation=""):
    """A picture of that model and preset falls onto the page."""
    request = GenerationRequest(
        prompt="a red mug, closer", width=512, height=256, seed=77, preset=preset, model=profile.id, variation=variation
    )
    png = encode_png(Image.new("RGB", (512, 256)), request, profile).png
    page.evaluate(DROP, base64.b64encode(png).decode())


@pytest.fixture
def home(page, live, worker, complaints):
    page.goto(live.url)
    expect(page.locator("#quota")).to_be_attached()
    expect(page.locator("#empty")).to_be_visible()
    yield page
    assert complaints.lines == []


def drawn(page, parts, tenant="local"):
    """What the service took after Enter."""
    page.press("#prompt", "Enter")
    expect(page.locator(JOB)).to_have_count(1)
    return parts.jobs.list_jobs(tenant)[0].request


def test_a_dropped_picture_shows_preset_and_model_and_is_repeated_with_them(home, parts):
    drop(home, parts.profile, variation="closer")

    expect(home.locator("#repeated-text")).to_have_text("Seed 77 · 512 × 256 · turbo · z-image-turbo")
    expect(home.locator("#repeated-note")).to_be_hidden()
    request = drawn(home, parts)
    assert (request.prompt, request.seed, request.width, request.height) == ("a red mug, closer", 77, 512, 256)
    assert (request.preset, request.model, request.variation) == ("turbo", "z-image-turbo", "closer")


def test_where_the_service_draws_otherwise_the_page_says_what_it_draws_with(home, parts):
    drop(home, replace(parts.profile, id="z-image-turbo-2"), preset="turbo-8")

    expect(home.locator("#repeated-text")).to_contain_text("turbo-8 · z-image-turbo-2")
    expect(home.locator("#repeated-note")).to_have_text(
        "Not the same picture here: model z-image-turbo in place of z-image-turbo-2, preset turbo in place of turbo-8."
    )
    home.get_by_role("button", name="中文").click()
    expect(home.locator("#repeated-note")).to_contain_text("预设用 turbo，不用 turbo-8")
    request = drawn(home, parts)
    assert (request.seed, request.preset, request.model) == (77, "turbo", "z-image-turbo")

    home.fill("#prompt", "something else")
    expect(home.locator("#repeated-note")).to_be_hidden()


def test_another_version_of_the_model_is_told(home, parts):
    drop(home, replace(parts.profile, revision="9"))

    expect(home.locator("#repeated-note")).to_have_text(
        "Not the same picture here: model z-image-turbo@main in place of z-image-turbo@9."
    )


def test_the_preset_is_the_one_of_whose_session_it_is(home, parts):
    parts.tenants.change("local", {}, preset="turbo-8")
    drop(home, parts.profile, preset="turbo-8")

    expect(home.locator("#repeated-text")).to_contain_text("turbo-8")
    expect(home.locator("#repeated-note")).to_be_hidden()
    assert drawn(home, parts).preset == "turbo-8"


@pytest.fixture
def painters(page, inviting_api, parts, worker):
    """The page of a service with two models, signed in as `shop`."""
    key, _ = parts.tenants.create_key("shop")
    parts.jobs.heartbeat(WorkerInfo(name="painter", slots=4, queue="painter", started_ms=1))
    page.goto(inviting_api.url)
    sign_in(page, key)
    page.wait_for_load_state("networkidle")
    return page, key


def test_a_dropped_picture_is_repeated_with_its_own_model(painters, parts):
    page, _ = painters
    drop(page, PAINTER)

    expect(page.locator("#repeated-text")).to_contain_text("painter")
    expect(page.locator("#repeated-note")).to_be_hidden()
    assert drawn(page, parts, "shop").model == "painter"


def test_again_and_vary_draw_with_the_pictures_own_model(painters, inviting_api, parts, worker):
    page, key = painters
    httpx.post(
        f"{inviting_api.url}/v1/jobs",
        json={"prompt": "a red mug", "size": "256x256", "model": "painter"},
        headers={"Authorization": f"Bearer {key}"},
    ).raise_for_status()
    (release,) = parts.jobs.release(10)
    worker.finish(parts.jobs.claim(release.job_id, release.epoch, "a-lease", "painter", "painter"))
    page.reload()

    for count, name in enumerate(("Again", "Vary"), start=2):
        page.locator(f"{DONE} .card-open").click()
        page.get_by_role("button", name=name).click()
        expect(page.locator(JOB)).to_have_count(count)

    assert [job.request.model for job in parts.jobs.list_jobs("shop")] == ["painter"] * 3
