"""The longest name that a tenant may have leaves the operator's tables tables on a desk."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish

LONGEST = ("a-shop-with-a-name-that-goes-on-and-on." * 2)[:63]
SHORT = "shop"


@pytest.fixture
def admin(page, inviting_api, parts, worker):
    for name in (LONGEST, SHORT):
        parts.tenants.create_key(name, label="till")
        wish = Wish(prompt="a red mug", width=256, height=256)
        parts.submission.submit_pictures(parts.tenants.get(name), wish, 1)
        worker.fail(worker.claim()[0], "poison")
        parts.submission.submit_pictures(parts.tenants.get(name), wish, 1)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")
    expect(page.locator("#letters tr")).to_have_count(2)
    return page


@pytest.mark.parametrize("table", ["tenant-queues", "letters", "tenants", "keys"])
def test_a_long_name_is_shown_whole_in_a_row(admin, table):
    place = admin.locator(".scroll", has=admin.locator(f"#{table}"))

    expect(place).to_contain_text(LONGEST)
    expect(place).to_contain_text(SHORT)
    assert "stacked" not in place.get_attribute("class")
    assert place.evaluate("(one) => one.scrollWidth <= one.clientWidth")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_sticks_out_with_long_names(admin, width):
    admin.set_viewport_size({"width": width, "height": 900})

    assert admin.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
