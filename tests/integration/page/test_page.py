"""What a person does on the page, in a real browser."""

import base64
import io
import re
import zipfile

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from core.job import GenerationRequest
from core.redis_client import PREFIX
from tests.integration.api.conftest import eventually, live_api
from tests.integration.page.conftest import ask, sign_in
from worker.png import encode_png

#: A card of something that the service has taken; what waits to be sent has a card as well.
JOB = ".card:not([data-status=unsent])"
UNSENT = ".card[data-status=unsent]"
DONE = ".card[data-status=succeeded]"


def test_enter_draws_and_the_picture_appears(home, worker):
    ask(home, "a red mug")
    expect(home.locator(".card")).to_contain_text("a red mug")
    (lease,) = eventually(worker.claim)
    worker.step(lease, 2)
    expect(home.locator(".waiting")).to_contain_text("Step 2 of 4")
    worker.finish(lease)

    picture = home.locator(f"{DONE} img")
    expect(picture).to_have_attribute("alt", "a red mug")
    expect(home.locator("#status")).to_contain_text("Picture ready")


def test_a_waiting_job_shows_its_place(home, worker):
    ask(home, "first")
    expect(home.locator(JOB)).to_have_count(1)
    ask(home, "second")

    expect(home.locator(".card").first).to_contain_text("Place 2 in the queue")
    expect(home.locator(".card").last).to_contain_text("Next in the queue")

    worker.store.redis.hset(f"{PREFIX}pace", mapping={"run_ms": 4000, "gap_ms": 1000, "ends": 9, "last": 1})
    worker.store.release(1)
    expect(home.locator(".card").last).to_contain_text("Starts soonready in about 4 s")
    worker.store.pause("lane", "interactive")
    expect(home.locator(".card").first).to_contain_text("Next in the queuepaused by the operator")


def test_pictures_stand_in_the_order_of_asking_though_the_first_answer_is_late(home, parts):
    held = []

    def hold_the_first_answer(route):
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    home.route("**/v1/jobs", hold_the_first_answer)
    ask(home, "first")
    ask(home, "second")
    expect(home.locator(UNSENT)).to_have_count(2)
    route, answer = held[0]
    route.fulfill(response=answer)

    expect(home.locator(JOB)).to_have_count(2)
    expect(home.locator(UNSENT)).to_have_count(0)
    expect(home.locator(".card").last).to_contain_text("first")
    assert [job.request.prompt for job in parts.jobs.list_jobs("local")] == ["second", "first"]


def test_go_is_free_again_at_once_while_others_run(home, worker):
    for number in range(5):
        ask(home, f"picture {number}")

    expect(home.locator(JOB)).to_have_count(5)
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(5)


@pytest.mark.parametrize(
    ("shape", "size"), [("square", (1024, 1024)), ("portrait", (864, 1152)), ("landscape", (1152, 864))]
)
def test_each_shape_is_drawn_in_its_size(home, worker, parts, shape, size):
    home.check(f"input[value={shape}]")
    ask(home, "a")
    expect(home.locator(JOB)).to_have_count(1)

    request = parts.jobs.list_jobs("local")[0].request
    assert (request.width, request.height) == size


def test_four_pictures_are_four_jobs_with_seeds_of_their_own(home, worker, parts):
    home.check("input[value='4']")
    ask(home, "a")

    expect(home.locator(JOB)).to_have_count(4)
    assert len({job.request.seed for job in parts.jobs.list_jobs("local")}) == 4


def test_shift_enter_starts_a_line_and_enter_of_an_input_method_does_not_draw(home, worker, parts):
    home.fill("#prompt", "one")
    home.press("#prompt", "End")
    home.press("#prompt", "Shift+Enter")
    home.keyboard.type("two")
    home.locator("#prompt").dispatch_event("keydown", {"key": "Enter", "isComposing": True})

    assert home.input_value("#prompt") == "one\ntwo"
    assert parts.jobs.list_jobs("local") == []


def test_the_history_is_there_after_a_reload(home, worker):
    ask(home, "keep me")
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(1)
    ask(home, "still waiting")
    expect(home.locator(JOB)).to_have_count(2)

    home.reload()

    expect(home.locator(JOB)).to_have_count(2)
    expect(home.locator(f"{DONE} img")).to_have_attribute("alt", "keep me")
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(2)


def test_what_was_drawn_elsewhere_is_there_when_one_comes_back_to_the_page(home, live, worker):
    ask(home, "asked here")
    expect(home.locator(JOB)).to_have_count(1)
    httpx.post(
        f"{live.url}/v1/jobs", json={"prompt": "asked by a program", "size": "256x256"}, timeout=20
    ).raise_for_status()
    home.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")

    expect(home.locator(JOB)).to_have_count(2)
    expect(home.locator(JOB).first).to_contain_text("asked by a program")
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(2)


def test_a_job_is_canceled_from_its_card(home, worker):
    ask(home, "not this one")
    home.get_by_role("button", name="Cancel: not this one").click()

    expect(home.locator(".card[data-status=canceled]")).to_contain_text("Canceled")
    assert worker.draw_all() == {}


def test_a_failed_job_says_why_and_can_be_drawn_again(home, worker, parts):
    ask(home, "hard to draw")
    worker.fail(eventually(worker.claim)[0], "black_image")

    expect(home.locator(".card[data-status=failed]")).to_contain_text("It did not work.")
    home.get_by_role("button", name="Again").click()
    expect(home.locator(JOB)).to_have_count(2)


def test_an_empty_prompt_and_a_refusal_are_told_beside_the_prompt(home, worker, parts, complaints):
    ask(home, "  ")
    expect(home.locator("#composer-error")).to_have_text("Write what you want to see.")

    ask(home, "a\u0001b")

    expect(home.locator("#composer-error")).to_contain_text("control character")
    assert parts.jobs.list_jobs("local") == []
    # A browser reports each 4xx answer on its console.
    complaints.lines = [line for line in complaints.lines if "status of 400" not in line]


@pytest.fixture
def with_pictures(home, worker):
    """The page with three finished pictures."""
    for count, prompt in enumerate(("first", "second", "third"), start=1):
        ask(home, prompt)
        expect(home.locator(JOB)).to_have_count(count)
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(3)
    return home


def test_the_viewer_opens_by_keyboard_turns_pages_and_gives_focus_back(with_pictures):
    page = with_pictures
    page.locator(".card-open").first.focus()
    page.keyboard.press("Enter")
    first = page.locator("#viewer-prompt").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#viewer-prompt").inner_text()
    page.keyboard.press("Escape")

    assert (first, second) == ("third", "second")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".card-open").nth(1)).to_be_focused()


def test_who_types_on_at_once_after_the_viewer_keeps_the_focus(with_pictures):
    page = with_pictures
    page.locator(".card-open").first.click()
    tell_later(page, "viewer", "close")  # as a busy browser does
    page.keyboard.press("Escape")
    page.locator("#prompt").focus()

    page.evaluate("() => window.tell()")

    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("a blue jug")
    expect(page.locator("#prompt")).to_have_value("a blue jug")


def tell_later(page, element_id, event):
    """The element's next such event waits until the page's `tell()`."""
    page.evaluate(
        """([id, name]) => {
          const element = document.getElementById(id);
          const hold = (event) => event.stopImmediatePropagation();
          element.addEventListener(name, hold, { capture: true, once: true });
          window.tell = () => element.dispatchEvent(new Event(name));
        }""",
        [element_id, event],
    )


def test_a_picture_is_downloaded_and_its_link_copied(with_pictures, live, parts):
    page = with_pictures
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".card-open").first.click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#toast")).to_have_text("Link copied")

    with Image.open(download.value.path()) as picture:
        assert picture.format == "PNG"
    assert re.fullmatch(r"zimg-\d+-[0-9a-f]{8}\.png", download.value.suggested_filename)
    job = parts.jobs.list_jobs("local")[0]
    assert page.evaluate("() => navigator.clipboard.readText()") == f"{live.url}/i/{job.id}.png"


def test_the_picture_itself_is_copied(with_pictures):
    page = with_pictures
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".card-open").first.click()
    page.get_by_role("button", name="Copy picture").click()

    expect(page.locator("#toast")).to_have_text("Picture copied")
    types = page.evaluate("async () => (await navigator.clipboard.read())[0].types")
    assert types == ["image/png"]


def test_vary_changes_the_words_and_records_what_it_changed(with_pictures, parts):
    page = with_pictures
    page.locator(".card-open").first.click()
    page.get_by_role("button", name="Vary").click()
    expect(page.locator(JOB)).to_have_count(4)

    job = parts.jobs.list_jobs("local")[0]
    assert job.request.prompt.startswith("third, ")
    assert job.metadata["varied_from"] == "third"


def test_a_star_is_kept_and_narrows_the_history(with_pictures):
    page = with_pictures
    page.locator(".card-open").first.click()
    page.get_by_role("button", name="Star").click()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator(DONE)).to_have_count(3)

    page.locator("#starred-only").check()

    expect(page.locator(JOB)).to_have_count(1)
    expect(page.locator(".card")).to_contain_text("third")


def test_what_is_asked_for_is_shown_where_only_starred_pictures_were(with_pictures, parts):
    """The new card was hidden, nothing was said, and people pressed again."""
    page = with_pictures
    page.locator(".card-open").first.click()
    page.get_by_role("button", name="Star").click()
    page.keyboard.press("Escape")
    page.locator("#starred-only").check()
    expect(page.locator(JOB)).to_have_count(1)

    ask(page, "a fourth one")

    expect(page.locator(JOB)).to_have_count(4)
    expect(page.locator(JOB).first).to_contain_text("a fourth one")
    expect(page.locator("#starred-only")).not_to_be_checked()


def test_a_picture_is_deleted_for_good(with_pictures, parts):
    page = with_pictures
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(".card-open").first.click()
    page.get_by_role("button", name="Delete").click()

    expect(page.locator(JOB)).to_have_count(2)
    page.reload()
    expect(page.locator(JOB)).to_have_count(2)
    assert len(parts.jobs.list_jobs("local")) == 2


def test_a_selection_is_downloaded_as_a_zip_of_the_pictures(with_pictures, parts):
    page = with_pictures
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(".card-check").nth(0).check()
    page.locator(".card-check").nth(2).check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download 2 as ZIP").click()

    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == 2
        with Image.open(io.BytesIO(archive.read(names[0]))) as picture:
            picture.verify()


def test_a_dropped_picture_shows_its_parameters_and_is_drawn_again(home, worker, parts):
    request = GenerationRequest(
        prompt="霓虹灯，暗夜雨景", width=512, height=256, seed=77, preset="turbo", model=parts.profile.id
    )
    png = encode_png(Image.new("RGB", (512, 256)), request, parts.profile).png
    home.evaluate(
        """(base64) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "a.png", { type: "image/png" }));
          document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(png).decode(),
    )
    expect(home.locator("#repeated")).to_contain_text("Seed 77")
    assert home.input_value("#prompt") == "霓虹灯，暗夜雨景"
    home.press("#prompt", "Enter")
    expect(home.locator(JOB)).to_have_count(1)

    drawn = parts.jobs.list_jobs("local")[0].request
    assert (drawn.prompt, drawn.seed, drawn.width, drawn.height) == ("霓虹灯，暗夜雨景", 77, 512, 256)


def test_the_language_is_switched_kept_and_asked_of_the_browser(home, browser, live, worker):
    home.get_by_role("button", name="中文").click()
    expect(home.locator("#go")).to_contain_text("生成")
    home.reload()
    expect(home.locator("html")).to_have_attribute("lang", "zh-CN")

    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(live.url)
    expect(page.locator("#prompt")).to_have_attribute("placeholder", "你想看到什么？")
    context.close()


def test_where_keys_are_needed_the_page_asks_once(settings, parts, worker, page, tmp_path):
    key, _ = parts.tenants.create_key("shop")
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0") as api:
        page.goto(api.url)
        page.fill("#key", "zimg_wrong")
        page.press("#key", "Enter")
        expect(page.locator("#sign-in-error")).to_contain_text("not known")
        sign_in(page, key)
        ask(page, "with a key")
        expect(page.locator(JOB)).to_have_count(1)
        page.reload()
        expect(page.locator(JOB)).to_have_count(1)
        assert page.evaluate("() => document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("#sign-in")).to_be_visible()

    assert [job.tenant for job in parts.jobs.list_jobs("shop")] == ["shop"]


def test_an_api_that_restarts_is_waited_for(settings, parts, worker, page, tmp_path):
    with live_api(settings, tmp_path) as api:
        page.goto(api.url)
        ask(page, "through a restart")
        expect(page.locator(JOB)).to_have_count(1)
        api.stop()
        expect(page.locator("#composer-error")).to_contain_text("Trying again")
        worker.draw_all()
        api.start()
        expect(page.locator(DONE)).to_have_count(1)
        expect(page.locator("#composer-error")).to_have_text("")


@pytest.mark.slow
def test_three_browsers_get_their_own_fifty_pictures_each(browser, live, worker, parts):
    contexts = [browser.new_context(locale="en-US") for _ in range(3)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(60_000)
        page.goto(live.url)
    for number in range(50):
        for name, page in zip("abc", pages, strict=True):
            ask(page, f"{name} {number}")

    eventually(lambda: len(parts.jobs.list_jobs("local", limit=200)) == 150, seconds=120)
    with worker.at_work():
        for page in pages:
            expect(page.locator(DONE)).to_have_count(50, timeout=120_000)
    for name, page in zip("abc", pages, strict=True):
        shown = page.locator(".card-text").all_inner_texts()
        assert sorted(shown) == sorted(f"{name} {number}" for number in range(50))
    for context in contexts:
        context.close()


def test_each_go_is_a_picture_of_its_own_however_fast(home, worker, parts):
    """A Go is a press of Enter or of the button; what a held key or a double click repeats is none (test_one_press)."""
    home.fill("#prompt", "the same words")
    home.press("#prompt", "Enter")
    home.press("#prompt", "Enter")
    expect(home.locator(JOB)).to_have_count(2)
    with worker.at_work():
        expect(home.locator(DONE)).to_have_count(2)
    home.locator(".card-open").first.click()
    home.get_by_role("button", name="Again").click()
    expect(home.locator(JOB)).to_have_count(3)

    assert len({job.request.seed for job in parts.jobs.list_jobs("local")}) == 3
