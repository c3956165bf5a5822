"""The delivery log to its end, the secrets of several rotations, and the links in events."""

import io
import json
from dataclasses import replace

import pytest

from core.webhook_store import LOGGED_MOST, SECRETS_MOST, Attempt
from scheduler.webhooks import Webhooks
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    draw,
    http_fixture,
    receiver_fixture,
    sender_fixture,
    turn,
    verified,
)


@pytest.fixture(name="logged")
def logged_fixture(http, receiver, allowing):
    """An endpoint with 130 deliveries, every tenth of them failed for good; gives its id and all ids, newest first."""
    hook, store = add(http, receiver.url), allowing.webhooks
    endpoint, ids = store.endpoint(hook["id"]), []
    for number in range(130):
        one = store.enqueue(endpoint, {"id": f"evt_{number}", "type": "job.succeeded"})
        tried = (Attempt(at_ms=one.created_ms, status=500 if number % 10 == 0 else 204, duration_ms=1),)
        store.record(replace(one, state="failed" if number % 10 == 0 else "delivered", attempts=tried))
        ids.append(one.id)
    return hook["id"], ids[::-1]


def pages(http, hook, **query):
    """Every page of the log, as the cursors lead."""
    found, cursor = [], None
    while True:
        page = http.get(
            f"/v1/webhooks/{hook}/deliveries", query_string={**query, **({"cursor": cursor} if cursor else {})}
        )
        found.append([one["id"] for one in page.json["data"]])
        cursor = page.json["next_cursor"]
        assert page.json["has_more"] is (cursor is not None)
        if cursor is None:
            return found


def test_the_whole_log_is_reached_page_by_page(http, logged):
    hook, ids = logged

    found = pages(http, hook, limit=60)

    assert [len(page) for page in found] == [60, 60, 10]
    assert sorted(one for page in found for one in page) == sorted(ids)
    assert len(pages(http, hook)[0]) == 50
    assert len(pages(http, hook, limit=100)[0]) == 100


def test_what_failed_is_listed_alone_and_reached_however_much_came_after_it(http, logged, allowing):
    hook, _ = logged

    found = [one for page in pages(http, hook, status="failed", limit=5) for one in page]

    assert len(found) == 13
    assert {allowing.webhooks.delivery(one).state for one in found} == {"failed"}
    assert LOGGED_MOST == 10_000  # as docs/operations.md and the description say


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"status": "odd"}, {"cursor": "x y"}])
def test_odd_queries_of_the_log_are_refused(http, receiver, query):
    hook = add(http, receiver.url)

    assert http.get(f"/v1/webhooks/{hook['id']}/deliveries", query_string=query).status_code == 400


def test_sending_again_keeps_earlier_attempts_and_leaves_the_failed(http, logged, receiver, sender):
    hook, _ = logged
    failed = pages(http, hook, status="failed")[0][0]
    for status in (500, 502):
        receiver.answers = [status]
        shown = http.post(f"/v1/webhooks/{hook}/deliveries/{failed}/resend").json
        assert failed not in pages(http, hook, status="failed")[0]
        turn(sender)

    found = {one["id"]: one for one in http.get(f"/v1/webhooks/{hook}/deliveries?limit=100").json["data"]}[failed]

    assert [one["status"] for one in shown["attempts"]] == [500, 500]
    assert [one["status"] for one in found["attempts"]] == [500, 500, 502]


def test_every_secret_signs_until_its_own_end(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    made = [hook, *(http.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json for _ in range(2))]
    draw(http, worker)
    turn(sender)

    for one in made:
        assert verified(one["secret"], receiver.calls[0])
    assert [len(one["old_secrets_end_at"]) for one in made[1:]] == [1, 2]
    assert made[2]["secrets_ended_early"] == 0


def test_the_secret_beyond_the_bound_ends_at_once_and_the_answer_says_so(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    made = [http.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json for _ in range(SECRETS_MOST)]
    draw(http, worker)
    turn(sender)

    assert [one["secrets_ended_early"] for one in made] == [0] * (SECRETS_MOST - 1) + [1]
    assert len(made[-1]["old_secrets_end_at"]) == SECRETS_MOST - 1
    signatures = receiver.calls[0][1]["webhook-signature"].split()
    assert len(signatures) == SECRETS_MOST
    for one in made:
        assert verified(one["secret"], receiver.calls[0])


def test_a_later_rotation_without_overlap_leaves_an_earlier_promise(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    second = http.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json
    http.post(f"/v1/webhooks/{hook['id']}/rotate", json={"overlap_seconds": 0})
    draw(http, worker)
    turn(sender)

    assert verified(hook["secret"], receiver.calls[0])
    assert len(receiver.calls[0][1]["webhook-signature"].split()) == 2
    assert second["secret"]


HOST = {"Host": "localhost:8123"}


@pytest.mark.parametrize(
    ("public", "expected"), [("", "http://localhost:8123"), ("https://zimg.example/", "https://zimg.example")]
)
def test_links_in_events_have_the_host_of_the_request_or_the_public_one(
    http, worker, receiver, allowing, public, expected
):
    settings = replace(allowing.settings, host="0.0.0.0", public_base_url=public)
    sender = Webhooks(allowing.redis, allowing.jobs, settings)
    turn(sender)
    add(http, receiver.url)
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256"}, headers=HOST).json
    worker.draw_all()
    turn(sender)

    (picture,) = json.loads(receiver.calls[0][2])["data"]["images"]
    assert picture["url"] == f"{expected}/i/{job['id']}.png"


def test_a_batchs_links_have_the_host_of_its_request(http, worker, receiver, sender, allowing):
    add(http, receiver.url, events=["batch.completed"])
    sheet = {"file": (io.BytesIO(b"sku,title\nA,mug\n"), "list.csv"), "size": "256x256"}
    batch = http.post("/v1/batches", data=sheet, headers=HOST).json
    worker.draw_all()
    turn(sender)

    told = json.loads(receiver.calls[0][2])["data"]["manifest_url"]
    assert told == f"http://localhost:8123/v1/batches/{batch['id']}/manifest.csv"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_job_without_a_known_host_never_links_to_no_address(http, worker, receiver, allowing, valkey, host):
    sender = Webhooks(allowing.redis, allowing.jobs, replace(allowing.settings, host=host, port=8000))
    turn(sender)
    add(http, receiver.url)
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256"}).json
    valkey.hdel(f"{{zimg}}:job:{job['id']}", "base")  # of the release before
    worker.draw_all()
    turn(sender)

    (picture,) = json.loads(receiver.calls[0][2])["data"]["images"]
    assert picture["url"] == f"http://127.0.0.1:8000/i/{job['id']}.png"
