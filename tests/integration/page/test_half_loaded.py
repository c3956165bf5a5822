"""A page that did not load whole says so and sends nothing; a browser that keeps nothing for us is enough."""

import pytest
from playwright.sync_api import expect

from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"
NO_STORAGE = (
    "Object.defineProperty(window, '{name}', {{ get() {{ throw new DOMException('denied', 'SecurityError'); }} }})"
)
PAGES = {"/": "vary.js", "/account": "quota.js", "/admin": "admin_workers.js"}


@pytest.mark.parametrize(("path", "module"), PAGES.items())
def test_a_page_whose_module_did_not_come_says_so(page, inviting_api, parts, worker, path, module):
    page.route(f"**/static/{module}", lambda route: route.abort())
    page.goto(f"{inviting_api.url}{path}")

    expect(page.locator("#not-loaded")).to_be_visible()
    expect(page.locator("#not-loaded")).to_contain_text("Reload")
    expect(page.locator("#not-loaded")).to_contain_text("刷新")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_that_is_whole_does_not(page, inviting_api, parts, worker, path):
    page.goto(f"{inviting_api.url}{path}")

    expect(page.locator("#not-loaded")).to_have_count(0)


def test_words_do_not_go_into_the_address_where_a_module_is_missing(page, live, parts, worker):
    page.route("**/static/vary.js", lambda route: route.abort())
    page.goto(live.url)
    page.fill("#prompt", "private words")
    page.locator("#go").click()
    expect(page.locator("#not-loaded")).to_be_visible()

    assert page.url == f"{live.url}/"
    expect(page.locator("#prompt")).to_have_value("private words")


def test_without_scripts_the_page_says_what_it_needs_and_sends_nothing(browser, live, parts, worker):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(live.url)
    page.fill("#prompt", "private words")
    page.locator("#go").click()

    expect(page.locator("#not-loaded")).to_contain_text("needs JavaScript")
    expect(page.locator("#not-loaded")).to_be_visible()
    assert page.url == f"{live.url}/"
    context.close()


def without_storage(page):
    for name in ("localStorage", "sessionStorage"):
        page.add_init_script(NO_STORAGE.format(name=name))


def test_the_page_draws_without_storage(page, live, parts, worker, complaints):
    without_storage(page)
    page.goto(live.url)
    expect(page.locator("#empty")).to_be_visible()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#go")).to_contain_text("生成")
    page.locator("#theme").click()
    page.check("input[value=portrait]")
    ask(page, "一只杯子")
    expect(page.locator(JOB)).to_have_count(1)
    with worker.at_work():
        expect(page.locator(".card[data-status=succeeded]")).to_have_count(1)
    page.locator(".card-open").click()
    page.locator("#star").click()
    page.keyboard.press("Escape")
    page.locator("#starred-only").check()
    expect(page.locator(JOB)).to_have_count(1)

    assert complaints.lines == []


@pytest.mark.parametrize(
    ("path", "field", "shown"), [("/account", "#key", "#tenant"), ("/admin", "#admin-key", "#tiles")]
)
def test_account_and_operator_sign_in_without_storage(
    page, inviting_api, parts, worker, complaints, path, field, shown
):
    without_storage(page)
    page.goto(f"{inviting_api.url}{path}")
    page.fill(field, "the-operators-own-key")
    page.press(field, "Enter")

    expect(page.locator(shown)).to_be_visible()
    expect(page.locator("#content")).to_be_visible()
    assert complaints.lines == []
