"""A banned account's browser is told why, offered a way out and another key, and goes on by itself after the ban."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"
WHY = "This account was stopped: the invoice of October is open. Ask the operator about it."


@pytest.fixture
def shop(page, inviting_api, parts, worker):
    """The page in the session of a shop that has drawn one picture."""
    key, _ = parts.tenants.create_key("shop")
    parts.submission.submit_pictures(parts.tenants.get("shop"), Wish(prompt="a red mug", width=256, height=256), 1)
    worker.draw_all()
    page.goto(inviting_api.url)
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator(JOB)).to_have_count(1)
    return page


def ban(parts):
    parts.tenants.ban("shop", "the invoice of October is open")


def test_the_page_says_why_and_offers_to_sign_out_and_another_key(shop, parts):
    ban(parts)
    shop.reload()

    expect(shop.locator("#sign-in")).to_be_visible()
    expect(shop.locator("#sign-in-error")).to_have_text(WHY)
    expect(shop.locator("#key")).to_be_focused()
    shop.get_by_role("button", name="Sign out").click()
    expect(shop.locator("#sign-in-error")).to_have_text("")
    expect(shop.locator("#sign-in")).to_be_visible()
    expect(shop.get_by_role("button", name="Sign out")).to_have_count(0)
    assert shop.context.cookies() == []


def test_another_account_signs_in_there(shop, parts):
    other, _ = parts.tenants.create_key("cafe")
    ban(parts)
    shop.reload()
    expect(shop.locator("#sign-in-error")).to_have_text(WHY)

    shop.fill("#key", other)
    shop.press("#key", "Enter")

    expect(shop.locator("#sign-in")).to_be_hidden()
    expect(shop.locator("#empty")).to_be_visible()
    expect(shop.locator("#sign-out")).to_be_visible()


def test_after_the_ban_the_pictures_come_back_by_themselves(shop, parts):
    ban(parts)
    shop.reload()
    expect(shop.locator("#sign-in-error")).to_have_text(WHY)

    parts.tenants.unban("shop")

    expect(shop.locator("#sign-in")).to_be_hidden()
    expect(shop.locator(JOB)).to_have_count(1)


def test_a_page_that_is_open_when_the_ban_comes_closes_with_the_reason_and_keeps_the_words(shop, parts):
    ban(parts)
    ask(shop, "one more mug")

    expect(shop.locator("#sign-in-error")).to_have_text(WHY)
    expect(shop.locator(JOB)).to_have_count(0)
    expect(shop.locator("#prompt")).to_have_value("one more mug")
    parts.tenants.unban("shop")
    expect(shop.locator(JOB)).to_have_count(1)


def test_the_account_page_does_the_same_and_speaks_chinese(shop, inviting_api, parts):
    ban(parts)
    shop.goto(f"{inviting_api.url}/account")
    expect(shop.locator("#door")).to_be_visible()
    expect(shop.locator("#sign-in-error")).to_have_text(WHY)
    expect(shop.locator("#sign-up")).to_be_visible()
    expect(shop.get_by_role("button", name="Sign out")).to_be_visible()

    parts.tenants.unban("shop")
    expect(shop.locator("#tenant")).to_have_text("shop")
    expect(shop.locator("#content")).to_be_visible()

    ban(parts)
    expect(shop.locator("#sign-in-error")).to_have_text(WHY)
    expect(shop.locator("#content")).to_be_hidden()
    shop.get_by_role("button", name="中文").click()
    shop.reload()
    expect(shop.locator("#sign-in-error")).to_contain_text("请联系管理员")
    shop.get_by_role("button", name="退出").click()
    expect(shop.locator("#sign-in-error")).to_have_text("")
    expect(shop.get_by_role("button", name="退出")).to_have_count(0)
