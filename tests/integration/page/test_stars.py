"""Starred pictures are found however far back they are; those that are gone lose their star without a word."""

import httpx
import pytest
from playwright.sync_api import expect

from core.redis_client import PREFIX
from scheduler.submission import Wish

JOB = ".card:not([data-status=unsent])"
DONE = ".card[data-status=succeeded]"
STARS = "() => JSON.parse(localStorage.getItem('zimg.starred.local') ?? '[]').length"
LOADED_AT_ONCE = 48


def submit(parts, *prompts):
    """One job for each; their ids."""
    local = parts.tenants.local()
    wishes = [Wish(prompt=prompt, width=256, height=256) for prompt in prompts]
    return [parts.submission.submit_pictures(local, wish, 1)[0].job_id for wish in wishes]


@pytest.fixture
def starred(page, live, parts, worker):
    """The page after a reload: `old` and `older` are starred, and both further back than what it loads by itself."""
    ids = submit(parts, "older", "old")
    worker.draw_all()
    a_minute_before = parts.jobs.get(ids[0]).created_ms - 60_000  # an API tells whole seconds
    parts.redis.hset(f"{PREFIX}job:{ids[0]}", "created", a_minute_before)
    page.goto(live.url)
    expect(page.locator(DONE)).to_have_count(2)
    for card in (0, 1):  # the newer one first
        page.locator(f"{DONE} .card-open").nth(card).click()
        page.get_by_role("button", name="Star").click()
        page.keyboard.press("Escape")
    for job_id in submit(parts, *(f"since then {number}" for number in range(LOADED_AT_ONCE))):
        parts.jobs.cancel(job_id)  # of what waits the page loads more
    page.reload()
    expect(page.locator(JOB)).to_have_count(LOADED_AT_ONCE)
    return ids


def test_starred_pictures_that_are_not_loaded_are_fetched_and_shown_newest_first(page, starred):
    page.locator("#starred-only").check()

    expect(page.locator(JOB)).to_have_count(2)
    assert page.locator(".card-text").all_inner_texts() == ["old", "older"]
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#more")).to_be_hidden()  # there are no more of them
    page.locator(".card-open").first.click()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewer-prompt")).to_have_text("older")
    page.keyboard.press("Escape")

    page.locator("#starred-only").uncheck()

    expect(page.locator(JOB)).to_have_count(LOADED_AT_ONCE)  # no hole between the newest and those two
    page.locator("#more").click()
    expect(page.locator(JOB)).to_have_count(LOADED_AT_ONCE + 2)
    assert page.locator(".card-text").all_inner_texts()[-3:] == ["since then 0", "old", "older"]


def test_a_starred_picture_that_is_gone_loses_its_star(page, live, starred, complaints):
    older, old = starred
    httpx.delete(f"{live.url}/v1/jobs/{old}").raise_for_status()
    page.locator("#starred-only").check()

    expect(page.locator(JOB)).to_have_count(1)
    expect(page.locator(".card-text")).to_have_text("older")
    assert page.evaluate(STARS) == 1
    expect(page.locator("#toast")).to_have_text("")

    page.locator("#starred-only").uncheck()
    httpx.delete(f"{live.url}/v1/jobs/{older}").raise_for_status()
    page.locator("#starred-only").check()

    expect(page.locator("#empty")).to_contain_text("No starred pictures")
    assert page.evaluate(STARS) == 0
    assert complaints.lines == []


def test_while_the_starred_ones_can_not_be_fetched_the_page_does_not_say_that_there_are_none(page, starred):
    page.route("**/v1/jobs?ids=*", lambda route: route.abort())
    page.locator("#starred-only").check()

    expect(page.locator("#empty")).to_have_text("No answer from the service. Trying again…")
    page.unroute_all()

    expect(page.locator(JOB)).to_have_count(2)
    expect(page.locator("#empty")).to_be_hidden()


def test_stars_are_of_who_gave_them(page, inviting_api, parts, worker):
    keys = {name: parts.tenants.create_key(name)[0] for name in ("shop", "cafe")}
    for name in keys:
        parts.submission.submit_pictures(parts.tenants.get(name), Wish(prompt=f"of {name}", width=256, height=256), 1)
    worker.draw_all()

    def sign_in(name):
        page.goto(inviting_api.url)
        page.fill("#key", keys[name])
        page.press("#key", "Enter")
        expect(page.locator(".card-text")).to_have_text(f"of {name}")

    sign_in("shop")
    page.locator(".card-open").click()
    page.get_by_role("button", name="Star").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in")).to_be_visible()
    sign_in("cafe")
    page.locator("#starred-only").check()
    expect(page.locator("#empty")).to_contain_text("No starred pictures")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in")).to_be_visible()

    sign_in("shop")
    page.locator("#starred-only").check()

    expect(page.locator(".card-text")).to_have_text("of shop")
