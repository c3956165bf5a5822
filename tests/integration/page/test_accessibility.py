"""axe-core on every state of the page, light and dark, wide and narrow: no violations."""

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from core.webhook_store import Attempt, Endpoint
from core.workers import WorkerInfo
from scheduler.submission import Wish
from tests.fixtures.browser import WAIT_MS
from tests.integration.api.conftest import eventually, use_up
from tests.integration.page.conftest import ask
from tests.integration.page.test_parameters import drop

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
    context.set_default_timeout(WAIT_MS)
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


def test_the_page_in_every_state_has_no_violations(tab, worker, parts):
    assert violations(tab) == []

    drop(tab, replace(parts.profile, id="a" * 64), preset="turbo-8")
    expect(tab.locator("#repeated-note")).to_be_visible()
    assert violations(tab) == []
    assert not is_too_wide(tab)

    for prompt in ("drawn", "fails", "runs", "waits"):
        ask(tab, prompt)
        expect(tab.locator(".card:not([data-status=unsent])").first).to_contain_text(prompt)
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
    tab.evaluate("() => Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as over plain http
    tab.locator("#copy-picture").click()
    expect(tab.locator("#no-copy")).to_be_visible()
    tab.locator("#copy-link").click()
    expect(tab.locator("#toast")).to_be_visible()
    assert violations(tab) == []

    tab.keyboard.press("Escape")
    tab.locator(".card[data-status=failed] button").last.click()
    expect(tab.locator(".toast-act")).to_be_visible()
    assert violations(tab) == []


def test_a_prompt_that_waits_to_be_sent_has_no_violations(tab, parts, worker):
    use_up(parts)
    ask(tab, "first")
    ask(tab, "second")
    expect(tab.locator(".card[data-status=unsent]")).to_have_count(2)

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


@pytest.fixture(
    params=[("light", DESK, "en-US"), ("dark", DESK, "zh-CN"), ("light", PHONE, "zh-CN"), ("dark", PHONE, "en-US")]
)
def bare_tab(request, browser):
    """An empty tab in each look."""
    scheme, viewport, locale = request.param
    context = browser.new_context(
        color_scheme=scheme, viewport=viewport, locale=locale, bypass_csp=True, reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


def is_too_wide(page):
    return page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_the_account_page_in_every_state_has_no_violations(bare_tab, inviting_api, parts, worker):
    page = bare_tab
    key, _ = parts.tenants.create_key("shop", label="till")
    parts.tenants.change("shop", {"daily_units": 3})
    fill_webhooks(parts)
    page.goto(f"{inviting_api.url}/account")
    expect(page.locator("#code")).to_be_visible()
    assert violations(page) == []

    jobs = parts.submission.submit_pictures(
        parts.tenants.get("shop"), Wish(prompt="a red mug", width=256, height=256), 3
    )
    worker.finish(worker.claim()[0])
    parts.jobs.cancel(jobs[1].job_id)
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#jobs tr")).to_have_count(3)
    expect(page.locator(".today")).to_have_attribute("data-level", "none")
    expect(page.locator("#deliveries tr")).to_have_count(2)
    assert violations(page) == []
    assert not is_too_wide(page)
    page.locator("#rotate-form button").click()
    expect(page.locator("#secret-dialog")).to_be_visible()
    assert violations(page) == []


def test_what_a_banned_account_sees_has_no_violations(bare_tab, inviting_api, parts, worker):
    page = bare_tab
    key, _ = parts.tenants.create_key("shop")
    assert page.context.request.post(f"{inviting_api.url}/v1/session", data={"key": key}).ok
    parts.tenants.ban("shop", "the invoice of October is open, and nobody has answered our letters since " * 2)
    page.goto(inviting_api.url)
    expect(page.locator("#sign-out-here")).to_be_visible()
    assert violations(page) == []
    assert not is_too_wide(page)
    page.goto(f"{inviting_api.url}/account")
    expect(page.locator("#sign-up")).to_be_visible()
    assert violations(page) == []
    assert not is_too_wide(page)


def fill_webhooks(parts):
    """Two endpoints of the shop, one of them off, with two deliveries to the first."""
    first = Endpoint(id="wh_1", tenant="shop", url="https://shop.example/hooks", events=("job.succeeded", "job.failed"))
    off = Endpoint(id="wh_2", tenant="shop", url="https://shop.example/b", created_ms=1, disabled="it answered 410")
    for endpoint in (first, off):
        parts.webhooks.save(endpoint)
    for number, state in enumerate(("failed", "delivered")):
        sent = parts.webhooks.enqueue(first, {"id": f"evt_{number}", "type": "job.succeeded"})
        tried = Attempt(at_ms=5_000, status=0, duration_ms=3, error="the connection was refused")
        parts.webhooks.record(replace(sent, state=state, attempts=(tried,)))


def test_the_operators_page_in_every_state_has_no_violations(bare_tab, inviting_api, parts, worker):
    page = bare_tab
    page.goto(f"{inviting_api.url}/admin")
    expect(page.locator("#admin-key")).to_be_focused()
    assert violations(page) == []

    fill_service(parts, worker)
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator(".worker")).to_have_count(1)
    expect(page.locator("#letters tr")).to_have_count(1)
    expect(page.locator("#hooks tr")).to_have_count(1)
    page.locator(".worker summary").click()
    assert violations(page) == []
    assert not is_too_wide(page)
    page.locator("#tenants button").nth(0).click()
    expect(page.locator("#limits-dialog")).to_be_visible()
    assert violations(page) == []
    page.locator("#limits-cancel").click()
    parts.submission.submit_pictures(parts.tenants.get("shop"), Wish(prompt="a mug", width=256, height=256), 2)
    expect(page.locator("#tenant-queues button")).to_have_count(3)
    page.locator("#tenant-queues button").first.click()
    expect(page.locator("#waiting-jobs tr")).to_have_count(2)
    assert violations(page) == []
    assert not is_too_wide(page)
    page.locator("#waiting-dialog .go").click()
    page.locator("#tenants .danger").first.click()
    expect(page.locator("#ban-dialog")).to_be_visible()
    assert violations(page) == []


def fill_service(parts, worker):
    """Something of everything that the operator's page shows."""
    parts.tenants.create_key("shop", label="till")
    parts.tenants.create_key("cafe")
    parts.tenants.ban("cafe", "unpaid")
    parts.invites.create(uses=3, label="workshop")
    parts.jobs.pause("lane", "batch")
    shop = parts.tenants.get("shop")
    parts.submission.submit_pictures(shop, Wish(prompt="a red mug", width=256, height=256), 3)
    first, second, _ = worker.claim()
    worker.fail(first, "poison")
    worker.step(second, 2)
    gauges = {"gpu_memory_used_bytes": 5.5 * 2**30, "gpu_memory_total_bytes": 8 * 2**30}
    parts.jobs.heartbeat(WorkerInfo(name=worker.name, slots=8, device="cuda:0", plan="ring 2 x 0.32", gauges=gauges))
    endpoint = Endpoint(id="wh_1", tenant="shop", url="https://shop.example/hooks")
    parts.webhooks.save(endpoint)
    sent = parts.webhooks.enqueue(endpoint, {"id": "evt_1", "type": "job.succeeded"})
    parts.webhooks.record(replace(sent, attempts=(Attempt(at_ms=5_000, status=502, duration_ms=3, error="closed"),)))


def test_buttons_meters_and_bars_have_a_border_where_a_person_chose_the_colours(page, live, parts):
    """Backgrounds are gone there, and a button without a border is a word among words."""
    page.emulate_media(forced_colors="active")
    page.goto(live.url)

    border = page.locator("#go").evaluate("(one) => getComputedStyle(one).border")
    assert border.startswith("1px solid")
    edges = page.evaluate(
        """() => ['meter', 'progress'].map((name) => {
          const one = document.body.appendChild(document.createElement(name));
          return getComputedStyle(one).borderTopWidth;
        })"""
    )
    assert edges == ["1px", "1px"]  # how far they go is a background too


def test_the_ring_around_a_picture_that_has_the_focus_is_not_under_the_picture(home, worker):
    ask(home, "drawn")
    worker.finish(eventually(worker.claim)[0])
    picture = home.locator(".card-open")
    picture.focus()
    home.keyboard.press("Shift+Tab")
    home.keyboard.press("Tab")
    expect(picture).to_be_focused()

    ring = home.locator(".card").evaluate(
        "(one) => [getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineOffset]"
    )

    assert ring == ["solid", "2px"]  # around the card, on the page's own colour


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_selected_is_read_in_the_pages_own_colours(page, live, parts, scheme):
    """A browser's own may be dark on dark."""
    page.emulate_media(color_scheme=scheme)
    page.goto(live.url)
    colours = page.evaluate(
        """() => {
          const chosen = getComputedStyle(document.body, '::selection');
          const go = getComputedStyle(document.getElementById('go'));
          return [[chosen.color, chosen.backgroundColor], [go.color, go.backgroundColor]];
        }"""
    )
    assert colours[0] == colours[1]
