"""Copying, and telling that it was done: also over plain http in a local network, where browsers give no clipboard."""

import re

import pytest
from playwright.sync_api import expect

from tests.integration.page.conftest import sign_in

DONE = ".card[data-status=succeeded]"
#: The browser of the tests resolves this name to 127.0.0.1; to a page it is a foreign machine over plain http.
ON_THE_LAN = "http://zimg.lan"


@pytest.fixture
def abroad(page, inviting_api, parts, worker, complaints):
    """The page over plain http under a name that is not this machine's, signed in, with one picture in the viewer."""
    key, _ = parts.tenants.create_key("shop")
    page.goto(f"{ON_THE_LAN}:{inviting_api.port}")
    assert page.evaluate("() => isSecureContext") is False
    sign_in(page, key)
    page.fill("#prompt", "a red mug")
    page.press("#prompt", "Enter")
    with worker.at_work():
        expect(page.locator(DONE)).to_have_count(1)
    page.locator(f"{DONE} .card-open").click()
    yield page
    # A browser notes on its console that such a page can not be cut off from others that opened it.
    assert [line for line in complaints.lines if "Cross-Origin-Opener-Policy" not in line] == []


def is_seen(page, selector):
    """Whether the middle of it is what a person sees there, above whatever else is open."""
    return page.locator(selector).evaluate(
        """(one) => {
          const box = one.getBoundingClientRect();
          const there = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
          return one.contains(there) && getComputedStyle(one).opacity === '1';
        }"""
    )


def test_a_link_is_copied_over_plain_http(abroad, parts):
    abroad.get_by_role("button", name="Copy link").click()
    expect(abroad.locator("#toast")).to_have_text("Link copied")
    assert is_seen(abroad, "#toast")
    expect(abroad.get_by_role("button", name="Copy link")).to_be_focused()

    abroad.keyboard.press("Escape")
    abroad.fill("#prompt", "")
    abroad.press("#prompt", "Control+V")

    job = parts.jobs.list_jobs("shop")[0]
    assert re.fullmatch(rf"http://zimg\.lan:\d+/i/{job.id}\.png", abroad.input_value("#prompt"))


def test_a_picture_that_can_not_be_copied_over_plain_http_says_why_and_offers_another_way(abroad, parts):
    abroad.get_by_role("button", name="Copy picture").click()

    expect(abroad.locator("#no-copy")).to_contain_text("https")
    link = abroad.locator("#no-copy").get_by_role("link", name="Open the picture")
    job = parts.jobs.list_jobs("shop")[0]
    expect(link).to_have_attribute("href", f"/i/{job.id}.png")
    with abroad.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert opened.value.url.endswith(f"/i/{job.id}.png")
    opened.value.close()

    abroad.keyboard.press("Escape")
    abroad.locator(f"{DONE} .card-open").click()
    expect(abroad.locator("#no-copy")).to_be_hidden()


def test_what_the_viewer_tells_is_seen_above_the_viewer(page, live, worker):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(live.url)
    page.fill("#prompt", "a red mug")
    page.press("#prompt", "Enter")
    with worker.at_work():
        expect(page.locator(DONE)).to_have_count(1)
    page.locator(f"{DONE} .card-open").click()
    page.get_by_role("button", name="Copy link").click()

    expect(page.locator("#toast")).to_have_text("Link copied")
    assert is_seen(page, "#toast")


def test_a_new_key_is_copied_over_plain_http(page, inviting_api, parts):
    key, _ = parts.tenants.create_key("shop")
    page.goto(f"{ON_THE_LAN}:{inviting_api.port}/account")
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.get_by_role("button", name="Replace the key").click()
    expect(page.locator("#secret-dialog")).to_be_visible()
    fresh = page.locator("#secret").input_value()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#toast")).to_have_text("Copied")
    page.get_by_role("button", name="Done").click()

    page.press("#confirm", "Control+V")

    expect(page.locator("#confirm")).to_have_value(fresh)
