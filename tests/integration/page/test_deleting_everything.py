"""Deleting everything takes several calls where there is much: the page says how far it is, and is pressed once."""

import json

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish

NAME = "shop"


@pytest.fixture
def account(page, inviting_api, parts, worker, complaints):
    """The account page of a shop with three canceled jobs."""
    key, _ = parts.tenants.create_key(NAME)
    wish = Wish(prompt="a red mug", width=256, height=256)
    for one in parts.submission.submit_pictures(parts.tenants.get(NAME), wish, 3):
        parts.jobs.cancel(one.job_id)
    page.goto(f"{inviting_api.url}/account")
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#jobs tr")).to_have_count(3)
    yield page
    assert complaints.lines == []


class Calls:
    """Each call waits until it is let go: with an answer of the service as if its time were over, or to the service."""

    def __init__(self, page):
        self._page = page
        self._held = []
        page.route("**/v1/account/data?*", self._hold)

    def _hold(self, route):
        self._held.append(route)

    def next(self):
        while not self._held:
            self._page.wait_for_timeout(20)
        return self._held.pop(0)

    def answer(self, **told):
        self.next().fulfill(status=200, content_type="application/json", body=json.dumps(told))

    def let_go(self):
        self.next().continue_()

    @property
    def waiting(self):
        return len(self._held)


def test_several_calls_go_on_by_themselves_and_are_told(account, parts):
    calls = Calls(account)
    button, progress = account.get_by_role("button", name="Delete everything"), account.locator("#delete-progress")
    account.fill("#confirm", NAME)
    button.click()
    expect(progress).to_have_text("Deleting…")
    expect(button).to_have_attribute("aria-disabled", "true")
    calls.answer(removed=0, canceled=900, remaining=12_000, ending=0)
    expect(progress).to_have_text("Deleting: 0 jobs are gone, 12,000 to go")
    calls.answer(removed=11_999, canceled=0, remaining=4, ending=1)
    expect(progress).to_have_text("Deleting: 11,999 jobs are gone, 4 to go")
    expect(button).to_have_attribute("aria-disabled", "true")

    calls.let_go()

    expect(account.locator("#toast")).to_have_text("Deleted: 12,002 jobs")
    expect(progress).to_have_text("")
    expect(button).not_to_have_attribute("aria-disabled", "true")
    expect(account.locator("#no-jobs")).to_be_visible()
    assert parts.jobs.list_jobs(NAME) == []


def test_a_second_press_meanwhile_asks_for_nothing(account):
    calls = Calls(account)
    account.fill("#confirm", NAME)
    account.press("#confirm", "Enter")
    expect(account.locator("#delete-progress")).to_have_text("Deleting…")
    account.press("#confirm", "Enter")
    account.get_by_role("button", name="Delete everything").click(force=True)

    calls.let_go()

    expect(account.locator("#toast")).to_have_text("Deleted: 3 jobs")
    assert calls.waiting == 0


def test_jobs_that_are_still_ending_are_waited_for(account, parts):
    calls = Calls(account)
    account.fill("#confirm", NAME)
    account.press("#confirm", "Enter")

    calls.answer(removed=5, canceled=1, remaining=1, ending=1)

    expect(account.locator("#delete-progress")).to_have_text("Deleting: 5 jobs are gone, 1 to go")
    calls.let_go()
    expect(account.locator("#toast")).to_have_text("Deleted: 8 jobs")
    assert parts.jobs.list_jobs(NAME) == []


def test_jobs_that_do_not_end_are_named_for_as_long_as_one_looks(account):
    account.clock.install()
    calls = Calls(account)
    account.get_by_role("button", name="中文").click()
    account.fill("#confirm", NAME)
    account.press("#confirm", "Enter")
    expect(account.locator("#delete-progress")).to_have_text("正在删除…")
    calls.answer(removed=5, canceled=1, remaining=1, ending=1)
    expect(account.locator("#delete-progress")).to_contain_text("还剩 1 个")

    account.clock.fast_forward("03:00")
    calls.answer(removed=0, canceled=0, remaining=1, ending=1)

    expect(account.locator("#delete-error")).to_have_text("还有 1 个任务正在结束，请稍后再删除一次。")
    expect(account.locator("#delete-progress")).to_have_text("")
    account.get_by_role("button", name="English").click()
    expect(account.locator("#delete-error")).to_have_text("1 job is still ending; delete again in a moment.")


def test_after_a_refusal_the_button_is_free_again(account, complaints):
    account.fill("#confirm", "shopp")
    account.press("#confirm", "Enter")

    expect(account.locator("#delete-error")).to_contain_text("own name")
    expect(account.locator("#delete-progress")).to_have_text("")
    expect(account.get_by_role("button", name="Delete everything")).not_to_have_attribute("aria-disabled", "true")
    complaints.lines = [line for line in complaints.lines if "status of 400" not in line]
