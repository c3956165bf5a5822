"""What a person drew is there again, whatever was restarted in between."""

import httpx
from playwright.sync_api import expect

from scheduler.submission import Wish
from tests.integration.api.conftest import live_api


def test_the_history_is_there_after_a_restart_of_the_api_and_of_redis(
    settings, parts, worker, page, valkey_server, tmp_path
):
    with live_api(settings, tmp_path) as api:
        for number in range(3):
            httpx.post(
                f"{api.url}/v1/jobs", json={"prompt": f"mug {number}", "size": "256x256"}, timeout=20
            ).raise_for_status()
        worker.draw_all()
        page.goto(api.url)
        pictures = page.locator(".card[data-status=succeeded] img")
        expect(pictures).to_have_count(3)
        shown = {pictures.nth(number).get_attribute("alt") for number in range(3)}

        page.goto("about:blank")  # its streams are closed, so the api stops at once
        api.stop()
        valkey_server.kill()
        valkey_server.start()
        api.start()
        page.goto(api.url)

        expect(pictures).to_have_count(3)
        assert {pictures.nth(number).get_attribute("alt") for number in range(3)} == shown
        page.wait_for_function("() => [...document.querySelectorAll('.card img')].every((image) => image.naturalWidth)")


def test_after_a_reload_what_is_drawn_now_is_seen_however_many_wait_behind_it(page, live, parts, worker):
    parts.submission.submit_pictures(parts.tenants.local(), Wish(prompt="a mug", width=256, height=256), 60)
    lease = worker.claim()[0]
    worker.step(lease, 2)

    page.goto(live.url)

    expect(page.locator(".card")).to_have_count(60)
    expect(page.locator(f'.card[data-id="{lease.job_id}"]')).to_contain_text("Step 2 of 4")
