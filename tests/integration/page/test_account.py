"""The account page in a real browser: usage, key, jobs, deleting; signing in and signing up."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from scheduler.tenants import hash_key

NAME = "shop"


@pytest.fixture
def account(page, inviting_api, parts, complaints):
    """The account page, signed in as `shop`."""
    key, _ = parts.tenants.create_key(NAME, label="till")
    page.goto(f"{inviting_api.url}/account")
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#tenant")).to_have_text(NAME)
    page.old_key = key
    yield page
    assert complaints.lines == []


def draw(parts, worker, count=1, prompt="a red mug"):
    wish = Wish(prompt=prompt, width=256, height=256)
    parts.submission.submit_pictures(parts.tenants.get(NAME), wish, count)
    worker.draw_all()


def test_it_shows_what_is_left_thirty_days_and_ones_jobs(account, parts, worker):
    parts.tenants.change(NAME, {"daily_units": 500})
    draw(parts, worker, 3)
    account.reload()

    expect(account.locator("#left")).to_have_text("497")
    expect(account.locator("#used")).to_have_text("3")
    expect(account.locator("#chart rect.chart-bar:not(.chart-reserved)")).to_have_count(30)
    heights = account.locator("#chart rect.chart-bar:not(.chart-reserved)").evaluate_all(
        "(all) => all.map((one) => Number(one.getAttribute('height')))"
    )
    assert [height > 0 for height in heights] == [False] * 29 + [True]
    expect(account.locator("#chart-rows tr").last).to_contain_text("3")
    expect(account.locator("#jobs tr")).to_have_count(3)
    expect(account.locator("#jobs a").first).to_have_text("a red mug")
    expect(account.locator("#limits")).to_contain_text("500")


def test_a_replaced_key_is_shown_once_and_the_page_stays_signed_in(account, parts):
    account.select_option("#overlap", label="no longer")
    account.get_by_role("button", name="Replace the key").click()
    expect(account.locator("#secret-dialog")).to_be_visible()
    fresh = account.locator("#secret").input_value()
    account.get_by_role("button", name="Done").click()

    expect(account.locator("#key-facts")).to_contain_text(fresh[-4:])
    expect(account.locator("#secret")).to_have_value("")
    assert parts.tenants.find(hash_key(fresh)).name == NAME
    assert parts.tenants.find(hash_key(account.old_key)) is None
    account.reload()
    expect(account.locator("#tenant")).to_have_text(NAME)
    assert fresh not in account.content()


def test_a_replaced_key_works_for_an_hour_more_unless_one_chooses_otherwise(account, parts):
    """So that an answer which gets lost can be asked for again."""
    account.get_by_role("button", name="Replace the key").click()
    expect(account.locator("#secret-dialog")).to_be_visible()

    old = next(one for one in parts.tenants.list_keys() if one.hint == account.old_key[-4:])
    assert 3590_000 <= old.expires_ms - parts.tenants.now_ms() <= 3600_000
    assert parts.tenants.find(hash_key(account.old_key)).name == NAME


def test_data_is_deleted_only_when_the_name_was_typed(account, parts, worker, complaints):
    draw(parts, worker, 2)
    account.reload()
    expect(account.locator("#jobs tr")).to_have_count(2)
    account.fill("#confirm", "shopp")
    account.press("#confirm", "Enter")
    expect(account.locator("#delete-error")).to_contain_text("own name")
    assert len(parts.jobs.list_jobs(NAME)) == 2

    account.fill("#confirm", NAME)
    account.press("#confirm", "Enter")

    expect(account.locator("#toast")).to_have_text("Deleted: 2 jobs")
    expect(account.locator("#no-jobs")).to_be_visible()
    assert parts.jobs.list_jobs(NAME) == []
    complaints.lines = [line for line in complaints.lines if "status of 400" not in line]


def test_an_invite_signs_one_up_and_shows_the_key_once(page, inviting_api, parts):
    code, _ = parts.invites.create(daily_units=40)
    page.goto(f"{inviting_api.url}/account")
    page.fill("#code", "invite_wrong")
    page.fill("#name", "ada")
    page.press("#name", "Enter")
    expect(page.locator("#sign-up-error")).to_contain_text("not known")

    page.fill("#code", code)
    page.press("#code", "Enter")

    expect(page.locator("#secret-dialog")).to_be_visible()
    assert page.locator("#secret").input_value().startswith("zimg_")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#tenant")).to_have_text("ada")
    expect(page.locator("#left")).to_have_text("40")


def test_where_nobody_may_sign_up_the_page_does_not_offer_it(page, live, parts):
    parts.tenants.create_key(NAME)
    page.goto(f"{live.url}/account")

    expect(page.locator("#key")).to_be_focused()
    expect(page.locator("#sign-up")).to_be_hidden()


def test_the_main_page_leads_to_the_account_and_words_are_chinese_where_asked(page, live, parts):
    page.goto(live.url)
    page.get_by_role("link", name="Account").click()
    expect(page.locator("#tenant")).to_have_text("local")
    expect(page.locator("#key-none")).to_contain_text("no key is needed")

    page.get_by_role("button", name="中文").click()

    expect(page.locator("h1")).to_contain_text("账户")
    expect(page.locator("#limits")).to_contain_text("每日张数")
    untranslated = page.evaluate(
        "() => [...document.querySelectorAll('[data-i18n]')].filter((one) => !one.textContent)"
    )
    assert untranslated == []


def test_a_job_appears_by_itself(account, parts, worker):
    draw(parts, worker)
    expect(account.locator("#jobs tr")).to_have_count(1)


def sign_in(page, api, key):
    page.goto(f"{api.url}/account")
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#content")).to_be_visible()


def test_a_key_with_a_limit_of_its_own_is_told_what_is_left_to_it(page, inviting_api, parts, worker, complaints):
    key, _ = parts.tenants.create_key(NAME, daily_units=3, burst=2)
    sign_in(page, inviting_api, key)
    expect(page.locator("#left")).to_have_text("3")
    expect(page.locator("#left-note")).to_have_text("of 3 a day by this key")
    expect(page.locator("#key-facts")).to_contain_text("Pictures a day by this key3")
    expect(page.locator("#key-facts")).to_contain_text("Pictures at once by this key2")

    headers = {"Authorization": f"Bearer {key}"}
    for number in range(2):
        body = {"prompt": f"mug {number}", "size": "256x256"}
        assert page.request.post(f"{inviting_api.url}/v1/jobs", data=body, headers=headers).ok

    expect(page.locator("#left")).to_have_text("1")
    expect(page.locator("#daily")).to_have_js_property("value", 1)
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#key-facts")).to_contain_text("此密钥每日张数3")
    expect(page.locator("#key-facts")).to_contain_text("此密钥一次最多张数2")
    assert complaints.lines == []


def test_where_the_account_has_less_left_than_the_key_that_is_what_counts(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key(NAME, daily_units=40)
    parts.tenants.change(NAME, {"daily_units": 10})
    draw(parts, worker, 4)
    sign_in(page, inviting_api, key)

    expect(page.locator("#left")).to_have_text("6")
    expect(page.locator("#left-note")).to_have_text("of 10 a day")
    expect(page.locator("#key-facts")).to_contain_text("Pictures a day by this key40")
    expect(page.locator("#key-facts")).not_to_contain_text("at once")
