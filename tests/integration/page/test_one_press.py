"""One press is one picture: a held key and a double click draw once; the next press is free at once."""

import pytest
from playwright.sync_api import expect

from tests.integration.api.conftest import eventually
from tests.integration.page.conftest import ask

JOB = ".card:not([data-status=unsent])"


def prompts(parts):
    """What was drawn, oldest first."""
    return [job.request.prompt for job in reversed(parts.jobs.list_jobs("local", limit=50))]


def hold(page, key="Enter", repeats=15):
    """What a keyboard sends while a key is held for half a second."""
    for _ in range(1 + repeats):
        page.keyboard.down(key)
    page.keyboard.up(key)


def drawn_in_all(page, parts):
    """Requests go out in the order of asking: with the last one everything before it is there."""
    ask(page, "the last one")
    eventually(lambda: "the last one" in prompts(parts))
    return prompts(parts)[:-1]


def test_enter_held_for_half_a_second_draws_one_picture(home, parts, worker):
    home.fill("#prompt", "a mug")
    hold(home)

    assert drawn_in_all(home, parts) == ["a mug"]


def test_enter_held_on_the_button_draws_one_picture(home, parts, worker):
    home.fill("#prompt", "a mug")
    home.locator("#go").focus()
    hold(home)

    assert drawn_in_all(home, parts) == ["a mug"]


def test_a_double_click_draws_one_picture_and_a_click_after_it_another(home, parts, worker):
    home.fill("#prompt", "a mug")
    home.locator("#go").dblclick()
    expect(home.locator(JOB)).to_have_count(1)
    home.locator("#go").click()

    assert drawn_in_all(home, parts) == ["a mug", "a mug"]


@pytest.mark.parametrize("how", ["a double click", "a held key"])
def test_again_is_one_picture_too(home, parts, worker, how):
    ask(home, "hard to draw")
    worker.fail(eventually(worker.claim)[0], "black_image")
    again = home.get_by_role("button", name="Again: hard to draw")
    expect(again).to_be_visible()
    if how == "a double click":
        again.dblclick()
    else:
        again.focus()
        hold(home)

    assert drawn_in_all(home, parts) == ["hard to draw"] * 2
