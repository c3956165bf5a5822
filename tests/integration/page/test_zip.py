"""A ZIP of a selection holds what can be had, and the page says what is missing and why."""

import zipfile

import httpx
import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish

DONE = ".card[data-status=succeeded]"


@pytest.fixture
def selected(page, live, parts, worker):
    """The ids of three pictures, all selected on the page, the oldest first."""
    made = parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt="a mug", width=256, height=256), 3)
    worker.draw_all()
    page.goto(live.url)
    expect(page.locator(DONE)).to_have_count(3)
    page.get_by_role("button", name="Select", exact=True).click()
    for number in range(3):
        page.locator(".card-check").nth(number).check()
    return [one.job_id for one in made]


def save(page, expected=3):
    """What the ZIP holds, after the browser has it."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Download {expected} as ZIP").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def names_of(parts, ids):
    return {f"zimg-{parts.jobs.get(one).request.seed}-{one[:8]}.png" for one in ids}


def test_a_picture_that_is_gone_is_missing_and_the_others_are_saved(page, live, parts, selected):
    httpx.delete(f"{live.url}/v1/jobs/{selected[1]}").raise_for_status()

    saved = save(page)

    assert set(saved) == names_of(parts, [selected[0], selected[2]])
    expect(page.locator("#toast")).to_have_text("1 picture is missing from the ZIP: expired or deleted")
    expect(page.locator(DONE)).to_have_count(2)
    expect(page.locator("#download-selection")).to_have_text("Download 2 as ZIP")


def test_where_all_are_gone_there_is_no_zip_and_it_says_so_in_chinese(page, live, selected):
    page.get_by_role("button", name="中文").click()
    for one in selected:
        httpx.delete(f"{live.url}/v1/jobs/{one}").raise_for_status()

    page.locator("#download-selection").click()

    expect(page.locator("#toast")).to_have_text("没有可打包的图片：已过期或被删除")


def test_a_full_service_is_waited_for_as_long_as_it_says(page, parts, selected):
    refused = []

    def refuse_once(route):
        if refused:
            return route.continue_()
        refused.append(route.request.url)
        return route.fulfill(status=429, headers={"Retry-After": "1"}, body="")

    page.route(f"**/i/{selected[0]}.png", refuse_once)

    assert set(save(page)) == names_of(parts, selected)
    assert len(refused) == 1
    expect(page.locator("#toast")).to_have_text("")


def test_without_a_network_it_says_so_and_promises_nothing(page, selected):
    page.context.set_offline(True)
    page.locator("#download-selection").click()

    expect(page.locator("#toast")).to_have_text("No ZIP: no answer from the service")
    expect(page.locator("#download-selection")).to_have_text("Download 3 as ZIP")


def test_each_reason_is_told_with_its_number(page, live, parts, selected):
    httpx.delete(f"{live.url}/v1/jobs/{selected[1]}").raise_for_status()
    page.route(f"**/i/{selected[0]}.png", lambda route: route.abort())

    assert set(save(page)) == names_of(parts, [selected[2]])
    expect(page.locator("#toast")).to_have_text(
        "2 pictures are missing from the ZIP: 1 expired or deleted, 1 no answer from the service"
    )
