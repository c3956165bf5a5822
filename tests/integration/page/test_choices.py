"""The shape and the number of pictures are chosen once, not at each visit."""

import pytest
from playwright.sync_api import expect


def test_the_shape_and_the_count_chosen_last_are_chosen_after_a_reload(home):
    home.check("input[value=portrait]")
    home.check("input[value='4']")

    home.reload()

    expect(home.locator("input[value=portrait]")).to_be_checked()
    expect(home.locator("input[value='4']")).to_be_checked()


@pytest.mark.parametrize("kept", ['{"shape": "hexagon"}', "no JSON", "null", '["square"]'])
def test_kept_choices_that_the_page_does_not_know_leave_its_own(home, kept):
    home.evaluate("kept => localStorage.setItem('zimg.choices', kept)", kept)

    home.reload()

    expect(home.locator("input[value=square]")).to_be_checked()
    expect(home.locator("input[value='1']")).to_be_checked()
