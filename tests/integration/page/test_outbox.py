"""A prompt that was asked for is never lost: over a limit, without a network, through a reload it waits as a card."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from core.job import JobState
from tests.integration.api.conftest import eventually, live_api, use_up
from tests.integration.page.conftest import ask, sign_in

JOB = ".card:not([data-status=unsent])"
UNSENT = ".card[data-status=unsent]"
DONE = ".card[data-status=succeeded]"


@pytest.fixture
def home(page, live, complaints):
    """The open page. A browser reports each answer above 399 and each lost connection on its console."""
    page.goto(live.url)
    expect(page.locator("#empty")).to_be_visible()
    yield page
    assert [line for line in complaints.lines if "Failed to load resource" not in line and "load:" not in line] == []


def limit(parts, **limits):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, **limits)))


def prompts(parts):
    """What the service has taken, in the order of asking."""
    return [job.request.prompt for job in reversed(parts.jobs.list_jobs("local", limit=100))]


def test_ten_prompts_pressed_faster_than_the_limit_are_all_drawn_in_their_order(home, parts, worker):
    limit(parts, burst=2, burst_per_second=4)
    wanted = [f"number {number}" for number in range(10)]
    for prompt in wanted:
        ask(home, prompt)

    expect(home.locator(JOB)).to_have_count(10)
    expect(home.locator(UNSENT)).to_have_count(0)
    assert prompts(parts) == wanted
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(10)
    assert home.locator(".card-text").all_inner_texts() == wanted[::-1]
    assert home.evaluate("() => Object.keys(localStorage).filter((name) => name.startsWith('zimg.unsent'))") == []


def test_what_waits_says_why_and_can_be_put_away(home, parts):
    limit(parts, daily_units=1)
    for prompt in ("taken", "put away", "kept"):
        ask(home, prompt)
    expect(home.locator(UNSENT)).to_have_count(2)
    expect(home.locator(UNSENT).first).to_contain_text("After the one before it")
    expect(home.locator(UNSENT).last).to_contain_text("Sends by itself in")
    expect(home.locator("#status")).to_contain_text("Not sent yet, waits: put away")

    home.locator(UNSENT, has_text="put away").get_by_role("button", name="Cancel").click()

    expect(home.locator(UNSENT)).to_have_count(1)
    expect(home.locator("#prompt")).to_be_focused()
    limit(parts, daily_units=10)
    home.reload()
    expect(home.locator(JOB)).to_have_count(2)
    assert prompts(parts) == ["taken", "kept"]


def test_what_waits_survives_a_reload_and_goes_out_when_it_may(home, parts):
    limit(parts, daily_units=1)
    ask(home, "taken")
    expect(home.locator(JOB)).to_have_count(1)
    ask(home, "tomorrow's")
    expect(home.locator(UNSENT)).to_contain_text("tomorrow's")
    home.reload()
    expect(home.locator(UNSENT)).to_contain_text("tomorrow's")
    expect(home.locator(UNSENT)).to_contain_text("Sends by itself in")

    limit(parts, daily_units=10)
    home.reload()

    expect(home.locator(JOB)).to_have_count(2)
    assert prompts(parts) == ["taken", "tomorrow's"]


def test_without_a_network_prompts_wait_and_go_out_when_it_is_back(home, parts):
    home.context.set_offline(True)
    ask(home, "from the train")
    ask(home, "and another")
    expect(home.locator(UNSENT)).to_have_count(2)
    expect(home.locator(UNSENT).last).to_contain_text("No answer from the service")
    home.context.set_offline(False)

    expect(home.locator(JOB)).to_have_count(2)
    assert prompts(parts) == ["from the train", "and another"]


def test_an_answer_that_was_lost_on_the_way_does_not_draw_twice(home, parts):
    lost = []

    def lose_the_first_answer(route):
        if lost:
            return route.continue_()
        lost.append(route.fetch())
        return route.abort()

    home.route("**/v1/jobs", lose_the_first_answer)
    ask(home, "once")

    expect(home.locator(JOB)).to_have_count(1)
    assert prompts(parts) == ["once"]


@pytest.mark.parametrize("is_reloaded", [False, True])
def test_what_is_put_away_after_a_lost_answer_is_taken_back(home, parts, is_reloaded):
    """The card said that it was not sent; the service had it, and drew all four."""
    lost = []

    def lose_each_answer(route):
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch())  # the service has it
        return route.abort() if route.request.method == "POST" else route.continue_()

    home.route("**/v1/jobs", lose_each_answer)
    ask(home, "nobody wants it any more")
    expect(home.locator(UNSENT)).to_contain_text("No answer from the service")
    assert len(lost) == 1

    home.locator(UNSENT).get_by_role("button", name="Cancel").click()
    expect(home.locator(UNSENT)).to_have_count(0)
    if is_reloaded:
        home.reload()
        expect(home.locator(UNSENT)).to_have_count(0)
    home.unroute("**/v1/jobs")

    def states():
        return {job.state for job in parts.jobs.list_jobs("local", limit=100)}

    eventually(lambda: states() == {JobState.CANCELED})
    assert home.evaluate("() => Object.keys(localStorage).filter((name) => name.startsWith('zimg.unsent'))") == []


def test_prompts_asked_while_the_service_is_away_are_sent_when_it_is_back(settings, parts, worker, page, tmp_path):
    with live_api(settings, tmp_path) as api:
        page.goto(api.url)
        expect(page.locator("#prompt")).to_be_focused()
        api.stop()
        ask(page, "through a restart")
        expect(page.locator(UNSENT)).to_have_count(1)
        api.start()
        expect(page.locator(JOB)).to_have_count(1)

    assert prompts(parts) == ["through a restart"]


def test_two_tabs_send_a_waiting_prompt_once(home, parts):
    limit(parts, daily_units=1)
    ask(home, "taken")
    ask(home, "waits in two tabs")
    expect(home.locator(UNSENT)).to_have_count(1)
    other = home.context.new_page()
    other.goto(home.url)
    expect(other.locator(UNSENT)).to_have_count(1)
    limit(parts, daily_units=10)

    other.evaluate("() => window.dispatchEvent(new Event('online'))")
    expect(other.locator(JOB)).to_have_count(2)
    home.evaluate("() => window.dispatchEvent(new Event('online'))")
    expect(home.locator(UNSENT)).to_have_count(0)

    assert prompts(parts) == ["taken", "waits in two tabs"]


def test_who_is_online_again_while_a_prompt_is_being_refused_has_it_sent_once_more_at_once(home, parts):
    limit(parts, daily_units=1)
    ask(home, "taken")
    held = []
    home.route("**/v1/jobs", lambda route: held.append((route, route.fetch())), times=1)
    ask(home, "refused late")
    eventually(lambda: home.evaluate("() => true") and held)
    limit(parts, daily_units=10)

    home.evaluate("() => window.dispatchEvent(new Event('online'))")
    route, answer = held[0]
    assert answer.status == 429
    route.fulfill(response=answer)

    expect(home.locator(JOB)).to_have_count(2)
    assert prompts(parts) == ["taken", "refused late"]


def test_a_refused_prompt_that_is_not_in_its_place_any_more_can_be_mended(home, parts):
    held = []

    def hold(route):
        held.append(route)

    home.route("**/v1/jobs", hold)
    ask(home, "a\u0001b")
    home.fill("#prompt", "the next one")
    eventually(lambda: home.evaluate("() => true") and held)
    held[0].continue_()

    refused = home.locator(".card[data-status=refused]")
    expect(refused).to_contain_text("control character")
    refused.get_by_role("button", name="Edit").click()
    expect(home.locator("#prompt")).to_have_value("a\u0001b")
    expect(refused).to_have_count(0)
    assert prompts(parts) == []


def test_who_signs_out_leaves_no_prompt_behind(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    use_up(parts, "shop")
    page.goto(inviting_api.url)
    sign_in(page, key)
    ask(page, "a secret plan")
    expect(page.locator(UNSENT)).to_have_count(1)

    page.get_by_role("button", name="Sign out").click()

    expect(page.locator("#sign-in")).to_be_visible()
    assert "secret plan" not in page.evaluate("() => JSON.stringify(localStorage)")


@pytest.fixture
def shop_and_cafe(parts):
    """The keys of two people at one browser; the first has nothing left today, so that what is asked for waits."""
    keys = [parts.tenants.create_key(name)[0] for name in ("shop", "cafe")]
    use_up(parts, "shop")
    return keys


def end_session(page):
    """As if the session had run out, and the browser were opened anew."""
    page.context.clear_cookies()
    page.reload()


@contextmanager
def without_looks(page):
    """Meanwhile the page hears nothing: a refused look (jobs, quota) would ask for the key between two keystrokes."""
    held, heard = [], threading.Event()

    def hold(route):
        if heard.is_set() or route.request.method != "GET":
            route.fallback()
        else:
            held.append(route)

    page.route("**/v1/**", hold)
    yield
    heard.set()
    for route in held:
        route.continue_()


def test_a_prompt_that_meets_an_ended_session_goes_out_after_the_next_sign_in(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    page.goto(inviting_api.url)
    sign_in(page, key)
    ask(page, "before")
    expect(page.locator(JOB)).to_have_count(1)
    with without_looks(page):
        page.context.clear_cookies()
        ask(page, "after")
    expect(page.locator("#sign-in")).to_be_visible()

    page.fill("#key", key)
    page.press("#key", "Enter")

    expect(page.locator(JOB)).to_have_count(2)
    assert [job.request.prompt for job in parts.jobs.list_jobs("shop")] == ["after", "before"]


def test_a_prompt_whose_refusal_comes_after_the_next_sign_in_is_sent_in_the_new_session(
    page, inviting_api, parts, worker
):
    key, _ = parts.tenants.create_key("shop")
    page.goto(inviting_api.url)
    sign_in(page, key)
    ask(page, "before")
    expect(page.locator(JOB)).to_have_count(1)
    held = []
    page.route("**/v1/jobs", lambda route: held.append(route), times=1)  # noqa: PLW0108 - it wants a function
    with without_looks(page):
        ask(page, "after")
        while not held:  # the prompt is under way before the session ends: a slow page would else keep it back
            page.wait_for_timeout(20)
        page.context.clear_cookies()
    expect(page.locator("#sign-in")).to_be_visible()  # the look at the first picture was refused

    sign_in(page, key)
    held[0].fulfill(status=401, content_type="application/problem+json", body='{"code": "invalid_api_key"}')

    expect(page.locator(JOB)).to_have_count(2)
    expect(page.locator("#sign-in")).to_be_hidden()
    assert [job.request.prompt for job in parts.jobs.list_jobs("shop")] == ["after", "before"]


def assert_only_the_cafes_own_is_sent(page, parts):
    ask(page, "the cafe's own")
    expect(page.locator(JOB)).to_have_count(1)
    expect(page.locator(UNSENT)).to_have_count(0)
    assert [job.request.prompt for job in parts.jobs.list_jobs("cafe")] == ["the cafe's own"]
    assert "secret" not in page.evaluate("() => JSON.stringify(localStorage)")


def test_what_one_person_asked_for_is_never_sent_in_anothers_session(page, inviting_api, parts, shop_and_cafe, worker):
    shop, cafe = shop_and_cafe
    page.goto(inviting_api.url)
    sign_in(page, shop)
    expect(page.locator("#quota-text")).not_to_be_empty()
    ask(page, "the shop's secret")
    expect(page.locator(UNSENT)).to_have_count(1)
    end_session(page)

    sign_in(page, cafe)

    assert_only_the_cafes_own_is_sent(page, parts)


def test_what_was_asked_for_before_the_page_knew_whose_session_it_is_stays_that_persons(
    page, inviting_api, parts, shop_and_cafe, worker
):
    shop, cafe = shop_and_cafe
    held = []
    page.route("**/v1/models", lambda route: held.append(route))  # noqa: PLW0108 - a builtin can not be wrapped
    page.goto(inviting_api.url)
    sign_in(page, shop)
    ask(page, "the shop's secret")
    expect(page.locator(UNSENT)).to_have_count(1)
    held[0].continue_()
    page.unroute_all()
    expect(page.locator(UNSENT)).to_contain_text("Sends by itself in")
    end_session(page)

    sign_in(page, cafe)

    assert_only_the_cafes_own_is_sent(page, parts)


def test_what_was_asked_for_while_the_service_was_away_stays_with_who_was_here_last(
    page, inviting_api, parts, shop_and_cafe, worker
):
    shop, cafe = shop_and_cafe
    page.goto(inviting_api.url)
    sign_in(page, shop)
    expect(page.locator("#empty")).to_be_visible()
    page.route("**/v1/**", lambda route: route.abort())
    page.reload()
    ask(page, "the shop's secret")
    expect(page.locator(UNSENT)).to_have_count(1)
    page.unroute_all()
    end_session(page)

    sign_in(page, cafe)

    assert_only_the_cafes_own_is_sent(page, parts)


def test_what_the_next_person_asks_for_at_once_is_theirs_and_not_lost(page, inviting_api, parts, shop_and_cafe, worker):
    shop, cafe = shop_and_cafe
    page.goto(inviting_api.url)
    sign_in(page, shop)
    ask(page, "the shop's secret")
    expect(page.locator(UNSENT)).to_contain_text("Sends by itself in")
    page.context.clear_cookies()
    page.locator(UNSENT).get_by_role("button", name="Cancel").click()
    ask(page, "the shop's other secret")
    expect(page.locator("#sign-in")).to_be_visible()
    held = []
    page.route("**/v1/models", lambda route: held.append(route))  # noqa: PLW0108 - a builtin can not be wrapped
    sign_in(page, cafe)
    ask(page, "the cafe's own")
    expect(page.locator(UNSENT)).to_contain_text(["the cafe's own"])  # alone: the shop's secret is not shown on

    held[0].continue_()
    page.unroute_all()

    expect(page.locator(JOB)).to_have_count(1)
    expect(page.locator(UNSENT)).to_have_count(0)
    assert [job.request.prompt for job in parts.jobs.list_jobs("cafe")] == ["the cafe's own"]


def test_signing_out_on_the_account_page_leaves_no_prompt_behind_either(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    use_up(parts, "shop")
    page.goto(inviting_api.url)
    sign_in(page, key)
    ask(page, "a secret plan")
    expect(page.locator(UNSENT)).to_have_count(1)

    page.goto(f"{inviting_api.url}/account")
    page.get_by_role("button", name="Sign out").click()

    expect(page.locator("#key")).to_be_focused()
    assert "secret plan" not in page.evaluate("() => JSON.stringify(localStorage)")


def test_a_page_that_was_opened_while_the_service_was_away_begins_when_it_is_back(home, parts):
    home.route("**/v1/session", lambda route: route.abort())
    home.reload()
    expect(home.locator("#composer-error")).to_contain_text("Trying again")
    ask(home, "asked meanwhile")
    expect(home.locator(UNSENT)).to_have_count(1)
    expect(home.locator("#composer-error")).to_contain_text("Trying again")  # typing changes nothing about it
    home.locator("#language").click()
    assert home.locator("#composer-error").text_content() == "服务没有回应，正在重试…"

    home.unroute_all()

    expect(home.locator(JOB)).to_have_count(1)
    expect(home.locator("#composer-error")).to_have_text("")
    assert prompts(parts) == ["asked meanwhile"]
