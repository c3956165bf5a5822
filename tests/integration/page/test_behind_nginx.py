"""The page and the streams through the real nginx."""

import contextlib
import hashlib
import json
import random
import time

import httpx
import pytest
from httpx_sse import connect_sse
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from core.image_store import object_key
from core.job import Picture
from tests.fixtures.nginx import nginx_before
from tests.integration.api.conftest import eventually, live_api

HISTORY = 60
PICTURES = "document.querySelectorAll('.card[data-status=succeeded] img')"
LARGER_THAN_SOCKETS = 32 * 1024 * 1024


@pytest.fixture
def door(live, tmp_path):
    """The URL of nginx in front of the live api."""
    with nginx_before(live.port, tmp_path) as url:
        yield url


def test_a_history_of_60_pictures_loads_without_a_refusal(door, live, worker, page, complaints):
    with httpx.Client(base_url=live.url, timeout=20) as direct:
        for number in range(HISTORY // 10):
            direct.post("/v1/jobs", json={"prompt": f"mug {number}", "size": "256x256", "n": 10}).raise_for_status()
    worker.draw_all()
    statuses = []
    page.on("response", lambda answer: statuses.append((answer.status, answer.url)))

    page.goto(door)
    pictures, deadline = page.locator(".card[data-status=succeeded] img"), time.monotonic() + 60
    while pictures.count() < HISTORY:
        before = pictures.count()
        assert time.monotonic() < deadline
        with contextlib.suppress(PlaywrightTimeoutError):  # the button goes away where all is there
            page.locator("#more").click(timeout=1_000)
        with contextlib.suppress(PlaywrightTimeoutError):
            page.wait_for_function(f"(n) => {PICTURES}.length > n", arg=before, timeout=2_000)
    for number in range(HISTORY):
        pictures.nth(number).scroll_into_view_if_needed()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card img')].every((image) => image.complete && image.naturalWidth > 0)"
    )

    assert [one for one in statuses if one[0] >= 400] == []
    assert len({url for _, url in statuses if "/i/" in url}) >= HISTORY
    assert complaints.lines == []


def test_events_come_through_while_the_job_still_runs(door, worker):
    job = httpx.post(f"{door}/v1/jobs", json={"prompt": "a", "size": "256x256"}, timeout=20).json()
    (lease,) = eventually(worker.claim)
    with httpx.Client(timeout=20) as client, connect_sse(client, "GET", f"{door}/v1/jobs/{job['id']}/events") as source:
        events = source.iter_sse()
        worker.step(lease, 2)

        seen = next(event for event in events if event.event == "progress")

        assert json.loads(seen.data)["step"] == 2
        worker.finish(lease)
        assert next(event for event in events if event.event == "output")


def test_a_streamed_picture_comes_through_openais_door(door, worker):
    with worker.at_work():
        body = {"prompt": "a", "size": "256x256", "stream": True}
        with (
            httpx.Client(timeout=20) as client,
            connect_sse(client, "POST", f"{door}/v1/images/generations", json=body) as source,
        ):
            kinds = [event.event for event in source.iter_sse()]

    assert kinds == ["image_generation.completed"]


def test_a_client_that_does_not_read_its_picture_holds_no_thread_of_the_api(door, live, worker):
    """nginx takes the whole answer at once: the api has finished while the client has read next to nothing."""
    job = httpx.post(f"{door}/v1/jobs", json={"prompt": "a", "size": "256x256"}, timeout=20).json()
    (lease,) = eventually(worker.claim)
    data = random.randbytes(LARGER_THAN_SOCKETS)
    key, sha256 = object_key(lease.tenant, lease.job_id, lease.created_ms), hashlib.sha256(data).hexdigest()
    worker.images.put(key, data, sha256)
    picture = Picture(key=key, sha256=sha256, width=256, height=256, size_bytes=len(data))
    assert worker.store.complete(lease.job_id, lease.token, picture)
    before = answered(live)

    with httpx.Client(timeout=20) as client, client.stream("GET", f"{door}/i/{job['id']}.png"):
        assert eventually(lambda: answered(live) > before)


@pytest.mark.parametrize("megabytes", [2, 5, 15])
def test_a_body_that_only_the_api_finds_too_large_is_refused_as_that(door, megabytes):
    """And not as an api that is away, because nginx could not send it the rest."""
    body, head = b"a" * (megabytes * 1_000_000), {"Content-Type": "application/json"}

    with httpx.Client(timeout=20) as client:
        answers = [client.post(f"{door}/v1/jobs", content=body, headers=head) for _ in range(3)]

    assert {(one.status_code, one.json()["code"]) for one in answers} == {(413, "body_too_large")}


def test_where_tls_ends_in_front_of_nginx_links_are_https(door):
    body = {"prompt": "a mug", "size": "256x256"}
    answer = httpx.post(f"{door}/v1/jobs", json=body, headers={"X-Forwarded-Proto": "https"}, timeout=20)

    outside = door.replace("http://", "https://")
    assert answer.headers["Location"].startswith(f"{outside}/v1/jobs/")
    assert answer.json()["urls"]["events"].startswith(f"{outside}/v1/jobs/")


def test_what_operators_read_is_not_for_the_world(door, live):
    for path in ("/metrics", "//metrics", "/%6detrics", "/metrics?x=1", "/i/%2e%2e/metrics"):
        answer = httpx.get(f"{door}{path}", timeout=20)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert httpx.get(f"{live.url}/metrics", timeout=20).status_code == 200


def answered(live):
    """How many pictures the api has sent whole."""
    route = 'zimg_http_requests_total{code="200",method="GET",route="/i/<job_id>.png"}'
    lines = httpx.get(f"{live.url}/metrics", timeout=20).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(route))


#: Nine jobs at once from an iframe without an origin, as a Figma plugin runs; what each of them came to.
NINE_AT_ONCE = """async ([url, key]) => {
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
  const ask = (at) => fetch(`${url}/v1/jobs`, {
    method: 'POST', headers, body: JSON.stringify({ prompt: `mug ${at}`, size: '256x256' }),
  }).then(async (answer) => [answer.status, answer.headers.get('Retry-After'), (await answer.json()).code ?? null],
    (error) => [0, null, String(error)]);
  return Promise.all([...Array(9).keys()].map(ask));
}"""


def test_a_plugin_without_an_origin_reads_why_it_was_refused_and_when_to_come_again(settings, parts, page, tmp_path):
    key, _ = parts.tenants.create_key("shop")
    with (
        live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_CORS_ORIGINS="null") as api,
        nginx_before(api.port, tmp_path) as door,
    ):
        page.set_content('<iframe sandbox="allow-scripts" srcdoc="<p>a plugin</p>"></iframe>')
        plugin = page.locator("iframe").element_handle().content_frame()
        assert plugin.evaluate("() => self.origin") == "null"
        came_to = plugin.evaluate(NINE_AT_ONCE, [door, key])

    assert {status for status, _, _ in came_to} == {202, 429}
    assert {tuple(one[1:]) for one in came_to if one[0] == 429} == {("1", "rate_limit_exceeded")}
