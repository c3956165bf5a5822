"""/docs and /docs/scalar in Chromium: looking like the other pages, with a way back, loading nothing from elsewhere."""

import pytest
from playwright.sync_api import expect


def brightness(page):
    """Of what stands behind the words, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(", "))


PAGES = [("/docs", ".swagger-ui .info"), ("/docs/scalar", "#scalar h1")]


@pytest.mark.parametrize(("scheme", "chosen", "is_dark"), [("dark", None, True), ("dark", "light", False)])
@pytest.mark.parametrize(("path", "title"), PAGES)
def test_the_docs_are_as_dark_as_the_page_and_lead_back_to_it(page, live, path, title, scheme, chosen, is_dark):
    page.emulate_media(color_scheme=scheme)
    if chosen:
        page.add_init_script(f"localStorage.setItem('zimg.theme', '{chosen}')")

    page.goto(f"{live.url}{path}")

    expect(page.locator(title).first).to_be_visible()
    assert (brightness(page) < 60) == is_dark
    page.get_by_role("link", name="zimg").first.click()
    expect(page.locator("#prompt")).to_be_visible()


@pytest.mark.parametrize(("path", "title"), PAGES)
def test_the_docs_load_nothing_from_elsewhere_and_break_no_policy(page, live, complaints, path, title):
    foreign = []
    page.on("request", lambda request: foreign.append(request.url) if live.url not in request.url else None)

    page.goto(f"{live.url}{path}")
    expect(page.locator(title).first).to_be_visible()
    expect(page.get_by_text("Hand in a picture to draw").first).to_be_visible()
    page.wait_for_load_state("networkidle")

    assert [url for url in foreign if not url.startswith(("data:", "blob:"))] == []
    assert complaints.lines == []
    page.get_by_role("link", name={"/docs": "To read", "/docs/scalar": "To try out"}[path]).click()
    expect(page).to_have_url({"/docs": f"{live.url}/docs/scalar", "/docs/scalar": f"{live.url}/docs"}[path])
