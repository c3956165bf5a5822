"""Two accounts in one browser: nothing of one is ever sent, shown or forgotten in the other's session."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish
from scheduler.tenants import hash_key
from tests.integration.page.conftest import ask, sign_in

JOB = ".card:not([data-status=unsent])"
UNSENT = ".card[data-status=unsent]"
LOADED_AT_ONCE = 48


def switch_unseen(page, api, key):
    """The browser's session becomes another's without a word to the open page, as a lost message between tabs would."""
    assert page.context.request.post(f"{api.url}/v1/session", data={"key": key}).ok


def prompts(parts, name):
    return [job.request.prompt for job in parts.jobs.list_jobs(name, limit=100)]


def shown(page):
    return page.locator(".card-text").all_inner_texts()


@pytest.fixture
def keys(parts, worker):
    """The keys of a shop and a cafe, who have drawn one picture each."""
    made = {name: parts.tenants.create_key(name)[0] for name in ("shop", "cafe")}
    for name in made:
        wish = Wish(prompt=f"{name}'s picture", width=256, height=256)
        parts.submission.submit_pictures(parts.tenants.get(name), wish, 1)
    worker.draw_all()
    return made


@pytest.fixture
def shop(page, inviting_api, keys):
    """The page in the shop's session."""
    page.goto(inviting_api.url)
    sign_in(page, keys["shop"])
    expect(page.locator(".card-text")).to_have_text(["shop's picture"])
    return page


def signed_out_beside(page, url):
    """Another tab of the same browser, in which its person has just signed out."""
    other = page.context.new_page()
    other.goto(url)
    expect(other.locator(JOB)).to_have_count(1)
    other.get_by_role("button", name="Sign out").click()
    return other


def test_a_prompt_of_one_is_not_drawn_in_the_others_session(shop, inviting_api, parts, keys):
    switch_unseen(shop, inviting_api, keys["cafe"])
    ask(shop, "the shop's secret")

    expect(shop.locator(".card-text")).to_have_text(["cafe's picture"])
    expect(shop.locator("#toast")).to_have_text("Somebody else signed in here: this is the account cafe now.")
    expect(shop.locator("#prompt")).to_have_value("")
    assert (prompts(parts, "cafe"), prompts(parts, "shop")) == (["cafe's picture"], ["shop's picture"])
    assert "secret" not in shop.evaluate("() => JSON.stringify(localStorage)")
    ask(shop, "the cafe's own")
    expect(shop.locator(JOB)).to_have_count(2)
    assert prompts(parts, "cafe") == ["the cafe's own", "cafe's picture"]


def test_the_stars_of_one_outlive_a_look_in_the_others_session(shop, inviting_api, parts, keys):
    shop.locator(".card-open").click()
    shop.get_by_role("button", name="Star").click()
    shop.keyboard.press("Escape")
    (job,) = parts.jobs.list_jobs("shop")
    switch_unseen(shop, inviting_api, keys["cafe"])

    shop.locator("#starred-only").check()

    expect(shop.locator("#empty")).to_contain_text("No starred pictures")
    assert shop.evaluate("() => localStorage.getItem('zimg.starred.shop')") == f'["{job.id}"]'


def test_who_signs_in_after_another_in_the_same_tab_sees_their_own_pictures_alone(shop, inviting_api, parts, keys):
    shop.context.clear_cookies()
    ask(shop, "after the end")
    expect(shop.locator("#sign-in")).to_be_visible()
    assert shown(shop) == []

    sign_in(shop, keys["cafe"])

    expect(shop.locator(".card-text")).to_have_text(["cafe's picture"])
    expect(shop.locator("#prompt")).to_have_value("")
    assert prompts(parts, "cafe") == ["cafe's picture"]


def test_who_signs_in_again_has_their_pictures_and_their_unfinished_words(shop, inviting_api, parts, keys):
    shop.context.clear_cookies()
    ask(shop, "drawn after all")
    expect(shop.locator("#sign-in")).to_be_visible()

    sign_in(shop, keys["shop"])

    expect(shop.locator(JOB)).to_have_count(2)
    expect(shop.locator("#prompt")).to_have_value("drawn after all")
    assert prompts(parts, "shop") == ["drawn after all", "shop's picture"]


def test_a_sign_out_in_one_tab_empties_the_other(shop, inviting_api, parts, keys):
    shop.fill("#prompt", "half a secret")
    other = signed_out_beside(shop, inviting_api.url)
    expect(other.locator("#sign-in")).to_be_visible()

    expect(shop.locator("#sign-in")).to_be_visible()
    assert shown(shop) == []
    expect(shop.locator("#prompt")).to_have_value("")
    expect(shop.locator("#sign-in-error")).to_contain_text("session has ended")


def test_a_sign_in_in_one_tab_is_the_others_too(shop, inviting_api, parts, keys):
    other = signed_out_beside(shop, inviting_api.url)
    expect(other.locator("#sign-in")).to_be_visible()
    expect(shop.locator("#sign-in")).to_be_visible()

    sign_in(other, keys["cafe"])

    expect(shop.locator("#sign-in")).to_be_hidden()
    expect(shop.locator(".card-text")).to_have_text(["cafe's picture"])
    expect(shop.locator("#toast")).to_have_text("Somebody else signed in here: this is the account cafe now.")


def test_an_answer_that_was_on_its_way_to_one_is_not_shown_to_the_other(shop, inviting_api, parts, keys):
    held = []
    shop.route("**/v1/jobs?limit=*", lambda route: held.append((route, route.fetch())), times=1)
    shop.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    shop.wait_for_timeout(1)
    while not held:
        shop.wait_for_timeout(50)
    switch_unseen(shop, inviting_api, keys["cafe"])
    ask(shop, "the shop's secret")
    expect(shop.locator(".card-text")).to_have_text(["cafe's picture"])

    route, answer = held[0]
    route.fulfill(response=answer)
    shop.evaluate("() => new Promise((done) => setTimeout(done, 50))")

    assert shown(shop) == ["cafe's picture"]


def test_older_pictures_of_an_ended_session_are_asked_for_after_a_sign_in(shop, inviting_api, parts, keys):
    owner = parts.tenants.get("shop")
    for number in range(LOADED_AT_ONCE):
        wish = Wish(prompt=f"number {number}", width=256, height=256)
        parts.jobs.cancel(parts.submission.submit_pictures(owner, wish, 1)[0].job_id)
    shop.reload()
    expect(shop.locator(JOB)).to_have_count(LOADED_AT_ONCE)
    shop.context.clear_cookies()

    shop.locator("#more").click()

    expect(shop.locator("#sign-in")).to_be_visible()
    assert shown(shop) == []
    assert "Authorization" not in shop.locator("#toast").inner_text()


@pytest.fixture
def shops_account(page, inviting_api, keys):
    """The account page in the shop's session."""
    page.goto(f"{inviting_api.url}/account")
    page.fill("#key", keys["shop"])
    page.press("#key", "Enter")
    expect(page.locator("#tenant")).to_have_text("shop")
    return page


def test_the_account_page_does_not_replace_the_others_key(shops_account, inviting_api, parts, keys):
    switch_unseen(shops_account, inviting_api, keys["cafe"])

    shops_account.get_by_role("button", name="Replace the key").click()

    expect(shops_account.locator("#tenant")).to_have_text("cafe")
    expect(shops_account.locator("#secret-dialog")).to_be_hidden()
    for name, key in keys.items():
        assert parts.tenants.find(hash_key(key)).name == name


def test_the_account_of_a_revoked_key_is_not_shown_on(shops_account, parts, keys):
    parts.tenants.revoke_key(hash_key(keys["shop"]))

    expect(shops_account.locator("#door")).to_be_visible()
    expect(shops_account.locator("#content")).to_be_hidden()
    expect(shops_account.locator("#tenant")).to_have_text("")
    expect(shops_account.locator("#sign-in-error")).to_contain_text("session has ended")


def test_a_sign_out_on_the_page_of_pictures_closes_the_account_page(shops_account, inviting_api, parts, keys):
    signed_out_beside(shops_account, inviting_api.url)

    expect(shops_account.locator("#door")).to_be_visible()
    expect(shops_account.locator("#content")).to_be_hidden()
