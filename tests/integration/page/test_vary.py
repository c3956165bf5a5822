"""A variation of a prompt of any length is taken: what has no room is left out, replaced or cut."""

import pytest
from playwright.sync_api import expect

from scheduler.submission import Wish

JOB = ".card:not([data-status=unsent])"
MOST = 4000
SENTENCE = "a red mug on a white table by the window, "


@pytest.fixture
def vary(page, live, parts, worker, complaints):
    """Draws a prompt, then gives what "Vary" asks for, as often as it is called."""

    def draw(prompt):
        parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt=prompt, width=256, height=256), 1)
        worker.draw_all()
        page.goto(live.url)

    def press():
        worker.draw_all()
        before = len(parts.jobs.list_jobs("local"))
        expect(page.locator(".card[data-status=succeeded]")).to_have_count(before)
        page.locator(".card-open").first.click()
        page.get_by_role("button", name="Vary").click()
        expect(page.locator(JOB)).to_have_count(before + 1)
        return parts.jobs.list_jobs("local")[0]

    press.draw = draw
    yield press
    assert complaints.lines == []


@pytest.mark.parametrize("letter", ["字", "é", "🫖"])
def test_a_prompt_that_the_metadata_has_no_room_for_is_varied(vary, letter):
    base = letter * 2600
    vary.draw(base)

    job = vary()

    assert job.request.prompt.startswith(base)
    assert job.request.prompt.removeprefix(base)[1:].strip() == job.metadata["variation"]
    assert "varied_from" not in job.metadata


def test_a_variation_of_a_variation_replaces_what_was_changed(vary):
    base = "字" * 2600
    vary.draw(base)
    vary()

    job = vary()

    assert job.request.prompt == f"{base}，{job.metadata['variation']}"


@pytest.mark.parametrize("length", [MOST - 10, MOST])
def test_a_prompt_with_no_room_gives_up_words_of_its_end(vary, length):
    base = (SENTENCE * 100)[:length]
    vary.draw(base)

    job = vary()

    kept = job.request.prompt.removesuffix(f", {job.metadata['variation']}")
    assert base.startswith(kept)
    assert base[len(kept)] in " ,"  # no word is cut in two
    assert MOST - 60 < len(job.request.prompt) <= MOST
    again = vary()
    assert again.request.prompt.removesuffix(f", {again.metadata['variation']}")[: MOST - 120] == kept[: MOST - 120]
    assert len(again.request.prompt) <= MOST


def test_letters_outside_of_the_first_plane_are_counted_once_and_not_cut_in_two(vary):
    vary.draw("😀" * MOST)

    job = vary()

    kept = job.request.prompt.removesuffix(f", {job.metadata['variation']}")
    assert kept == "😀" * len(kept)
    assert len(job.request.prompt) == MOST


def test_a_short_prompt_is_remembered_whole(vary):
    vary.draw("a red mug")
    vary()

    assert vary().metadata["varied_from"] == "a red mug"
