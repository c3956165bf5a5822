"""Cards of what ended without a picture, what is left of the day, and an empty history."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from tests.integration.api.conftest import eventually
from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"


@pytest.fixture
def home(page, live, worker, complaints):
    page.goto(live.url)
    expect(page.locator("#prompt")).to_be_focused()
    yield page
    assert complaints.lines == []


def limit(parts, daily_units):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, daily_units=daily_units)))


def canceled(page, prompt):
    """A card of a canceled job."""
    ask(page, prompt)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".card[data-status=canceled]").first).to_contain_text(prompt)


def test_a_canceled_card_is_removed_by_keyboard_and_taken_back(home, parts):
    canceled(home, "kept")
    canceled(home, "not this one")
    home.get_by_role("button", name="Remove: not this one").press("Enter")

    expect(home.locator(JOB)).to_have_count(1)
    expect(home.locator("#toast")).to_contain_text("Removed")
    expect(home.locator(f"{JOB} button").first).to_be_focused()
    home.get_by_role("button", name="Undo").click()
    expect(home.locator(JOB)).to_have_count(2)
    home.reload()
    expect(home.locator(JOB)).to_have_count(2)
    assert len(parts.jobs.list_jobs("local")) == 2


def test_what_was_removed_is_gone_at_the_next_visit(home, parts):
    canceled(home, "not this one")
    home.get_by_role("button", name="Remove: not this one").click()
    expect(home.locator(JOB)).to_have_count(0)
    home.reload()

    assert eventually(lambda: parts.jobs.list_jobs("local") == [])
    expect(home.locator("#empty")).to_be_visible()
    expect(home.locator(JOB)).to_have_count(0)


def test_each_removal_makes_the_one_before_it_final_and_the_keyboard_takes_the_last_one_back(home, parts):
    canceled(home, "first")
    canceled(home, "second")
    home.get_by_role("button", name="Remove: first").click()
    home.get_by_role("button", name="Remove: second").click()

    assert eventually(lambda: [job.request.prompt for job in parts.jobs.list_jobs("local")] == ["second"])
    home.locator("#go").focus()
    home.keyboard.press("Control+z")
    expect(home.locator(JOB)).to_have_count(1)
    expect(home.locator(JOB)).to_contain_text("second")


def test_a_failed_card_is_removed_in_chinese(home, worker, parts):
    ask(home, "马克杯")
    worker.fail(eventually(worker.claim)[0], "black_image")
    expect(home.locator(".card[data-status=failed]")).to_have_count(1)
    home.get_by_role("button", name="中文").click()
    home.get_by_role("button", name="移除：马克杯").click()

    expect(home.locator(JOB)).to_have_count(0)
    expect(home.locator("#toast")).to_contain_text("已移除")
    expect(home.get_by_role("button", name="撤销")).to_be_visible()


@pytest.mark.parametrize(
    ("asked", "level", "words"),
    [(0, "good", "10 of 10 left today"), (8, "low", "Only 2 of 10 left today"), (10, "none", "None of 10 left today")],
)
def test_the_meter_follows_what_is_left_in_colour_length_and_words(page, live, parts, worker, asked, level, words):
    limit(parts, 10)
    page.goto(live.url)
    expect(page.locator("#quota")).to_be_visible()
    for number in range(asked):
        ask(page, f"picture {number}")
        expect(page.locator(JOB)).to_have_count(number + 1)

    expect(page.locator("#quota")).to_have_attribute("data-level", level)
    expect(page.locator("#quota-text")).to_have_text(words)
    assert page.locator("#quota-meter").evaluate("(one) => one.value") == 10 - asked
    colours = page.evaluate(
        "() => ['--good', '--warn', '--danger']"
        ".map((name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
    )
    shown = page.locator("#quota").evaluate("(one) => getComputedStyle(one).getPropertyValue('--level').trim()")
    assert shown == dict(zip(("good", "low", "none"), colours, strict=True))[level]


def test_the_account_says_what_is_left_in_the_same_way(page, live, parts, worker):
    limit(parts, 3)
    page.goto(f"{live.url}/account")
    expect(page.locator("#left")).to_have_text("3")
    expect(page.locator(".today")).to_have_attribute("data-level", "good")
    for number in range(3):
        page.request.post(f"{live.url}/v1/jobs", data={"prompt": f"mug {number}", "size": "256x256"})

    expect(page.locator("#left")).to_have_text("0")
    expect(page.locator(".today")).to_have_attribute("data-level", "none")
    expect(page.locator("#left-note")).to_have_text("None of 3 left today")
    assert page.locator("#daily").evaluate("(one) => one.value") == 0


def test_one_picture_is_not_pictures(page, live, parts, worker):
    page.request.post(f"{live.url}/v1/jobs", data={"prompt": "a mug", "size": "256x256"})
    worker.draw_all()
    page.goto(f"{live.url}/account")

    expect(page.locator("#chart-sum")).to_have_text("1 picture in 30 days")


def test_an_empty_history_offers_something_to_draw_and_an_empty_filter_says_so(home, worker):
    home.locator("#examples button").first.click()
    expect(home.locator("#prompt")).not_to_have_value("")
    expect(home.locator("#prompt")).to_be_focused()
    home.keyboard.press("Enter")
    with worker.at_work():
        expect(home.locator(".card[data-status=succeeded]")).to_have_count(1)
    expect(home.locator("#empty")).to_be_hidden()

    home.locator("#starred-only").check()

    expect(home.locator("#empty")).to_contain_text("No starred pictures")
    expect(home.locator("#examples")).to_be_hidden()
