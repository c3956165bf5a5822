"""What was put away after its answer was lost is not drawn, though the service may have taken it."""

import pytest
from playwright.sync_api import expect

from tests.integration.api.conftest import eventually, use_up
from tests.integration.page.conftest import ask, sign_in
from tests.integration.page.test_gaps import BACK

UNSENT = ".card[data-status=unsent]"
JOB = ".card:not([data-status=unsent])"
DRAW = "**/v1/jobs"
ONLINE = "() => window.dispatchEvent(new Event('online'))"
KEPT = "() => Object.keys(localStorage).filter((name) => /unsent|takingBack/.test(name))"


def lose_answers(page):
    """The first request to draw arrives, as its answer does not; those that follow do not even arrive."""
    arrived = []

    def lose(route):
        if not arrived:
            arrived.append(route.fetch())
        route.abort()

    page.route(DRAW, lose)


def states(parts):
    return [job.state.value.lower() for job in parts.jobs.list_jobs("local")]


@pytest.fixture
def lost(page, live, parts, worker):
    """Four pictures that the service has taken, while the page says that they are not sent yet."""
    page.goto(live.url)
    expect(page.locator("#empty")).to_be_visible()
    lose_answers(page)
    page.check("input[name=count][value='4']", force=True)
    ask(page, "a lighthouse")
    expect(page.locator(UNSENT)).to_contain_text("No answer from the service")
    assert states(parts) == ["queued"] * 4
    return page


def put_away(page):
    page.locator(UNSENT).get_by_role("button", name="Cancel").click()
    expect(page.locator(UNSENT)).to_have_count(0)


def assert_all_canceled(page, parts):
    eventually(lambda: page.evaluate("() => true") and states(parts) == ["canceled"] * 4)
    expect(page.locator(".card[data-status=canceled]")).to_have_count(4)
    eventually(lambda: page.evaluate(KEPT) == [])


def test_what_was_put_away_after_its_answer_was_lost_is_canceled_at_the_service(lost, parts):
    put_away(lost)
    expect(lost.locator(JOB)).to_have_count(0)

    lost.unroute(DRAW)
    lost.evaluate(ONLINE)

    assert_all_canceled(lost, parts)


def test_it_is_so_after_a_reload_too(lost, parts):
    put_away(lost)
    lost.unroute(DRAW)

    lost.reload()

    assert_all_canceled(lost, parts)


def test_what_is_put_away_after_a_reload_is_taken_back_too(lost, parts):
    lost.reload()
    expect(lost.locator(UNSENT)).to_have_count(1)
    put_away(lost)
    lost.unroute(DRAW)

    lost.evaluate(ONLINE)

    assert_all_canceled(lost, parts)


def test_a_cancel_that_does_not_arrive_is_tried_again(lost, parts):
    lost.route("**/v1/jobs/*/cancel", lambda route: route.abort(), times=2)
    put_away(lost)

    lost.unroute(DRAW)
    lost.evaluate(ONLINE)

    assert_all_canceled(lost, parts)


def test_what_is_put_away_while_its_answer_is_on_its_way_and_lost_then_is_taken_back(page, live, parts, worker):
    page.goto(live.url)
    held = []
    page.route(DRAW, lambda route: held.append((route, route.fetch())), times=1)
    ask(page, "a lighthouse")
    expect(page.locator(UNSENT)).to_contain_text("Sending")
    put_away(page)
    eventually(lambda: page.evaluate("() => true") and held)

    held[0][0].abort()

    expect(page.locator(".card[data-status=canceled]")).to_have_count(1)
    assert states(parts) == ["canceled"]


def test_what_never_arrived_anywhere_is_asked_for_by_nobody(page, live, parts, worker):
    """A limit refuses it before anything is stored: there is nothing to take back."""
    use_up(parts)
    page.goto(live.url)
    ask(page, "a lighthouse")
    expect(page.locator(UNSENT)).to_have_count(1)
    asked = []
    page.on("request", lambda request: asked.append(request.method) if request.url.endswith("/v1/jobs") else None)

    put_away(page)
    parts.tenants.change("local", {"daily_units": 9})
    ask(page, "another")

    expect(page.locator(JOB)).to_have_count(1)
    assert asked == ["POST"]


def test_what_waits_behind_it_is_sent_all_the_same(lost, parts):
    put_away(lost)
    ask(lost, "another")
    expect(lost.locator(UNSENT)).to_contain_text("No answer from the service")  # and not that it waits for one unseen

    lost.unroute(DRAW)
    lost.evaluate(ONLINE)

    expect(lost.locator(JOB)).to_have_count(8)
    prompts = {job.request.prompt: job.state.value.lower() for job in parts.jobs.list_jobs("local")}
    assert prompts == {"a lighthouse": "canceled", "another": "queued"}


def test_who_signs_out_leaves_nothing_to_take_back_behind(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    page.goto(inviting_api.url)
    sign_in(page, key)
    page.route(DRAW, lambda route: route.abort())
    ask(page, "a secret plan")
    expect(page.locator(UNSENT)).to_contain_text("No answer from the service")
    put_away(page)
    assert "secret plan" in page.evaluate("() => JSON.stringify(localStorage)")

    page.get_by_role("button", name="Sign out").click()

    expect(page.locator("#sign-in")).to_be_visible()
    assert "secret plan" not in page.evaluate("() => JSON.stringify(localStorage)")


def test_what_one_person_put_away_is_never_sent_in_anothers_session(page, inviting_api, parts, worker):
    shop, cafe = (parts.tenants.create_key(name)[0] for name in ("shop", "cafe"))
    page.goto(inviting_api.url)
    sign_in(page, shop)
    held = []
    page.route(DRAW, lambda route: held.append(route), times=1)  # noqa: PLW0108 - it wants a function
    ask(page, "the shop's secret")
    expect(page.locator(UNSENT)).to_contain_text("Sending")
    put_away(page)
    assert page.context.request.post(f"{inviting_api.url}/v1/session", data={"key": cafe}).ok
    page.evaluate(BACK)
    expect(page.locator("#toast")).to_contain_text("cafe")

    held[0].abort()
    ask(page, "the cafe's own")

    expect(page.locator(JOB)).to_have_count(1)
    assert [job.request.prompt for job in parts.jobs.list_jobs("cafe")] == ["the cafe's own"]
    assert "secret" not in page.evaluate("() => JSON.stringify(localStorage)")


WAITING = """(asked) => { for (const [at, mayBeTaken] of asked.entries()) {
    const [key, prompt] = [`${at}`.repeat(32), `number ${at}`];
    const entry = { key, request: { prompt }, shape: 'square', askedAt: at + 1, owner: 'local', mayBeTaken };
    localStorage.setItem(`zimg.unsent.${key}`, JSON.stringify(entry));
} }"""


def test_what_follows_one_that_was_put_away_on_its_way_is_not_said_to_be_sent(page, live, parts, worker):
    page.goto(live.url)
    held = []
    page.route(DRAW, lambda route: held.append(route), times=1)  # noqa: PLW0108 - it wants a function
    ask(page, "the first")
    expect(page.locator(UNSENT)).to_contain_text("Sending")
    ask(page, "the second")
    expect(page.locator(UNSENT)).to_have_count(2)

    page.locator(UNSENT, has_text="the first").get_by_role("button", name="Cancel").click()

    expect(page.locator(UNSENT)).to_have_count(1)
    expect(page.locator(UNSENT)).to_contain_text("Not sent yet")
    held[0].abort()
    expect(page.locator(JOB, has_text="the second")).to_have_attribute("data-status", "queued")


def test_two_that_are_put_away_while_the_first_is_on_its_way_are_both_taken_back(page, live, parts, worker):
    """The second was sent by another tab, whose answer was lost."""
    page.goto(live.url)
    page.evaluate(WAITING, [False, True])
    held = []
    page.route(DRAW, lambda route: held.append(route), times=1)  # noqa: PLW0108 - it wants a function
    page.reload()
    expect(page.locator(UNSENT)).to_have_count(2)
    eventually(lambda: page.evaluate("() => true") and held)
    for prompt in ("number 0", "number 1"):
        page.locator(UNSENT, has_text=prompt).get_by_role("button", name="Cancel").click()

    held[0].abort()

    eventually(lambda: page.evaluate(KEPT) == [])
    assert states(parts) == ["canceled"] * 2


def test_it_is_taken_back_over_a_reload_where_the_browser_can_keep_no_more(lost, parts):
    lost.evaluate("""() => { for (let size = 2 ** 23; size >= 1; size /= 2) for (let at = 0; ; at += 1) {
        try { localStorage.setItem(`filler.${size}.${at}`, 'x'.repeat(size)); } catch { break; }
    } }""")
    put_away(lost)
    lost.unroute(DRAW)

    lost.reload()

    assert_all_canceled(lost, parts)


@pytest.mark.parametrize("name", ["zimg.unsent.", "zimg.takingBack."])
@pytest.mark.parametrize("kept", ["null", "1", "{}", "{"])
def test_what_the_browser_keeps_and_nobody_can_read_keeps_no_page_from_beginning(page, live, parts, name, kept):
    page.goto(live.url)
    page.evaluate("([name, kept]) => localStorage.setItem(`${name}x`, kept)", [name, kept])
    page.reload()

    ask(page, "a lighthouse")

    expect(page.locator(JOB)).to_contain_text("a lighthouse")
    assert len(states(parts)) == 1
