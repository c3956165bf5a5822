"""A key that is shown this once is shown, whatever fails after it was made."""

import pytest
from playwright.sync_api import expect

from scheduler.tenants import hash_key

CODE = "#code"


@pytest.fixture
def invite(parts, worker):
    code, _ = parts.invites.create()
    return code


def sign_up(page, api, code, name="ada"):
    page.goto(f"{api.url}/account")
    page.fill("#code", code)
    page.fill("#name", name)
    page.press("#name", "Enter")


def refuse_sign_in(route):
    if route.request.method == "POST":
        route.abort()
    else:
        route.continue_()


def test_the_key_of_a_new_account_is_shown_though_signing_in_fails(page, inviting_api, parts, invite):
    page.route("**/v1/session", refuse_sign_in)
    sign_up(page, inviting_api, invite)

    expect(page.locator("#secret-dialog")).to_be_visible()
    key = page.locator("#secret").input_value()
    assert parts.tenants.find(hash_key(key)).name == "ada"
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#sign-in-error")).to_contain_text("Your account is made. Sign in with its key.")
    assert "Trying again" not in page.locator("body").inner_text()

    page.unroute_all()
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#tenant")).to_have_text("ada")


def test_a_sign_up_without_an_answer_does_not_say_that_it_is_tried_again(page, inviting_api, parts, invite):
    page.route("**/v1/sign-up", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    sign_up(page, inviting_api, invite)

    expect(page.locator("#sign-up-error")).to_have_text("No answer from the service. Try again.")
    page.unroute_all()
    page.get_by_role("button", name="Make my account").click()
    expect(page.locator("#secret-dialog")).to_be_visible()


def test_an_account_page_that_gets_no_answer_at_first_begins_by_itself(page, inviting_api, parts, worker):
    page.route("**/v1/session", lambda route: route.abort(), times=1)
    page.goto(f"{inviting_api.url}/account")
    expect(page.locator("#toast")).to_contain_text("Trying again")

    expect(page.locator("#door")).to_be_visible()


def test_an_operator_who_replaces_the_key_in_use_sees_the_new_one_and_stays(page, inviting_api, parts, worker):
    key, made = parts.tenants.create_key("boss", is_admin=True, label="own")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", key)
    page.press("#admin-key", "Enter")
    expect(page.locator("#content")).to_be_visible()

    page.get_by_role("button", name=f"Replace the key …{made.hint} of boss").click()

    expect(page.locator("#secret-dialog")).to_be_visible()
    fresh = page.locator("#secret").input_value()
    assert parts.tenants.find(hash_key(key)) is None
    assert parts.tenants.find(hash_key(fresh)).name == "boss"
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name=f"Replace the key …{fresh[-4:]} of boss")).to_be_visible()
    expect(page.locator("#content")).to_be_visible()
    page.reload()
    expect(page.locator("#content")).to_be_visible()


def test_a_key_is_shown_though_what_comes_after_it_gets_no_answer(page, inviting_api, parts, worker):
    _, made = parts.tenants.create_key("shop")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#content")).to_be_visible()
    page.route("**/v1/admin/overview", lambda route: route.abort())

    page.get_by_role("button", name=f"Replace the key …{made.hint} of shop").click()

    expect(page.locator("#secret-dialog")).to_be_visible()
    assert parts.tenants.find(hash_key(page.locator("#secret").input_value())).name == "shop"
