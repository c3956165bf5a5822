"""A long prompt is counted as the service counts it, never cut, and can be read in the large view by keyboard."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.page.conftest import ask
from tests.integration.page.test_accessibility import violations
from tests.integration.page.test_parameters import drop

JOB = ".card:not([data-status=unsent])"
OVER = "#prompt-over"


@pytest.mark.parametrize("letter", ["y", "😀", "字"])
def test_as_many_characters_as_the_service_reads_are_sent_whole(home, parts, worker, letter):
    ask(home, letter * 4000)

    expect(home.locator(JOB)).to_have_count(1)
    expect(home.locator(OVER)).to_have_text("")
    assert parts.jobs.list_jobs("local")[0].request.prompt == letter * 4000


def test_what_is_too_much_is_said_kept_and_not_sent(home, parts, worker):
    home.locator("#prompt").focus()
    home.keyboard.insert_text("y" * 4999 + "😀")

    expect(home.locator(OVER)).to_have_text("1,000 characters too many; at most 4,000 are read.")
    home.keyboard.press("Enter")
    expect(home.locator("#prompt")).to_be_focused()
    assert home.input_value("#prompt") == "y" * 4999 + "😀"
    assert parts.jobs.list_jobs("local") == []
    home.get_by_role("button", name="中文").click()
    expect(home.locator(OVER)).to_have_text("超出 1,000 个字符，最多读取 4,000 个。")
    home.fill("#prompt", "y" * 4001)
    expect(home.locator(OVER)).to_have_text("超出 1 个字符，最多读取 4,000 个。")
    home.fill("#prompt", "a mug")
    expect(home.locator(OVER)).to_have_text("")


def test_what_was_too_much_is_no_more_once_a_picture_brings_its_own_prompt(home, parts):
    home.locator("#prompt").focus()
    home.keyboard.insert_text("y" * 5000)
    expect(home.locator(OVER)).not_to_have_text("")

    drop(home, parts.profile)

    expect(home.locator("#prompt")).to_have_value("a red mug, closer")
    expect(home.locator(OVER)).to_have_text("")


@pytest.mark.parametrize(("size", "length"), [((1280, 800), 2500), ((360, 740), 400)])
def test_a_long_prompt_in_the_large_view_is_scrolled_by_keyboard(browser, live, parts, worker, size, length):
    wish = Wish(prompt=("a red mug on a white background, studio light. " * 60)[:length], width=256, height=256)
    parts.submission.submit_pictures(parts.tenants.local(), wish, 1)
    worker.draw_all()
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, bypass_csp=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto(live.url)
    page.locator(".card-open").click()
    expect(page.locator("#viewer")).to_be_visible()

    assert violations(page) == []
    expect(page.locator("#viewer-close")).to_be_focused()
    page.locator("#viewer-prompt").focus()
    page.keyboard.press("End")
    page.wait_for_function("() => document.getElementById('viewer-prompt').scrollTop > 0")
    context.close()
