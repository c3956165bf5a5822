"""A key that is shown this once is shown, whatever fails after it was made and however often one presses."""

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


class Held:
    """What is posted waits until it is let go."""

    def __init__(self, page):
        self._page = page
        self._routes = []
        self._is_open = False
        page.route("**/v1/**", self._take)

    def _take(self, route):
        if route.request.method == "POST" and not self._is_open:
            self._routes.append(route)
        else:
            route.continue_()

    def let_go(self, count=1):
        while len(self._routes) < count:
            self._page.wait_for_timeout(20)
        self._is_open = True
        for route in self._routes:
            route.continue_()


def shown_at(page, path, api, key="the-operators-own-key", field="#admin-key"):
    page.goto(f"{api.url}{path}")
    page.fill(field, key)
    page.press(field, "Enter")
    expect(page.locator("#content")).to_be_visible()


def keys_of(parts, tenant):
    return [one.hint for one in parts.tenants.list_keys() if one.tenant == tenant]


def test_a_double_press_makes_one_key_and_one_invite(page, inviting_api, parts, worker):
    shown_at(page, "/admin", inviting_api)
    page.fill("#key-tenant", "shop")
    held = Held(page)
    page.get_by_role("button", name="Make a key").dblclick()
    expect(page.get_by_role("button", name="Make a key")).to_have_attribute("aria-disabled", "true")
    held.let_go()
    expect(page.locator("#keys tr")).to_have_count(1)
    assert keys_of(parts, "shop") == [page.locator("#secret").input_value()[-4:]]
    page.get_by_role("button", name="Done").click()

    held = Held(page)
    page.press("#invite-days", "Enter")
    page.press("#invite-days", "Enter")
    held.let_go()
    expect(page.locator("#invites tr")).to_have_count(1)
    assert len(parts.invites.list_invites()) == 1


def test_a_double_press_replaces_a_key_once(page, inviting_api, parts, worker):
    key, _ = parts.tenants.create_key("shop")
    shown_at(page, "/account", inviting_api, key, "#key")
    held = Held(page)
    page.get_by_role("button", name="Replace the key").dblclick()
    held.let_go()

    expect(page.locator("#toast")).to_have_text("The key was replaced")
    fresh = page.locator("#secret").input_value()
    assert parts.tenants.find(hash_key(fresh)).name == "shop"
    assert sorted(keys_of(parts, "shop")) == sorted([key[-4:], fresh[-4:]])


def test_a_double_press_makes_one_account(page, inviting_api, parts, invite):
    page.goto(f"{inviting_api.url}/account")
    page.fill("#code", invite)
    page.fill("#name", "ada")
    held = Held(page)
    page.get_by_role("button", name="Make my account").dblclick()
    held.let_go()

    expect(page.locator("#tenant")).to_have_text("ada")
    assert keys_of(parts, "ada") == [page.locator("#secret").input_value()[-4:]]
    expect(page.locator("#sign-up-error")).to_have_text("")


def test_a_secret_that_comes_while_another_is_shown_waits_for_it(page, inviting_api, parts, worker):
    shown_at(page, "/admin", inviting_api)
    page.fill("#key-tenant", "shop")
    held = Held(page)
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("button", name="Make an invite").click()
    held.let_go(2)
    expect(page.locator("#keys tr")).to_have_count(1)
    expect(page.locator("#invites tr")).to_have_count(1)

    secrets = [""]
    for _ in range(2):
        expect(page.locator("#secret")).not_to_have_value(secrets[-1])  # a closed dialog is told of a little later
        secrets.append(page.locator("#secret").input_value())
        page.get_by_role("button", name="Done").click()
    expect(page.locator("#secret-dialog")).to_be_hidden()
    (made,) = parts.invites.list_invites()
    assert sorted(one[-4:] for one in secrets[1:]) == sorted([*keys_of(parts, "shop"), made.hint])


def test_neither_a_held_nor_a_second_enter_puts_a_secret_away(page, inviting_api, parts, worker):
    shown_at(page, "/admin", inviting_api)
    page.fill("#key-tenant", "shop")
    page.keyboard.down("Enter")
    expect(page.locator("#secret-dialog")).to_be_visible()
    page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    page.keyboard.press("Enter")

    expect(page.locator("#secret-dialog")).to_be_visible()
    assert keys_of(parts, "shop") == [page.locator("#secret").input_value()[-4:]]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#secret-dialog")).to_be_hidden()
