"""Nothing sticks out, on a desk, on a small laptop, on a phone, in both languages."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from core.workers import WorkerInfo
from scheduler.submission import Wish
from tests.integration.api.conftest import eventually
from tests.integration.page.test_accessibility import fill_service, fill_webhooks

SIZES = ((1280, 800), (1024, 768), (390, 844))
PHONE = {"width": 390, "height": 844}
#: What sticks out of the page, or of the card that it stands in; with an open dialog: of the dialog.
STICKING_OUT = """async () => {
  for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
  const root = document.documentElement;
  const top = document.querySelector('dialog[open]') ?? document.body;
  const found = root.scrollWidth > root.clientWidth ? [`the page: ${root.scrollWidth} > ${root.clientWidth}`] : [];
  for (const one of top.querySelectorAll('button, a, input, select, .pill, meter')) {
    if (!one.checkVisibility() || one.closest('.hidden-text, .skip')) continue;
    const card = one.closest('.worker, .panel, .composer, .card, dialog, header') ?? document.body;
    const [inner, outer] = [one.getBoundingClientRect(), card.getBoundingClientRect()];
    const isOut = inner.left < outer.left - 0.5 || inner.right > outer.right + 0.5;
    if (isOut) found.push(`${one.outerHTML.slice(0, 120)} of ${card.className}`);
  }
  return found;
}"""

#: Words of the chart that stand on others of it.
OVERLAPPING = """() => {
  const words = [...document.querySelectorAll('.chart-text')];
  const boxes = words.map((one) => [one.textContent, one.getBoundingClientRect()]);
  return boxes.flatMap(([one, a], at) => boxes.slice(at + 1)
    .filter(([, b]) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
    .map(([other]) => `${one} on ${other}`));
}"""

#: Words that are cut off, or stand outside of the box that they belong in.
CUT_OFF = """([words, boxes]) => [...document.querySelectorAll(words)].flatMap((one) => {
  if (!one.checkVisibility()) return [];
  const range = document.createRange();
  range.selectNodeContents(one);
  const [inner, outer] = [range.getBoundingClientRect(), one.closest(boxes).getBoundingClientRect()];
  return inner.left < outer.left - 0.5 || inner.right > outer.right + 0.5 ? [one.textContent] : [];
})"""

#: How far down the middle of each is.
MIDDLES = "(all) => all.map((one) => one.getBoundingClientRect()).map((box) => (box.top + box.bottom) / 2)"


def sticking_out(page):
    """In every size; the words that are on the page now."""
    found = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        found[width] = page.evaluate(STICKING_OUT)
    return {width: those for width, those in found.items() if those}


def other_language(page):
    page.locator("#language").click()


def test_the_page_fits_while_it_draws_selects_and_shows_a_picture(page, live, worker, parts, complaints):
    page.goto(live.url)
    page.fill("#prompt", "a red mug on a white table, morning light, seen from the side")
    page.check("input[value='4']", force=True)
    page.press("#prompt", "Enter")
    drawn, failed, runs, _ = eventually(worker.claim)
    worker.finish(drawn)
    worker.fail(failed)
    worker.step(runs, 2)
    expect(page.locator(".card[data-status=failed]")).to_have_count(1)
    expect(page.locator(".card[data-status=succeeded]")).to_have_count(1)
    for _ in ("en-US", "zh-CN"):
        page.locator("#select").click()
        page.locator(".card-check").check()
        assert sticking_out(page) == {}
        page.locator("#select").click()
        page.locator(".card-open").click()
        assert sticking_out(page) == {}
        page.keyboard.press("Escape")
        other_language(page)
    assert complaints.lines == []


def test_the_account_page_fits(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop", label="till")
    page.goto(f"{inviting_api.url}/account")
    expect(page.locator("#code")).to_be_visible()
    assert sticking_out(page) == {}
    wish = Wish(prompt="a red mug on a white table, morning light", width=1024, height=1024)
    parts.submission.submit_pictures(parts.tenants.get("shop"), wish, 3)
    worker.finish(worker.claim()[0])
    fill_webhooks(parts)
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#jobs tr")).to_have_count(3)
    for _ in ("en-US", "zh-CN"):
        assert sticking_out(page) == {}
        assert page.evaluate(OVERLAPPING) == []  # on a phone: the last of the sizes
        other_language(page)
    page.locator("#rotate-form button").click()
    expect(page.locator("#secret-dialog")).to_be_visible()
    assert sticking_out(page) == {}


def test_the_operators_page_and_its_dialogs_fit(page, inviting_api, parts, worker):
    fill_service(parts, worker)
    parts.submission.submit_pictures(parts.tenants.get("shop"), Wish(prompt="a mug", width=256, height=256), 30)
    page.goto(f"{inviting_api.url}/admin")
    assert sticking_out(page) == {}
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#tenant-queues button")).to_have_count(3)
    for _ in ("en-US", "zh-CN"):
        assert sticking_out(page) == {}
        for opener, closer in (
            ("#tenants button >> nth=0", "#limits-cancel"),
            ("#tenants .danger >> nth=0", "#ban-cancel"),
            ("#tenant-queues button >> nth=0", "#waiting-dialog .go"),
        ):
            page.locator(opener).click()
            expect(page.locator(closer)).to_be_in_viewport(ratio=1)
            assert sticking_out(page) == {}
            page.locator(closer).click()
        other_language(page)


def test_the_order_of_many_waiting_jobs_opens_at_its_title(page, inviting_api, parts, worker):
    fill_service(parts, worker)
    parts.submission.submit_pictures(parts.tenants.get("shop"), Wish(prompt="a mug", width=256, height=256), 30)
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    page.locator("#tenant-queues button").first.click()

    expect(page.locator("#waiting-title")).to_be_in_viewport(ratio=1)
    expect(page.locator("#waiting-dialog .go")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("width", [320, 360, 390])
def test_a_phones_bar_is_one_line_with_all_that_it_offers(page, inviting_api, parts, worker, width):
    page.set_viewport_size({"width": width, "height": 844})
    key, _ = parts.tenants.create_key("shop")
    parts.tenants.change("shop", {"daily_units": 20})
    page.goto(inviting_api.url)
    page.fill("#key", key)
    page.press("#key", "Enter")
    expect(page.locator("#quota")).to_be_visible()
    expect(page.locator("#sign-out")).to_be_visible()
    for path in ("/", "/account"):
        page.goto(f"{inviting_api.url}{path}")
        expect(page.locator("#sign-out")).to_be_visible()
        assert_bar_is_one_line(page)


@pytest.mark.parametrize("width", [320, 390])
def test_the_operators_bar_on_a_phone_is_one_line(page, inviting_api, parts, worker, width):
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#leave")).to_be_visible()
    for _ in ("en-US", "zh-CN"):
        assert_bar_is_one_line(page)
        other_language(page)


def assert_bar_is_one_line(page):
    places = page.locator(".brand, .bar-end > :visible").evaluate_all(MIDDLES)
    assert max(places) - min(places) < 2
    heights = page.locator(".bar-end > :visible").evaluate_all("(all) => all.map((one) => one.offsetHeight)")
    assert max(heights) < 44, heights  # of one line each
    assert page.evaluate(STICKING_OUT) == []


def test_a_tenants_long_name_does_not_break_the_page(page, inviting_api, parts, worker):
    name = "a-tenant-with-a-name-as-long-as-a-name-may-be-in-this-service-6"
    parts.tenants.create_key(name)
    parts.jobs.heartbeat(WorkerInfo(name="w" * 60, slots=4, device="cuda:0"))
    parts.submission.submit_pictures(parts.tenants.get(name), Wish(prompt="m" * 300, width=256, height=256), 2)
    worker.step(worker.claim()[0], 1)
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#tenant-queues tr")).to_have_count(1)

    assert sticking_out(page) == {}


def test_the_quota_of_a_phone_says_what_is_left(page, live, parts, worker):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, daily_units=20)))
    page.set_viewport_size(PHONE)
    page.goto(live.url)

    expect(page.locator("#quota-text")).to_be_visible()
    expect(page.locator("#quota-text")).to_contain_text("20 of 20 left today")


@pytest.mark.parametrize("width", [1280, 1024])
def test_a_desks_controls_stand_in_one_line_also_with_a_pictures_parameters(page, live, worker, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    for _ in ("en-US", "zh-CN"):
        for is_repeated in (False, True):
            page.evaluate(
                """(shown) => {
                  document.getElementById('repeated').hidden = !shown;
                  document.getElementById('repeated-text').textContent =
                    'Seed 4294967295 · 1024 × 1024 · turbo-8 · z-image-turbo';
                }""",
                is_repeated,
            )
            places = page.locator(":is(#shapes, #counts, #repeated, #go):visible").evaluate_all(MIDDLES)
            assert len(places) == (2 if is_repeated else 3)  # a dropped picture brings its own shape
            assert max(places) - min(places) < 3
        other_language(page)


def test_a_dropped_picture_of_a_model_with_a_long_name_pushes_nothing_out_of_the_composer(page, live, worker):
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    page.locator("#repeated").evaluate("(one) => { one.hidden = false; }")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        for letters in range(16, 66, 6):
            words = "Seed 4294967295 · 1024 × 1024 · turbo-8 · " + "a" * letters
            page.locator("#repeated-text").evaluate("(one, words) => { one.textContent = words; }", words)
            assert page.evaluate(CUT_OFF, [".hint", ".composer"]) == []
            composer, go = (page.locator(one).bounding_box() for one in ("#composer", "#go"))
            assert composer["x"] + composer["width"] - go["x"] - go["width"] < 30  # it stays at the end of its line


def test_a_small_phones_controls_stand_in_one_line(page, live, worker):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    for _ in ("en-US", "zh-CN"):
        places = page.locator(":is(#shapes, #counts, #go):visible").evaluate_all(MIDDLES)
        assert max(places) - min(places) < 3
        other_language(page)


def test_the_step_of_a_workers_job_is_read_whole_on_a_small_phone(page, inviting_api, parts, worker):
    page.set_viewport_size({"width": 360, "height": 740})
    parts.tenants.create_key("a-shop-with-a-longer-name")
    wish = Wish(prompt="a mug", width=256, height=256)
    parts.submission.submit_pictures(parts.tenants.get("a-shop-with-a-longer-name"), wish, 1)
    worker.step(worker.claim()[0], 2)
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    other_language(page)

    expect(page.locator(".held .step")).to_have_text("第 2 步，共 4 步")
    assert page.evaluate(CUT_OFF, [".held .step", ".who"]) == []


def test_the_words_of_the_chart_have_one_size_on_a_desk_and_on_a_phone(page, live, parts):
    page.goto(f"{live.url}/account")
    expect(page.locator("#chart svg")).to_be_visible()
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate("() => new Promise(requestAnimationFrame)")
        heights = page.locator(".chart-text").evaluate_all(
            "(all) => all.map((one) => one.getBoundingClientRect().height)"
        )
        assert all(12 <= height <= 18 for height in heights), heights
        assert page.evaluate(OVERLAPPING) == []
