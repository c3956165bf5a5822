"""A prompt that is written from right to left is set from right to left, wherever it stands."""

from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.api.conftest import eventually
from tests.integration.page.conftest import ask

HEBREW = "ספל אדום, על שולחן!"
DONE, FAILED = ".card[data-status=succeeded]", ".card[data-status=failed]"


def test_the_field_the_cards_and_the_large_view(home, parts, worker):
    home.fill("#prompt", HEBREW)
    expect(home.locator("#prompt")).to_have_css("direction", "rtl")
    home.press("#prompt", "Enter")
    expect(home.locator(".card-text")).to_have_css("direction", "rtl")
    worker.finish(eventually(worker.claim)[0])
    expect(home.locator(f"{DONE} .card-text")).to_have_css("direction", "rtl")
    ask(home, "a red mug")
    worker.fail(eventually(worker.claim)[0], "black_image")
    expect(home.locator(f"{FAILED} .card-text")).to_have_css("direction", "ltr")

    home.locator(f"{DONE} .card-open").click()

    expect(home.locator("#viewer-prompt")).to_have_css("direction", "rtl")
    expect(home.locator("#facts")).to_have_css("direction", "ltr")


def test_the_account_page(page, live, parts, worker):
    parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt=HEBREW, width=256, height=256), 2)
    worker.finish(worker.claim()[0])
    page.goto(f"{live.url}/account")
    expect(page.locator("#jobs tr")).to_have_count(2)

    for row in page.locator("#jobs tr").all():
        expect(row.locator("bdi")).to_have_text(HEBREW)


def test_the_operators_page(page, inviting_api, parts, worker):
    shop = parts.tenants.get("shop")
    parts.submission.submit_pictures(shop, Wish(prompt=HEBREW, width=256, height=256), 1)
    worker.fail(worker.claim()[0], "poison")
    page.goto(f"{inviting_api.url}/admin")
    page.fill("#admin-key", "the-operators-own-key")
    page.press("#admin-key", "Enter")

    expect(page.locator("#letters bdi")).to_have_text(HEBREW)
