"""Answers that come late, never, or refused for once: nothing is lost, nothing stands still, nobody is locked out."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.api.conftest import eventually
from tests.integration.page.conftest import ask
from tests.integration.page.test_gaps import BACK, DONE, JOB, canceled, pictures

__all__ = ["pictures"]
UNSENT = ".card[data-status=unsent]"
ADMIN_KEY = "the-operators-own-key"


@pytest.fixture
def impatient(page):
    """Questions are given up after a second, not after half a minute."""
    page.add_init_script(
        "const real = AbortSignal.timeout; AbortSignal.timeout = (ms) => real.call(AbortSignal, Math.min(ms, 1000));"
    )
    return page


def held_by(page, path):
    """The next request for it, once it is there: (request, the answer that it would have had)."""
    held = []
    page.route(path, lambda route: held.append((route, route.fetch())), times=1)
    return held


def wait_for(page, held):
    while not held:
        page.wait_for_timeout(20)
    return held[0]


def refuse_once(page, path, status):
    problem = {"status": status, "detail": "Not now."}
    page.route(path, lambda route: route.fulfill(status=status, headers={"Retry-After": "1"}, json=problem), times=1)


@pytest.mark.parametrize("elsewhere", [0, 300])
def test_what_is_asked_for_while_the_list_is_on_its_way_stays(page, live, parts, worker, elsewhere):
    parts.tenants.change("local", {"queued_jobs": 1000, "burst": 1000})
    canceled(parts, "old")
    page.goto(live.url)
    expect(page.locator(JOB)).to_have_count(1)
    canceled(parts, *(f"elsewhere {number}" for number in range(elsewhere)))
    held = held_by(page, "**/v1/jobs?limit=*")
    page.evaluate(BACK)
    route, answer = wait_for(page, held)
    ask(page, "asked meanwhile")
    expect(page.locator(JOB, has_text="asked meanwhile")).to_have_count(1)

    with page.expect_request("**/v1/usage"):  # once the list is taken over
        route.fulfill(response=answer)

    assert page.locator(JOB, has_text="asked meanwhile").count() == 1


def test_a_look_that_is_never_answered_is_not_the_last(impatient, live, parts, worker):
    impatient.goto(live.url)
    ask(impatient, "a mug")
    expect(impatient.locator(JOB)).to_have_count(1)
    impatient.route("**/v1/jobs?ids=*", lambda _: None, times=1)

    worker.draw_all()

    expect(impatient.locator(DONE)).to_have_count(1)


def test_the_operators_page_says_that_nothing_is_answered(impatient, inviting_api, parts, worker):
    impatient.goto(f"{inviting_api.url}/admin")
    impatient.fill("#admin-key", ADMIN_KEY)
    impatient.press("#admin-key", "Enter")
    expect(impatient.locator("#alive")).to_have_text("live")
    impatient.route("**/v1/admin/overview", lambda _: None, times=1)

    expect(impatient.locator("#alive")).not_to_have_text("live")
    expect(impatient.locator("#alive")).to_have_text("live")


def test_an_operator_whose_page_loads_in_an_outage_keeps_the_key(page, inviting_api, parts, worker):
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", ADMIN_KEY)
    page.press("#admin-key", "Enter")
    expect(page.locator("#content")).to_be_visible()
    refuse_once(page, "**/v1/admin/overview", 503)

    page.reload()

    expect(page.locator("#content")).to_be_visible()
    expect(page.locator("#gate")).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/account"])
def test_a_start_that_is_refused_for_once_is_tried_again(page, live, parts, worker, path):
    refuse_once(page, "**/v1/usage" if path == "/account" else "**/v1/models", 429)

    page.goto(f"{live.url}{path}")

    if path == "/account":
        expect(page.locator("#content")).to_be_visible()
    else:
        ask(page, "words")
        expect(page.locator(JOB)).to_have_count(1)


def test_a_shape_that_is_chosen_before_the_models_are_known_is_drawn(page, live, parts, worker):
    page.goto(live.url)
    page.check("input[value=portrait]", force=True)
    page.route("**/v1/**", lambda route: route.abort())
    page.reload()
    ask(page, "a tower")
    expect(page.locator(UNSENT)).to_have_count(1)

    page.unroute_all()

    expect(page.locator(JOB)).to_have_count(1)
    (job,) = parts.jobs.list_jobs("local")
    assert job.request.width < job.request.height


def test_the_door_stays_whoever_presses_escape(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    page.goto(inviting_api.url)
    expect(page.locator("#sign-in")).to_be_visible()
    for _ in range(3):
        page.keyboard.press("Escape")
    expect(page.locator("#key")).to_be_visible()

    page.fill("#key", key)
    page.press("#key", "Enter")

    expect(page.locator("#sign-in")).to_be_hidden()


def test_a_picture_whose_way_here_broke_once_is_loaded(pictures):
    pictures.route("**/i/*.png", lambda r: r.abort() if r.request.method == "GET" else r.continue_(), times=1)

    pictures.locator(f"{DONE} .card-open").nth(1).click()

    expect(pictures.locator("#viewer-missing")).to_be_hidden()
    pictures.wait_for_function("() => document.getElementById('viewer-image').naturalWidth > 0")


def test_a_picture_that_did_not_come_is_asked_for_when_it_is_opened_again(pictures):
    pictures.route("**/i/*.png", lambda r: r.abort() if r.request.method == "GET" else r.continue_())
    pictures.locator(f"{DONE} .card-open").nth(1).click()
    expect(pictures.locator("#viewer-missing")).to_be_visible()
    pictures.unroute_all()

    pictures.keyboard.press("Escape")
    pictures.locator(f"{DONE} .card-open").nth(1).click()

    pictures.wait_for_function("() => document.getElementById('viewer-image').naturalWidth > 0")


def test_thumbnails_that_stayed_away_come_when_the_line_is_back(page, live, parts, worker):
    page.clock.install()
    parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt="a mug", width=256, height=256), 1)
    worker.draw_all()
    tries = []

    def refuse(route):
        tries.append(route)
        route.abort()

    page.route("**/*.webp*", refuse)
    page.goto(live.url)
    expect(page.locator(DONE)).to_have_count(1)
    while len(tries) < 6:
        page.clock.fast_forward(40_000)
        page.wait_for_timeout(20)
    page.unroute_all()

    page.evaluate("() => window.dispatchEvent(new Event('online'))")

    page.wait_for_function("() => document.querySelector('.card img').naturalWidth > 0")


def test_a_clock_that_is_set_back_delays_nothing(page, live, parts, worker):
    page.goto(live.url)
    expect(page.locator("#empty")).to_be_visible()
    page.route("**/v1/jobs", lambda route: route.abort(), times=1)
    page.evaluate("() => { const real = Date.now; Date.now = () => real() - (window.isSetBack ? 3600000 : 0); }")
    ask(page, "a mug")
    page.evaluate("() => { window.isSetBack = true; }")

    expect(page.locator(JOB)).to_have_count(1)


def test_a_star_on_what_was_deleted_elsewhere_does_nothing(pictures, live, parts):
    complaints = []
    pictures.on("pageerror", lambda error: complaints.append(str(error)))
    pictures.locator(".card-open").nth(1).click()
    other = pictures.context.new_page()
    other.goto(live.url)
    other.on("dialog", lambda dialog: dialog.accept())
    other.locator(".card-open").nth(1).click()
    other.locator("#delete").click()
    expect(pictures.locator("#viewer-missing")).to_be_visible()

    pictures.locator("#star").click()

    expect(pictures.locator("#star")).to_have_attribute("aria-pressed", "false")
    assert complaints == []


def test_a_keyboard_goes_on_where_it_was_after_a_cancel_and_a_delete(pictures):
    pictures.on("dialog", lambda dialog: dialog.accept())
    pictures.locator(".card-open").nth(1).focus()
    pictures.keyboard.press("Enter")
    pictures.locator("#delete").focus()
    pictures.keyboard.press("Enter")
    expect(pictures.locator(DONE)).to_have_count(2)
    expect(pictures.locator(".card-open").nth(1)).to_be_focused()

    ask(pictures, "to cancel")
    pictures.get_by_role("button", name="Cancel: to cancel").focus()
    pictures.keyboard.press("Enter")

    canceled_card = pictures.locator(".card[data-status=canceled]")
    expect(canceled_card).to_have_count(1)
    expect(canceled_card.locator("button").first).to_be_focused()


def test_one_escape_does_not_put_a_new_key_away(page, inviting_api, parts, worker):
    code, _ = parts.invites.create()
    page.goto(f"{inviting_api.url}/account")
    page.fill("#code", code)
    page.fill("#name", "ada")
    page.press("#name", "Enter")
    expect(page.locator("#secret-dialog")).to_be_visible()

    page.keyboard.press("Escape")

    expect(page.locator("#secret")).to_be_visible()


def test_after_the_page_was_left_nothing_is_offered_that_can_not_be_done(page, live, parts, worker):
    """A browser may show a page again as it was left."""
    canceled(parts, "not this one")
    page.goto(live.url)
    page.get_by_role("button", name="Remove: not this one").click()
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()

    page.evaluate("() => window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")

    expect(undo).to_be_hidden()
    assert eventually(lambda: page.evaluate("() => true") and parts.jobs.list_jobs("local") == [])


@pytest.fixture
def operator(page, inviting_api, parts, worker):
    """The operator's page, whose clock is ours."""
    parts.tenants.create_key("shop")
    page.clock.install()
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", ADMIN_KEY)
    page.press("#admin-key", "Enter")
    expect(page.locator("#alive")).to_have_text("live")
    return page


@pytest.mark.parametrize(("opens", "dialog", "said"), [("Limits", "limits", "Saved"), ("Ban", "ban", "banned")])
def test_what_is_said_in_a_dialog_that_closes_is_seen_after_it(operator, opens, dialog, said):
    operator.locator("#tenants tr", has_text="shop").get_by_role("button", name=opens).click()
    if dialog == "ban":
        operator.fill("#ban-reason", "spam")
    operator.locator(f"#{dialog}-dialog [type=submit]").click()

    expect(operator.locator(f"#{dialog}-dialog")).to_be_hidden()
    expect(operator.locator("#toast")).to_contain_text(said)
    expect(operator.locator("#toast")).to_be_visible()


@pytest.mark.parametrize("path", ["overview", "webhook-failures"])
def test_an_operator_who_leaves_while_the_page_looks_is_told_of_no_error(operator, path):
    held = held_by(operator, f"**/v1/admin/{path}")
    while not held:
        operator.clock.fast_forward(2000)
        operator.wait_for_timeout(20)
    operator.locator("#leave").click()
    asked = []
    operator.on("request", lambda request: asked.append(request.url))

    route, answer = wait_for(operator, held)
    with operator.expect_request_finished(lambda request: path in request.url):
        route.fulfill(response=answer)
    operator.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    operator.clock.fast_forward(3000)
    operator.evaluate("() => new Promise((done) => setTimeout(done, 50))")

    assert asked == []
    expect(operator.locator("#gate-error")).to_have_text("")
    expect(operator.locator("#alive")).to_be_hidden()


@pytest.mark.parametrize("act", ["make-an-invite", "rotate-the-key-in-use"])
def test_what_an_operator_did_before_leaving_is_told_as_no_error_and_lets_nobody_in(operator, act):
    operator.on("dialog", lambda dialog: dialog.accept())
    if act == "make-an-invite":
        held = held_by(operator, "**/v1/admin/invites")
        operator.locator("#invite-form [type=submit]").click()
    else:
        held = held_by(operator, "**/v1/admin/keys/*/rotate")
        operator.locator("#keys tr", has_text="shop").get_by_role("button", name="Replace").click()
    route, answer = wait_for(operator, held)
    operator.locator("#leave").click()

    route.fulfill(response=answer)
    expect(operator.locator("#secret")).to_be_visible()
    operator.evaluate("() => new Promise((done) => setTimeout(done, 100))")

    assert operator.locator("#toast").text_content() in ("", "The key was replaced")
    assert operator.evaluate("() => sessionStorage.getItem('zimg.adminKey')") is None
    expect(operator.locator("#gate-error")).to_have_text("")
