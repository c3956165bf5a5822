"""axe-core on every state of the page, light and dark, wide and narrow: no violations."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.integration.api.conftest import eventually

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(
    params=[("light", DESK, "en-US"), ("dark", DESK, "zh-CN"), ("light", PHONE, "zh-CN"), ("dark", PHONE, "en-US")]
)
def tab(request, browser, live):
    """A tab in each look; the policy against foreign scripts is lifted for the checker alone."""
    scheme, viewport, locale = request.param
    context = browser.new_context(
        color_scheme=scheme, viewport=viewport, locale=locale, bypass_csp=True, reduced_motion="reduce"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    yield page
    context.close()


def violations(page):
    return [
        (found["id"], [node["html"][:160] for node in found["nodes"]])
        for found in Axe().run(page).response["violations"]
    ]


def ask(page, prompt):
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")


def test_the_page_in_every_state_has_no_violations(tab, worker):
    assert violations(tab) == []

    for prompt in ("drawn", "fails", "runs", "waits"):
        ask(tab, prompt)
        expect(tab.locator(".card").first).to_contain_text(prompt)
    leases = {lease.request.prompt: lease for lease in eventually(worker.claim)}
    worker.finish(leases["drawn"])
    worker.fail(leases["fails"])
    worker.step(leases["runs"], 2)
    expect(tab.locator(".card[data-status=succeeded]")).to_have_count(1)
    expect(tab.locator(".card[data-status=failed]")).to_have_count(1)
    expect(tab.locator(".card[data-status=running]")).to_have_count(2)
    assert violations(tab) == []

    tab.locator("#select").click()
    assert violations(tab) == []

    tab.locator("#select").click()
    tab.locator(".card[data-status=succeeded] .card-open").click()
    tab.locator("#star").click()
    assert violations(tab) == []


def test_the_question_for_a_key_has_no_violations(tab):
    tab.evaluate("() => document.getElementById('sign-in').showModal()")

    assert violations(tab) == []


def test_everything_can_be_reached_with_the_tab_key_alone(tab, worker):
    ask(tab, "drawn")
    with worker.at_work():
        expect(tab.locator(".card[data-status=succeeded]")).to_have_count(1)
    wanted = tab.evaluate(
        "() => [...document.querySelectorAll('a, button, input, textarea')]"
        ".filter((one) => one.checkVisibility() && !one.disabled && !one.closest('dialog')"
        " && !(one.type === 'radio' && !one.checked)).length"
    )
    reached = set()
    tab.evaluate("() => document.activeElement.blur()")
    for _ in range(3 * wanted):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("() => [...document.querySelectorAll('*')].indexOf(document.activeElement)"))

    assert len(reached - {-1, 0}) >= wanted
