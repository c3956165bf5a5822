"""/docs in Chromium: in the look of the other pages, with a way back, and a picture is asked for from it."""

import pytest
from playwright.sync_api import expect


def brightness(page):
    """Of what stands behind the words, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(", "))


@pytest.mark.parametrize(("scheme", "chosen", "is_dark"), [("dark", None, True), ("dark", "light", False)])
def test_the_docs_are_as_dark_as_the_page_and_lead_back_to_it(page, live, parts, scheme, chosen, is_dark):
    page.emulate_media(color_scheme=scheme)
    if chosen:
        page.add_init_script(f"localStorage.setItem('zimg.theme', '{chosen}')")

    page.goto(f"{live.url}/docs")

    expect(page.locator(".swagger-ui .info")).to_be_visible()
    assert (brightness(page) < 60) == is_dark
    page.get_by_role("link", name="zimg").first.click()
    expect(page.locator("#prompt")).to_be_visible()
