"""Screenshots for the README and the docs, taken of a running service with its real pictures.

    .venv/bin/python docs/take_screenshots.py http://127.0.0.1:8080

Draws a few prompts by the page itself, then saves docs/images/page.png, viewer.png, dark-zh.png and phone.png. Look at
them before you keep them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

FOLDER = Path(__file__).parent / "images"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
PROMPTS = (
    "A red mug on a white table, morning light",
    "Neon lights over a rainy street at night, reflections on wet asphalt",
    "霓虹灯，暗夜雨景，倒影",
    "Mountains in fog, ink wash painting",
    "A wooden bookshelf with green plants, soft daylight",
    "An orange cat asleep on a blue sofa",
    "白底产品图：不锈钢保温杯",
)
WAIT_MS = 300_000


def draw(page: Page) -> None:
    """Ask for every prompt that the history does not have yet, and wait for all pictures."""
    shown = set(page.locator(".card-text").all_inner_texts())
    for number, prompt in enumerate(PROMPTS):
        if prompt not in shown:
            page.check(f"input[value={('square', 'portrait', 'landscape')[number % 3]}]")
            page.fill("#prompt", prompt)
            page.press("#prompt", "Enter")
            expect(page.locator(".card").first).to_contain_text(prompt[:10], timeout=WAIT_MS)
    expect(page.locator(".card[data-status=queued], .card[data-status=running]")).to_have_count(0, timeout=WAIT_MS)
    page.locator(".card img").last.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    page.evaluate("() => scrollTo(0, 0)")


def open_page(browser: Browser, url: str, **look: object) -> Page:
    """A tab of its own look."""
    page = browser.new_context(reduced_motion="reduce", **look).new_page()  # type: ignore[arg-type]
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page


def main() -> None:
    """Draw, then save the four pictures."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = open_page(browser, url, viewport={"width": 1280, "height": 860}, locale="en-US")
        draw(page)
        page.screenshot(path=FOLDER / "page.png")
        page.locator(".card-open").first.click()
        page.wait_for_load_state("networkidle")
        page.screenshot(path=FOLDER / "viewer.png")
        dark = open_page(browser, url, viewport={"width": 1280, "height": 860}, locale="zh-CN", color_scheme="dark")
        dark.screenshot(path=FOLDER / "dark-zh.png")
        phone = open_page(
            browser, url, viewport={"width": 390, "height": 844}, device_scale_factor=2, locale="en-US", is_mobile=True
        )
        phone.screenshot(path=FOLDER / "phone.png")
        browser.close()


if __name__ == "__main__":
    main()
