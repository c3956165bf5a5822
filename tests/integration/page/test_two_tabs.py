"""Two tabs of one account: what is done in one is seen in the other, without a reload and without polling."""

import pytest
from playwright.sync_api import expect

from tests.integration.api.conftest import eventually, use_up
from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"
UNSENT = ".card[data-status=unsent]"
DONE = ".card[data-status=succeeded]"


@pytest.fixture
def beside(home, live):
    """A second tab beside `home`."""
    tab = home.context.new_page()
    tab.goto(live.url)
    expect(tab.locator("#empty")).to_be_visible()
    return tab


@pytest.fixture
def drawn(home, beside, worker):
    """A picture that both tabs show."""
    ask(home, "a red mug")
    worker.finish(eventually(worker.claim)[0])
    for tab in (home, beside):
        expect(tab.locator(DONE)).to_have_count(1)


def test_what_one_draws_appears_in_the_other_once_and_is_followed_there(home, beside, worker):
    asked = []
    beside.on("request", lambda request: asked.append(request.url) if "/v1/jobs?limit=" in request.url else None)
    ask(home, "a red mug")
    expect(beside.locator(JOB)).to_have_count(1)
    assert len(asked) == 1
    (lease,) = eventually(worker.claim)
    worker.step(lease, 2)
    expect(beside.locator(JOB)).to_contain_text("Step 2 of 4")
    worker.finish(lease)
    expect(beside.locator(DONE)).to_have_count(1)

    ask(beside, "a green tent")

    expect(home.locator(".card-text")).to_have_text(["a green tent", "a red mug"])
    expect(beside.locator(".card-text")).to_have_text(["a green tent", "a red mug"])


@pytest.fixture
def unsent(page, live, parts):
    """A first tab and one beside it that both show what waits to be sent."""
    use_up(parts)
    page.goto(live.url)
    ask(page, "a red mug")
    expect(page.locator(UNSENT)).to_have_count(1)
    tab = page.context.new_page()
    tab.goto(live.url)
    expect(tab.locator(UNSENT)).to_have_count(1)
    return page, tab


def test_what_waits_to_be_sent_in_both_is_one_card_in_both_once_it_is_sent(unsent, parts):
    first, beside = unsent
    parts.tenants.change("local", {"daily_units": 9})
    first.evaluate("() => window.dispatchEvent(new Event('online'))")  # at once, not within the minute

    for tab in (first, beside):
        expect(tab.locator(JOB)).to_have_count(1)
        expect(tab.locator(UNSENT)).to_have_count(0)
    assert len(parts.jobs.list_jobs("local")) == 1


def test_what_is_put_away_in_one_waits_in_the_other_no_more(unsent):
    first, beside = unsent
    first.get_by_role("button", name="Cancel").click()

    expect(beside.locator(UNSENT)).to_have_count(0)


def test_a_star_given_or_taken_in_one_is_seen_in_the_other(home, beside, drawn):
    beside.locator("#starred-only").check()
    home.locator(".card-open").click()
    home.get_by_role("button", name="Star").click()
    expect(beside.locator(".card-star")).to_have_count(1)
    beside.locator(".card-open").click()
    star = beside.get_by_role("button", name="Star")
    expect(star).to_have_attribute("aria-pressed", "true")

    home.get_by_role("button", name="Star").click()

    expect(star).to_have_attribute("aria-pressed", "false")
    expect(beside.locator(JOB)).to_have_count(0)


def test_a_picture_that_is_deleted_in_one_is_gone_in_the_other_also_where_it_is_looked_at(home, beside, drawn):
    beside.locator(".card-open").click()
    home.on("dialog", lambda dialog: dialog.accept())
    home.locator(".card-open").click()
    home.get_by_role("button", name="Delete").click()

    expect(beside.locator("#viewer-missing")).to_contain_text("This picture is gone")
    beside.keyboard.press("Escape")
    expect(beside.locator(JOB)).to_have_count(0)
    expect(beside.locator("#empty")).to_be_visible()


def test_a_card_that_is_removed_in_one_is_gone_in_the_other_when_that_is_final(home, beside, worker):
    for prompt in ("first", "second"):
        ask(home, prompt)
        worker.fail(eventually(worker.claim)[0], "black_image")
    expect(beside.locator(".card[data-status=failed]")).to_have_count(2)

    home.get_by_role("button", name="Remove: first").click()
    home.get_by_role("button", name="Remove: second").click()

    expect(beside.locator(JOB)).to_have_count(1)
    expect(beside.locator(JOB)).to_contain_text("second")


def test_deleting_everything_on_the_account_page_empties_a_page_of_pictures_beside_it(home, beside, drawn, live):
    beside.goto(f"{live.url}/account")
    beside.fill("#confirm", "local")
    beside.press("#confirm", "Enter")
    expect(beside.locator("#toast")).to_have_text("Deleted: 1 job")

    expect(home.locator(JOB)).to_have_count(0)
    expect(home.locator("#empty")).to_be_visible()


def test_what_another_account_does_in_a_tab_of_its_own_is_none_of_this_ones_business(home, beside):
    asked = []
    beside.on("request", lambda request: asked.append(request.url))
    home.evaluate("() => new BroadcastChannel('zimg.history').postMessage({ owner: 'cafe', gone: [] })")
    ask(home, "a red mug")
    expect(beside.locator(JOB)).to_have_count(1)

    assert len([url for url in asked if "/v1/jobs?limit=" in url]) == 1
