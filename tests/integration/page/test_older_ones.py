"""Older ones on request: what was pressed for stays, is asked for once, and goes on where the loaded ones end."""

import re

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.page.test_deliveries import account, delivery, save
from tests.integration.page.test_gaps import DONE, JOB, canceled, pictures
from tests.integration.page.test_rare_orders import wait_for

__all__ = ["account", "pictures"]
FIRST_JOBS = re.compile(r"/v1/jobs\?limit=\d+$")
OLDER_JOBS = re.compile(r"/v1/jobs\?limit=\d+&cursor=")
OLDER_DELIVERIES = re.compile(r"/deliveries\?limit=\d+&cursor=")
REFRESH_MS = 5000


def held_once(page, path):
    """The next request for it, with the answer that it would have had, once it is there."""
    held = []
    page.route(path, lambda route: held.append((route, route.fetch())), times=1)
    return held


def let_go(page, held):
    route, answer = wait_for(page, held)
    route.fulfill(response=answer)


def asked_for(page, pattern):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if pattern.search(request.url) else None)
    return asked


def jobs_of(page, live, parts, count):
    """The account page with so many jobs, whose clock is ours."""
    parts.tenants.change("local", {"queued_jobs": 1000, "burst": 1000})
    canceled(parts, *(f"mug {number}" for number in range(count)))
    page.clock.install()
    page.goto(f"{live.url}/account")
    expect(page.locator("#jobs tr")).to_have_count(min(count, 10))


def deliveries_of(page, parts, count):
    """The account page with so many deliveries to one endpoint; the endpoint."""
    endpoint = save(parts)
    for number in range(count):
        delivery(parts, endpoint, number, state="delivered")
    page.clock.install()
    return endpoint


def press_until_all_are_there(page, button, rows):
    while page.locator(button).is_visible():
        before = page.locator(rows).count()
        page.locator(button).click()
        expect(page.locator(rows)).not_to_have_count(before)


def test_a_refresh_that_was_on_its_way_does_not_undo_what_was_pressed_for(page, live, parts, worker):
    jobs_of(page, live, parts, 25)
    held = held_once(page, FIRST_JOBS)
    page.clock.fast_forward(REFRESH_MS)
    wait_for(page, held)
    page.locator("#more-jobs").click()
    expect(page.locator("#jobs tr")).to_have_count(20)

    let_go(page, held)
    with page.expect_request(FIRST_JOBS) as asked:
        page.clock.fast_forward(2 * REFRESH_MS)

    assert asked.value.url.endswith("limit=20")
    expect(page.locator("#jobs tr")).to_have_count(20)


def test_a_refresh_waits_for_what_was_pressed_for_before_it(page, live, parts, worker):
    jobs_of(page, live, parts, 25)
    held = held_once(page, OLDER_JOBS)
    page.locator("#more-jobs").click()
    wait_for(page, held)
    with page.expect_request("**/v1/account"):
        page.clock.fast_forward(REFRESH_MS)

    with page.expect_request(FIRST_JOBS) as asked:
        let_go(page, held)

    assert asked.value.url.endswith("limit=20")
    expect(page.locator("#jobs tr")).to_have_count(20)


def test_two_presses_at_once_ask_for_older_jobs_once(page, live, parts, worker):
    jobs_of(page, live, parts, 35)
    asked, held = asked_for(page, OLDER_JOBS), held_once(page, OLDER_JOBS)
    page.locator("#more-jobs").dblclick()

    let_go(page, held)

    expect(page.locator("#jobs tr")).to_have_count(20)
    assert len(asked) == 1


def test_beyond_a_hundred_jobs_the_page_goes_on_refreshing(page, live, parts, worker):
    jobs_of(page, live, parts, 125)
    for shown in range(20, 120, 10):
        page.locator("#more-jobs").click()
        expect(page.locator("#jobs tr")).to_have_count(shown)
    canceled(parts, "a new one")

    page.clock.fast_forward(REFRESH_MS)

    expect(page.locator("#jobs tr")).to_have_count(111)
    expect(page.locator("#jobs tr").first).to_contain_text("a new one")
    press_until_all_are_there(page, "#more-jobs", "#jobs tr")
    names = page.locator("#jobs th").all_inner_texts()
    assert names == ["a new one", *(f"mug {number}" for number in reversed(range(125)))]


def test_more_new_jobs_than_one_call_tells_begin_the_list_anew(page, live, parts, worker):
    jobs_of(page, live, parts, 125)
    press_until_all_are_there(page, "#more-jobs", "#jobs tr")
    canceled(parts, *(f"new {number}" for number in range(110)))

    page.clock.fast_forward(REFRESH_MS)

    expect(page.locator("#jobs tr").first).to_contain_text("new 109")
    press_until_all_are_there(page, "#more-jobs", "#jobs tr")
    made = [*(f"mug {number}" for number in range(125)), *(f"new {number}" for number in range(110))]
    assert page.locator("#jobs th").all_inner_texts() == made[::-1]


def test_beyond_a_hundred_deliveries_none_is_hidden_by_a_refresh(account, page, parts):
    endpoint = deliveries_of(page, parts, 112)
    account()
    press_until_all_are_there(page, "#more-deliveries", "#deliveries tr")
    expect(page.locator("#deliveries tr")).to_have_count(112)
    delivery(parts, endpoint, 112, state="failed")

    page.clock.fast_forward(REFRESH_MS)

    expect(page.locator("#deliveries tr")).to_have_count(113)
    expect(page.locator("#deliveries tr").first).to_contain_text("Given up")


def test_a_refresh_of_the_log_does_not_undo_what_was_pressed_for(account, page, parts):
    deliveries_of(page, parts, 25)
    account()
    expect(page.locator("#deliveries tr")).to_have_count(10)
    held = held_once(page, OLDER_DELIVERIES)
    page.locator("#more-deliveries").click()
    wait_for(page, held)
    with page.expect_response("**/v1/webhooks"):
        page.clock.fast_forward(REFRESH_MS)

    let_go(page, held)

    expect(page.locator("#deliveries tr")).to_have_count(20)


def test_a_filter_that_is_chosen_while_older_ones_are_on_their_way_wins(account, page, parts):
    endpoint = deliveries_of(page, parts, 25)
    delivery(parts, endpoint, 25, state="failed")
    account()
    expect(page.locator("#deliveries tr")).to_have_count(10)
    held = held_once(page, OLDER_DELIVERIES)
    page.locator("#more-deliveries").click()
    wait_for(page, held)
    page.get_by_label("Only those that were given up").check()
    expect(page.locator("#deliveries tr")).to_have_count(1)

    let_go(page, held)
    with page.expect_response("**/deliveries?**"):
        page.clock.fast_forward(REFRESH_MS)

    expect(page.locator("#deliveries tr")).to_have_count(1)


def test_two_presses_at_once_ask_for_older_pictures_once(page, live, parts, worker):
    canceled(parts, *(f"mug {number}" for number in range(60)))
    page.goto(live.url)
    expect(page.locator(JOB)).to_have_count(48)
    asked, held = asked_for(page, re.compile(r"/v1/jobs\?limit=\d+(&cursor=|$)")), held_once(page, OLDER_JOBS)
    page.locator("#more").dblclick()

    let_go(page, held)

    expect(page.locator(JOB)).to_have_count(60)
    expect(page.locator("#more")).to_be_hidden()
    assert len(asked) == 1


@pytest.mark.parametrize("act", ["press", "click"])
def test_the_viewer_turns_on_to_what_is_not_loaded_yet(page, live, parts, worker, act):
    parts.tenants.change("local", {"queued_jobs": 1000, "burst": 1000})
    for prompt in ("old", "new"):
        canceled(parts, *(f"before {prompt} {number}" for number in range(60)))
        wish = Wish(prompt=prompt, width=256, height=256)
        parts.submission.submit_pictures(parts.tenants.local(), wish, 1)
        worker.draw_all()
    page.goto(live.url)
    expect(page.locator(DONE)).to_have_count(1)
    page.locator(f"{DONE} .card-open").click()
    expect(page.locator("#viewer-prompt")).to_have_text("new")

    if act == "press":
        page.keyboard.press("ArrowRight")
    else:
        page.locator("#older").click()

    expect(page.locator("#viewer-prompt")).to_have_text("old")
    page.keyboard.press("ArrowRight")  # there is none behind it: the page looks, and stays
    expect(page.locator("#older")).to_be_disabled()
    expect(page.locator("#viewer-prompt")).to_have_text("old")


def test_older_ones_that_can_not_be_had_now_are_told_of_in_the_viewer(page, live, parts, worker):
    canceled(parts, *(f"before {number}" for number in range(60)))
    parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt="new", width=256, height=256), 1)
    worker.draw_all()
    page.goto(live.url)
    page.locator(f"{DONE} .card-open").click()
    page.route(OLDER_JOBS, lambda route: route.abort())

    page.locator("#older").click()

    expect(page.locator("#viewer #toast")).to_have_text("No answer from the service. Try again.")
    expect(page.locator("#viewer-prompt")).to_have_text("new")


@pytest.mark.parametrize("modifier", ["Alt", "Control", "Meta", "Shift"])
def test_an_arrow_with_a_modifier_is_the_browsers(pictures, modifier):
    pictures.locator(f"{DONE} .card-open").first.click()

    pictures.keyboard.press(f"{modifier}+ArrowRight")

    assert pictures.locator("#viewer-prompt").text_content() == "first"


@pytest.mark.parametrize(("turn", "back"), [("#older", "ArrowLeft"), ("#newer", "ArrowRight")])
def test_the_arrows_go_on_where_a_button_led_to_an_end(pictures, turn, back):
    """A button that can do no more loses the focus; without one no key is the viewer's."""
    pictures.locator(f"{DONE} .card-open").nth(1).click()

    pictures.locator(turn).focus()
    pictures.keyboard.press("Enter")
    expect(pictures.locator(turn)).to_be_disabled()
    pictures.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)))")
    pictures.keyboard.press(back)

    expect(pictures.locator("#viewer-prompt")).to_have_text("second")


def test_a_keyboard_goes_on_with_the_first_of_the_older_ones(page, live, parts, worker):
    """The last press takes its button away."""
    canceled(parts, *(f"mug {number}" for number in range(60)))
    page.goto(live.url)
    expect(page.locator(JOB)).to_have_count(48)

    page.locator("#more").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#more")).to_be_hidden()
    expect(page.locator(JOB, has_text="mug 11").get_by_role("button").first).to_be_focused()
