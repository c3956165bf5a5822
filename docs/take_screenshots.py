"""Screenshots for the README and the docs, taken of a running service with its real pictures.

    python -m docs.take_screenshots http://127.0.0.1:8080
    python -m docs.take_screenshots panels

The first draws a few prompts by the page itself, then saves page.png, viewer.png, dark-zh.png and phone.png in
docs/images (those of the docs were taken with the starter model); the second saves account*.png and admin*.png of a
sample service. Look at them before you keep them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from docs.sample_service import Sample, sample_service

FOLDER = Path(__file__).parent / "images"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-headless-shell")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"]
#: In words that the starter model knows, too; the last one stands first.
PROMPTS = (
    "A blue bottle on a wooden table",
    "白底产品图：红色马克杯",
    "A pink heart-shaped cushion on a light blue background",
    "A purple car in a neon night street",
    "A green tent in a forest",
    "A turquoise vase in a kitchen",
    "沙滩上的黄色雨伞",
    "A glossy orange lamp on a grey background",
    "A red mug on a white background",
)
#: Turns of the three shapes, so that rows are full.
SHAPES = ("square", "landscape", "portrait", "landscape", "square", "square", "portrait", "landscape", "square")
WAIT_MS = 300_000


def draw(page: Page) -> None:
    """Ask for every prompt that the history does not have yet, and wait for all pictures."""
    shown = set(page.locator(".card-text").all_inner_texts())
    for prompt, shape in zip(PROMPTS, SHAPES, strict=True):
        if prompt not in shown:
            page.check(f"input[value={shape}]")
            page.fill("#prompt", prompt)
            page.press("#prompt", "Enter")
            expect(page.locator(".card").first).to_contain_text(prompt[:10], timeout=WAIT_MS)
    expect(page.locator(".card[data-status=queued], .card[data-status=running]")).to_have_count(0, timeout=WAIT_MS)
    settle(page)


def settle(page: Page) -> None:
    """Every thumbnail loaded, the page at its top, nothing selected."""
    for image in page.locator(".card img").all():
        image.scroll_into_view_if_needed()
    page.wait_for_function("() => [...document.querySelectorAll('.card img')].every((one) => one.naturalWidth > 0)")
    page.fill("#prompt", "")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")


def open_page(browser: Browser, url: str, **look: object) -> Page:
    """A tab of its own look."""
    page = browser.new_context(reduced_motion="reduce", **look).new_page()  # type: ignore[arg-type]
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page


def take_account(browser: Browser, sample: Sample, name: str, **look: object) -> None:
    """The account page, signed in."""
    page = open_page(browser, f"{sample.url}/account", **look)
    page.fill("#key", sample.key)
    page.press("#key", "Enter")
    expect(page.locator("#chart svg")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.screenshot(path=FOLDER / f"{name}.png", full_page="is_mobile" not in look)


def take_admin(browser: Browser, sample: Sample, name: str, **look: object) -> None:
    """The operator's page, with one plan unfolded."""
    page = open_page(browser, f"{sample.url}/admin", **look)
    page.fill("#admin-key", sample.admin_key)
    page.press("#admin-key", "Enter")
    expect(page.locator(".worker")).to_have_count(2)
    expect(page.locator("#letters tr")).to_have_count(2)
    page.locator(".worker summary").first.click()
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    page.screenshot(path=FOLDER / f"{name}.png", full_page="is_mobile" not in look)


def take_panels(browser: Browser) -> None:
    """Both pages: light on a desk, dark and Chinese, on a phone."""
    desk = {"viewport": {"width": 1280, "height": 860}, "locale": "en-US"}
    dark = {"viewport": {"width": 1280, "height": 860}, "locale": "zh-CN", "color_scheme": "dark"}
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "locale": "en-US", "is_mobile": True}
    with sample_service() as sample:
        for suffix, look in (("", desk), ("-dark-zh", dark), ("-phone", phone)):
            take_account(browser, sample, f"account{suffix}", **look)
            take_admin(browser, sample, f"admin{suffix}", **look)


def main() -> None:
    """Draw, then save the four pictures; or those of the sample service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="the service, or panels")
    url = parser.parse_args().url
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        if url == "panels":
            take_panels(browser)
            return
        page = open_page(browser, url, viewport={"width": 1280, "height": 860}, locale="en-US")
        draw(page)
        page.fill("#prompt", PROMPTS[-1])
        page.screenshot(path=FOLDER / "page.png")
        page.locator(".card-open").first.click()
        page.wait_for_function("() => document.getElementById('viewer-image').naturalWidth > 0")
        page.screenshot(path=FOLDER / "viewer.png")
        dark = open_page(browser, url, viewport={"width": 1280, "height": 860}, locale="zh-CN", color_scheme="dark")
        settle(dark)
        dark.screenshot(path=FOLDER / "dark-zh.png")
        phone = open_page(
            browser, url, viewport={"width": 390, "height": 844}, device_scale_factor=2, locale="en-US", is_mobile=True
        )
        settle(phone)
        phone.screenshot(path=FOLDER / "phone.png")
        browser.close()


if __name__ == "__main__":
    main()
