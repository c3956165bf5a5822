"""What a person drew is there again, whatever was restarted in between."""

import httpx
from playwright.sync_api import expect

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
