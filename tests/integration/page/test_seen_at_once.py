"""Whatever one asks for is seen to be on its way, whichever filter is on and wherever one has scrolled to."""

import pytest
from playwright.sync_api import expect

from core.redis_client import PREFIX
from scheduler.submission import Wish
from tests.integration.page.conftest import ask
from tests.integration.page.test_gaps import DONE, JOB, pictures

__all__ = ["pictures"]
QUEUED = ".card[data-status=queued]"
UNSENT = ".card[data-status=unsent]"


@pytest.fixture
def starred(pictures):
    """One of three pictures is starred, and those with a star are shown alone."""
    pictures.locator(".card-open").nth(1).click()
    pictures.locator("#star").click()
    pictures.keyboard.press("Escape")
    pictures.check("#starred-only", force=True)
    expect(pictures.locator(JOB)).to_have_count(1)
    return pictures


@pytest.mark.parametrize("act", ["#again", "#vary"])
def test_another_of_a_starred_picture_is_seen_to_wait(starred, act):
    starred.locator(".card-open").click()
    starred.locator(act).click()

    expect(starred.locator(QUEUED)).to_have_count(1)
    expect(starred.locator("#starred-only")).not_to_be_checked()
    expect(starred.locator(JOB)).to_have_count(4)


def test_what_is_asked_for_while_starred_ones_are_shown_alone_is_seen_to_wait(starred):
    ask(starred, "a green tent")

    expect(starred.locator(QUEUED)).to_contain_text("a green tent")
    expect(starred.locator("#starred-only")).not_to_be_checked()


@pytest.fixture
def scrolled(page, live, parts, worker):
    """The last of many pictures, far below the first, is open."""
    local = parts.tenants.local()
    parts.tenants.change("local", {"queued_jobs": 1000, "burst": 1000})
    made = parts.submission.submit_pictures(local, Wish(prompt="a mug", width=256, height=256), 1)[0].job_id
    worker.draw_all()
    parts.redis.hset(f"{PREFIX}job:{made}", "created", parts.jobs.get(made).created_ms - 60_000)
    for one in parts.submission.submit_pictures(local, Wish(prompt="above", width=256, height=256), 40):
        parts.jobs.cancel(one.job_id)
    page.goto(live.url)
    expect(page.locator(JOB)).to_have_count(41)
    page.locator(DONE).scroll_into_view_if_needed()
    page.locator(f"{DONE} .card-open").click()
    return page


def test_who_is_far_below_is_told_that_another_waits(scrolled):
    scrolled.locator("#again").click()

    expect(scrolled.locator("#toast")).to_have_text("Waiting: a mug")
    expect(scrolled.locator(QUEUED)).not_to_be_in_viewport()


def test_who_is_far_below_is_told_that_another_is_not_sent_yet(scrolled):
    scrolled.route("**/v1/jobs", lambda route: route.abort())

    scrolled.locator("#again").click()

    expect(scrolled.locator("#toast")).to_have_text("Not sent yet, waits: a mug")


def test_who_sees_the_card_is_told_nothing_more(pictures):
    ask(pictures, "a green tent")

    expect(pictures.locator(QUEUED)).to_have_count(1)
    expect(pictures.locator("#status")).to_have_text("Waiting: a green tent")
    expect(pictures.locator("#toast")).to_have_text("")
