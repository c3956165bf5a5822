"""Reasons are told in the page's language: one that is switched says them anew at once, without a reload or a wait."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from core.job import Failure
from core.webhook_store import Attempt, Endpoint, now_ms
from tests.integration.api.conftest import eventually
from tests.integration.page.conftest import ask

SHOP = "shop"
WHY_BLACK = "The picture came out black or flat twice; another seed may do better."


@pytest.fixture
def key(parts):
    return parts.tenants.create_key(SHOP)[0]


def open_with_a_clock(page, url):
    """What the page does by itself from time to time happens no more once `stop_time` was called."""
    page.clock.install()
    page.goto(url)


def stop_time(page):
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))


def sign_in(page, key):
    page.fill("#key", key)
    page.press("#key", "Enter")


def test_why_an_endpoint_is_off_and_an_event_did_not_arrive(page, inviting_api, parts, key):
    endpoint = Endpoint(id="wh_1", tenant=SHOP, url="https://shop.example/h", disabled="it answered 410 Gone")
    parts.webhooks.save(endpoint)
    sent = parts.webhooks.enqueue(endpoint, {"id": "evt_1", "type": "job.succeeded"})
    tried = Attempt(at_ms=now_ms(), status=0, duration_ms=3, error="the connection broke off")
    parts.webhooks.record(replace(sent, state="failed", attempts=(tried,)))
    open_with_a_clock(page, f"{inviting_api.url}/account")
    sign_in(page, key)
    expect(page.locator("#endpoints tr")).to_contain_text("it answered 410 Gone")
    stop_time(page)

    page.locator("#language").click()

    expect(page.locator("#endpoints tr")).to_contain_text("对方应答 410 Gone")
    expect(page.locator("#deliveries tr")).to_contain_text("连接中断")


@pytest.mark.parametrize("path", ["/", "/account"])
def test_why_an_account_is_let_in_no_more(page, inviting_api, parts, key, path):
    assert page.context.request.post(f"{inviting_api.url}/v1/session", data={"key": key}).ok
    parts.tenants.ban(SHOP, "unpaid")
    open_with_a_clock(page, f"{inviting_api.url}{path}")
    expect(page.locator("#sign-in-error")).to_contain_text("Ask the operator")
    stop_time(page)

    page.evaluate("() => document.getElementById('language').click()")  # the page's own stands behind the door

    page.clock.run_for(1)
    expect(page.locator("#sign-in-error")).to_contain_text("请联系管理员")


@pytest.mark.parametrize("path", ["/", "/account"])
def test_that_the_session_is_over(page, inviting_api, parts, key, path):
    page.goto(f"{inviting_api.url}{path}")
    sign_in(page, key)
    expect(page.locator("#sign-out")).to_be_visible()
    page.context.clear_cookies()
    page.evaluate("() => new BroadcastChannel('zimg.session').postMessage('out')")
    expect(page.locator("#sign-in-error")).to_contain_text("session has ended")

    page.evaluate("() => document.getElementById('language').click()")

    expect(page.locator("#sign-in-error")).to_have_text("会话已结束，请重新登录。")


def test_why_a_picture_was_not_drawn(home, worker):
    ask(home, "a red mug")
    lease = eventually(worker.claim)[0]
    why = Failure(code="black_image", message=WHY_BLACK, retryable=False)
    worker.store.fail(lease.job_id, lease.token, why)
    card = home.locator(".card[data-status=failed]")
    expect(card).to_contain_text(WHY_BLACK)

    home.locator("#language").click()

    expect(card).to_contain_text("换一个种子可能会好")
