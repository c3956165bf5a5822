"""The delivery log of webhooks and "Send again": on the account page for its owner, on the operator's for all."""

import re
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from core.webhook_store import Attempt, Endpoint, now_ms
from tests.integration.api.conftest import eventually

SHOP = "shop"
URL = "https://shop.example/hooks"


def save(parts, **more):
    endpoint = Endpoint(id="wh_" + "1" * 24, tenant=SHOP, url=URL, created_ms=now_ms(), **more)
    parts.webhooks.save(endpoint)
    return endpoint


def delivery(parts, endpoint, number, *, state="failed", status=502, error="", url=""):
    """One that had an attempt with this end."""
    sent = parts.webhooks.enqueue(endpoint, {"id": f"evt_{number}", "type": "job.succeeded"}, url=url)
    tried = Attempt(at_ms=now_ms(), status=status, duration_ms=3, error=error)
    parts.webhooks.record(replace(sent, state=state, attempts=(tried,), next_ms=now_ms() + 300_000))
    return sent


def sign_in(page, api, parts):
    key, _ = parts.tenants.create_key(SHOP)
    page.goto(f"{api.url}/account")
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#content")).to_be_visible()
    return page


@pytest.fixture
def account(page, inviting_api, parts, complaints):
    """Opens the account page of the shop when it is called."""
    yield lambda: sign_in(page, inviting_api, parts)
    assert complaints.lines == []


def test_what_was_sent_is_listed_with_its_answer_and_sent_again_by_keyboard(account, parts):
    endpoint = save(parts)
    delivery(parts, endpoint, 1, state="delivered", status=204)
    failed = delivery(parts, endpoint, 2, status=0, error="the connection was refused")
    page = account()
    rows = page.locator("#deliveries tr")
    expect(page.locator("#endpoints tr")).to_contain_text([URL])
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Given up")
    expect(rows.first.locator("td.answer")).to_have_text("the connection was refused")
    expect(rows.last).to_contain_text("Delivered")
    expect(rows.last).to_contain_text("204")

    again = rows.first.get_by_role("button", name="Send again")
    again.press("Enter")

    expect(page.locator("#toast")).to_have_text("It is sent again now")
    expect(rows.first).to_contain_text("On its way")
    expect(again).to_be_focused()
    assert parts.webhooks.delivery(failed.id).state == "pending"


def test_a_new_delivery_appears_by_itself(account, parts):
    endpoint = save(parts)
    page = account()
    expect(page.locator("#no-deliveries")).to_have_text("Nothing was sent there in the last 14 days.")

    delivery(parts, endpoint, 1)

    expect(page.locator("#deliveries tr")).to_have_count(1)


def test_those_that_were_given_up_are_shown_alone_and_older_ones_on_request(account, parts):
    endpoint = save(parts)
    for number in range(12):
        delivery(parts, endpoint, number, state="failed" if number == 0 else "delivered")
    page = account()
    rows = page.locator("#deliveries tr")
    expect(rows).to_have_count(10)
    page.locator("#more-deliveries").click()
    expect(rows).to_have_count(12)
    expect(page.locator("#more-deliveries")).to_be_hidden()

    page.get_by_label("Only those that were given up").check()

    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Given up")


def test_an_endpoint_that_is_off_says_why_and_is_turned_on(page, inviting_api, parts, complaints):
    failed = delivery(parts, save(parts, disabled="it answered 410"), 1)
    sign_in(page, inviting_api, parts)
    expect(page.locator("#endpoints tr")).to_contain_text("it answered 410")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("#toast")).to_contain_text("turned on first")
    assert parts.webhooks.delivery(failed.id).state == "failed"

    page.get_by_role("button", name=f"Turn on: {URL}").click()
    expect(page.locator("#endpoints tr")).not_to_contain_text("it answered 410")
    page.get_by_role("button", name="Send again").click()

    eventually(lambda: parts.webhooks.delivery(failed.id).state == "pending")
    assert parts.webhooks.endpoint("wh_" + "1" * 24).disabled == ""
    assert [line for line in complaints.lines if "409" not in line] == []  # a browser reports each 4xx answer


def test_the_log_of_each_endpoint_is_chosen_and_that_of_requests_names_their_addresses(account, parts):
    delivery(parts, save(parts), 1)
    delivery(parts, parts.webhooks.for_requests(SHOP), 2, url="https://other.example/done")
    page = account()
    expect(page.locator("#endpoints tr")).to_have_count(2)
    expect(page.locator("#deliveries tr")).to_have_count(1)

    page.get_by_role("button", name="Deliveries: addresses that requests name").click()

    expect(page.locator("#deliveries tr")).to_contain_text(["https://other.example/done"])
    expect(page.get_by_role("button", name="Deliveries: addresses that requests name")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_without_webhooks_the_page_says_where_they_come_from_in_chinese_too(account, parts):
    page = account()
    expect(page.locator("#no-endpoints")).to_contain_text("POST /v1/webhooks")
    expect(page.locator("#log")).to_be_hidden()
    delivery(parts, save(parts), 1)
    expect(page.locator("#log")).to_be_visible()

    page.get_by_role("button", name="中文").click()

    expect(page.locator("#deliveries tr")).to_contain_text("已放弃")
    page.get_by_role("button", name="重新发送").click()
    expect(page.locator("#toast")).to_have_text("正在重新发送")


def test_nothing_of_one_accounts_log_stays_for_the_next(account, inviting_api, parts):
    delivery(parts, save(parts), 1)
    page = account()
    expect(page.locator("#deliveries tr")).to_have_count(1)
    other, _ = parts.tenants.create_key("cafe")

    assert page.context.request.post(f"{inviting_api.url}/v1/session", data={"key": other}).ok
    page.reload()

    expect(page.locator("#tenant")).to_have_text("cafe")
    expect(page.locator("#no-endpoints")).to_be_visible()
    expect(page.locator("#log")).to_be_hidden()


@pytest.fixture
def admin(page, inviting_api, parts, worker):
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#alive")).to_have_text("live")
    return page


def test_the_operator_sends_a_given_up_delivery_of_any_tenant_again(admin, parts, complaints):
    failed = delivery(parts, save(parts), 1)
    row = admin.locator("#hooks tr")
    expect(row).to_contain_text("given up")
    again = admin.get_by_role("button", name=f"Send again: {URL}")

    again.press("Enter")

    expect(admin.locator("#toast")).to_have_text("It is sent again now")
    expect(row).not_to_contain_text("given up")
    expect(again).to_be_focused()
    assert parts.webhooks.delivery(failed.id).state == "pending"
    assert complaints.lines == []


def test_the_operator_is_told_who_turns_an_endpoint_on_that_is_off_and_is_offered_nothing_that_is_refused(admin, parts):
    endpoint = save(parts, disabled="it answered 410")
    delivery(parts, endpoint, 1, state="pending")
    row, again = admin.locator("#hooks tr"), admin.get_by_role("button", name=f"Send again: {URL}")
    expect(row).to_contain_text("switched off: it answered 410. Its owner can turn it on again on /account.")
    expect(again).to_have_count(0)
    tile = admin.locator(".tile", has_text="Webhook errors")
    expect(tile.locator("strong")).to_have_text("0")
    expect(tile).to_contain_text("1 more: endpoint off")
    expect(tile).not_to_have_class(re.compile("alarm"))
    expect(row.locator("td").nth(3)).to_have_text("–")  # no next try

    parts.webhooks.change(endpoint, lambda now: replace(now, disabled="it answered 410 Gone"))
    admin.get_by_role("button", name="中文").click()
    expect(row).to_contain_text("已停用：对方应答 410 Gone。其所有者可在 /account 重新开启。")

    parts.webhooks.change(endpoint, lambda now: replace(now, disabled=""))
    admin.get_by_role("button", name="English").click()

    expect(again).to_be_visible()
    expect(row).not_to_contain_text("switched off")
    expect(tile.locator("strong")).to_have_text("1")
    expect(tile).to_have_class(re.compile("alarm"))
