"""What is made, or deleted, elsewhere: the history has no hole, and a picture that is gone says so."""

import httpx
import pytest
from playwright.sync_api import expect

from core.redis_client import PREFIX
from scheduler.submission import Wish
from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"
DONE = ".card[data-status=succeeded]"
GONE = "This picture is gone: it expired, or it was deleted."
BACK = "() => document.dispatchEvent(new Event('visibilitychange'))"


def canceled(parts, *prompts):
    """One ended job for each, as a program elsewhere makes them."""
    for prompt in prompts:
        wish = Wish(prompt=prompt, width=256, height=256)
        parts.jobs.cancel(parts.submission.submit_pictures(parts.tenants.local(), wish, 1)[0].job_id)


@pytest.mark.parametrize("count", [70, 300])
def test_however_much_was_made_elsewhere_there_is_no_hole_in_the_history(page, live, parts, worker, count):
    parts.tenants.change("local", {"queued_jobs": 1000, "burst": 1000})
    canceled(parts, *(f"before {number}" for number in range(60)))
    page.goto(live.url)
    expect(page.locator(JOB)).to_have_count(48)
    ask(page, "asked here")
    expect(page.locator(JOB)).to_have_count(49)
    canceled(parts, *(f"elsewhere {number}" for number in range(count)))

    page.evaluate(BACK)

    expect(page.locator(JOB).first).to_contain_text(f"elsewhere {count - 1}")
    while page.locator("#more").is_visible():
        before = page.locator(JOB).count()
        page.locator("#more").click()
        expect(page.locator(JOB)).not_to_have_count(before)
    made = [*(f"before {n}" for n in range(60)), "asked here", *(f"elsewhere {n}" for n in range(count))]
    assert page.locator(".card-text").all_inner_texts() == made[::-1]


def test_an_answer_that_was_on_its_way_when_the_list_began_anew_brings_nothing_back(page, live, parts, worker):
    page.goto(live.url)
    ask(page, "asked here")
    expect(page.locator(JOB)).to_have_count(1)
    held, numbers = [], iter(range(9))

    def hold(route):
        held.append(route)

    page.route("**/v1/jobs?ids=*", hold)
    while not held:
        page.wait_for_timeout(20)
    (real,) = httpx.get(f"{live.url}/v1/jobs").json()["data"]

    def elsewhere(route):
        number = next(numbers)
        made = {**real, "id": f"{number:032x}", "prompt": f"elsewhere {number}", "status": "canceled"}
        route.fulfill(json={"object": "list", "data": [made], "next_cursor": "more"})

    page.route("**/v1/jobs?limit=*", elsewhere)
    page.evaluate(BACK)
    expect(page.locator(JOB)).to_have_count(5)
    held[0].fulfill(json={"object": "list", "data": [real]})
    page.evaluate("() => new Promise((done) => setTimeout(done, 50))")

    assert page.locator(".card-text").all_inner_texts() == [f"elsewhere {number}" for number in range(5)]


@pytest.fixture
def pictures(page, live, parts, worker):
    """The page with three pictures, each of another second."""
    for age, prompt in enumerate(("third", "second", "first")):
        wish = Wish(prompt=prompt, width=256, height=256)
        made = parts.submission.submit_pictures(parts.tenants.local(), wish, 1)[0].job_id
        worker.draw_all()
        parts.redis.hset(f"{PREFIX}job:{made}", "created", parts.jobs.get(made).created_ms - 60_000 * (3 - age))
    page.goto(live.url)
    expect(page.locator(DONE)).to_have_count(3)
    return page


def delete_elsewhere(parts, live, prompt):
    (job,) = (job for job in parts.jobs.list_jobs("local") if job.request.prompt == prompt)
    httpx.delete(f"{live.url}/v1/jobs/{job.id}").raise_for_status()


def test_what_was_deleted_elsewhere_is_gone_when_one_comes_back(pictures, live, parts):
    delete_elsewhere(parts, live, "second")

    pictures.evaluate(BACK)

    expect(pictures.locator(".card-text")).to_have_text(["first", "third"])


def test_a_picture_that_was_deleted_elsewhere_says_so_and_its_card_goes(pictures, live, parts):
    delete_elsewhere(parts, live, "second")

    pictures.locator(f"{DONE} .card-open").nth(1).click()

    expect(pictures.locator("#viewer-missing")).to_have_text(GONE)
    expect(pictures.locator("#viewer-image")).to_be_hidden()
    for act in ("#download", "#copy-picture", "#copy-link"):
        expect(pictures.locator(act)).to_be_hidden()
    pictures.keyboard.press("ArrowRight")
    expect(pictures.locator("#viewer-missing")).to_be_hidden()
    expect(pictures.locator("#viewer-image")).to_be_visible()
    expect(pictures.locator("#download")).to_be_visible()
    pictures.keyboard.press("ArrowLeft")
    expect(pictures.locator("#viewer-missing")).to_have_text(GONE)
    pictures.keyboard.press("Escape")
    expect(pictures.locator(".card-text")).to_have_text(["first", "third"])
    expect(pictures.locator(".card-open").nth(1)).to_be_focused()


def test_copying_a_picture_that_was_deleted_meanwhile_says_that_it_is_gone(pictures, live, parts):
    pictures.context.grant_permissions(["clipboard-read", "clipboard-write"])
    pictures.locator(f"{DONE} .card-open").nth(1).click()
    pictures.wait_for_function("() => document.getElementById('viewer-image').naturalWidth > 0")
    delete_elsewhere(parts, live, "second")
    pictures.route("**/i/*.png", lambda route: route.continue_())  # without the browser's cache, which has it still

    pictures.get_by_role("button", name="Copy picture").click()

    expect(pictures.locator("#viewer-missing")).to_have_text(GONE)
    expect(pictures.locator("#no-copy")).to_be_hidden()
    expect(pictures.locator("#viewer-close")).to_be_focused()


def test_a_picture_that_can_not_be_fetched_now_is_not_said_to_be_gone(pictures):
    pictures.route("**/i/*.png", lambda route: route.abort())

    pictures.locator(f"{DONE} .card-open").nth(1).click()

    expect(pictures.locator("#viewer-missing")).to_contain_text("No answer from the service")
    pictures.keyboard.press("Escape")
    expect(pictures.locator(DONE)).to_have_count(3)


def test_deleting_what_was_deleted_elsewhere_is_no_fault(pictures, live, parts):
    pictures.on("dialog", lambda dialog: dialog.accept())
    pictures.locator(f"{DONE} .card-open").nth(1).click()
    expect(pictures.locator("#viewer-image")).to_be_visible()
    delete_elsewhere(parts, live, "second")

    pictures.get_by_role("button", name="Delete").click()

    expect(pictures.locator("#toast")).to_have_text("Deleted")
    expect(pictures.locator(DONE)).to_have_count(2)


def test_a_filter_hides_what_is_selected_from_the_zip(pictures):
    pictures.locator(".card-open").first.click()
    pictures.get_by_role("button", name="Star").click()
    pictures.keyboard.press("Escape")
    pictures.get_by_role("button", name="Select", exact=True).click()
    pictures.locator(".card-check").nth(1).check()
    pictures.locator(".card-check").nth(2).check()
    expect(pictures.locator("#download-selection")).to_have_text("Download 2 as ZIP")

    pictures.locator("#starred-only").check()

    expect(pictures.locator("#download-selection")).to_be_hidden()
    pictures.locator(".card-check").first.check()
    expect(pictures.locator("#download-selection")).to_have_text("Download 1 as ZIP")
    pictures.locator("#starred-only").uncheck()
    expect(pictures.locator("#download-selection")).to_have_text("Download 3 as ZIP")


def test_a_thumbnail_that_was_refused_for_once_is_asked_for_again(page, live, parts, worker):
    parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt="a mug", width=256, height=256), 1)
    worker.draw_all()
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if ".webp" in answer.url else None)
    page.route("**/*.webp*", lambda route: route.fulfill(status=429, headers={"Retry-After": "1"}), times=1)
    page.goto(live.url)

    page.wait_for_function("() => document.querySelector('.card img')?.naturalWidth > 0")
    assert answers == [429, 200]
