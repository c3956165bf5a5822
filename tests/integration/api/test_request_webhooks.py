"""`webhook_url` of one request: its end is told there, signed with the secret of the account's requests."""

import json

import pytest

from api.app import create_app
from scheduler.webhooks import Webhooks
from tests.integration.api.conftest import eventually
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    INTERNAL,
    WRONG,
    add,
    allowing_fixture,
    draw,
    http_fixture,
    make_due,
    receiver_fixture,
    sender_fixture,
    turn,
    verified,
)


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/images/generations"])
def test_a_request_names_where_its_own_end_is_told(http, worker, sender, receiver, route):
    secret = http.post("/v1/webhooks/requests/rotate", json={}).json["secret"]
    with worker.at_work():
        answer = http.post(route, json={"prompt": "a", "size": "256x256", "webhook_url": receiver.url + "?order=7"})
        job_id = answer.headers.get("X-Zimg-Job-Id") or answer.json["id"]
        assert eventually(lambda: http.get(f"/v1/jobs/{job_id}").json["status"] == "succeeded")
    draw(http, worker)

    turn(sender)

    (call,) = receiver.calls
    event = verified(secret, call)
    assert "X-Zimg-Ignored" not in answer.headers
    assert (call[0], event["type"], event["data"]["id"]) == ("/hook?order=7", "job.succeeded", job_id)


@pytest.mark.parametrize(("end", "kind"), [("fail", "job.failed"), ("cancel", "job.canceled")])
def test_other_ends_are_told_where_the_request_said_and_tried_again(http, worker, sender, receiver, valkey, end, kind):
    receiver.answers = [500]
    job = http.post("/v1/jobs", json={"prompt": "a", "webhook_url": receiver.url}).json
    if end == "fail":
        worker.fail(worker.claim()[0], "black_image")
    else:
        http.post(f"/v1/jobs/{job['id']}/cancel")
    turn(sender)
    make_due(valkey)
    turn(sender)

    (delivery,) = http.get("/v1/webhooks/requests/deliveries").json["data"]
    assert [json.loads(body)["type"] for _, _, body in receiver.calls] == [kind, kind]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 204]
    assert (delivery["url"], delivery["state"]) == (receiver.url, "delivered")


def test_each_picture_of_a_request_and_each_follower_is_told_at_its_own_address(http, worker, sender, receiver):
    first = http.post("/v1/jobs", json={"prompt": "a", "seed": 1, "n": 2, "webhook_url": receiver.url}).json["data"]
    follower = http.post("/v1/jobs", json={"prompt": "a", "seed": 1, "webhook_url": receiver.url + "/b"}).json
    quiet = http.post("/v1/jobs", json={"prompt": "a", "seed": 1}, headers={"Idempotency-Key": "quiet"}).json
    worker.draw_all()

    turn(sender)

    told = {(path, json.loads(body)["data"]["id"]) for path, _, body in receiver.calls}
    assert follower["dedup"] == quiet["dedup"] == {"hit": True, "of": first[0]["id"]}
    assert told == {("/hook", first[0]["id"]), ("/hook", first[1]["id"]), ("/hook/b", follower["id"])}


def test_another_webhook_url_under_the_same_key_is_another_body(http, receiver):
    body, key = {"prompt": "a", "webhook_url": receiver.url}, {"Idempotency-Key": "k"}
    first, again = (http.post("/v1/jobs", json=body, headers=key).json["id"] for _ in range(2))

    other = http.post("/v1/jobs", json={**body, "webhook_url": receiver.url + "/b"}, headers=key)

    assert first == again
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reuse")


def test_an_endpoint_of_the_same_url_signs_and_is_told_once(http, worker, sender, receiver):
    hook = add(http, receiver.url, events=["job.failed"])
    draw(http, worker, webhook_url=receiver.url)
    turn(sender)

    assert verified(hook["secret"], receiver.calls[0])["type"] == "job.succeeded"
    http.patch(f"/v1/webhooks/{hook['id']}", json={"events": []})
    draw(http, worker, webhook_url=receiver.url)
    turn(sender)
    assert len(receiver.calls) == 2


def test_a_gone_address_of_one_request_does_not_silence_the_others(http, worker, sender, receiver):
    receiver.answers = [410]
    for _ in range(2):
        draw(http, worker, webhook_url=receiver.url)
        turn(sender)

    states = [one["state"] for one in http.get("/v1/webhooks/requests/deliveries").json["data"]]
    assert states == ["delivered", "failed"]


#: What the release before requests could name URLs knows of an endpoint and of a delivery; more stops its scheduler.
KNOWN_BEFORE = {
    "hook": {"id", "tenant", "url", "events", "secrets", "created_ms", "disabled"},
    "delivery": {
        "id", "endpoint_id", "tenant", "event_id", "type", "body", "created_ms", "state", "next_ms", "attempts",
    },
}  # fmt: skip


def test_a_scheduler_of_the_release_before_reads_nothing_that_it_does_not_know(http, worker, sender, receiver, valkey):
    """And an end that it took from the ledger is still told where the request said."""
    hook, old = add(http, receiver.url + "/registered"), ("webhooks", "a scheduler of the release before")
    receiver.answers = [500, 500]
    job = draw(http, worker, webhook_url=receiver.url)
    taken = valkey.xreadgroup(*old, {"{zimg}:ledger": ">"}, count=100)[0][1]
    turn(sender)

    read = {"hook": valkey.zrange("{zimg}:hooks:local", 0, -1)}
    read["delivery"] = [*valkey.zrange("{zimg}:hook_due", 0, -1), *valkey.zrange("{zimg}:hook_failures", 0, -1)]
    for kind, ids in read.items():
        for one in ids:
            assert set(json.loads(valkey.get(f"{{zimg}}:{kind}:{one}"))) <= KNOWN_BEFORE[kind]
    assert read["hook"] == [hook["id"]]
    assert [fields["job"] for _, fields in taken] == [job["id"]]
    assert [(path, json.loads(body)["data"]["id"]) for path, _, body in receiver.calls] == [("/hook", job["id"])]


def test_the_endpoint_of_requests_is_one_for_each_tenant_and_has_no_url_of_its_own(http, receiver):
    for number in range(2):
        http.post("/v1/jobs", json={"prompt": "a", "webhook_url": f"{receiver.url}/{number}"})
    (shown,) = http.get("/v1/webhooks").json["data"]

    assert (shown["source"], shown["url"], shown["enabled"]) == ("request", None, True)
    assert http.get("/v1/webhooks/requests").json == shown
    assert http.post(f"/v1/webhooks/{shown['id']}/test").status_code == 400
    assert http.patch("/v1/webhooks/requests", json={"url": receiver.url}).json["field"] == "url"


def test_requests_of_a_tenant_that_turned_them_off_are_not_told(http, worker, sender, receiver):
    http.patch("/v1/webhooks/requests", json={"enabled": False})
    draw(http, worker, webhook_url=receiver.url)
    turn(sender)

    assert receiver.calls == []


@pytest.mark.parametrize("url", [*INTERNAL, *WRONG, "https://[", "", 7])
@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/images/generations"])
def test_a_webhook_url_that_may_not_be_called_is_refused_before_anything_is_stored(parts, route, url):
    client = create_app(parts).test_client()

    answer = client.post(route, json={"prompt": "a", "webhook_url": url})

    assert (answer.status_code, answer.json["field"]) == (400, "webhook_url")
    assert client.get("/v1/jobs").json["data"] == client.get("/v1/webhooks").json["data"] == []


def test_attempts_are_counted_by_how_they_ended(http, worker, sender, receiver, valkey):
    receiver.answers = [500, 410]
    for url in (receiver.url, receiver.url, receiver.url, "http://127.0.0.1:1/"):
        draw(http, worker, webhook_url=url)
        turn(sender)

    text = http.get("/metrics").text

    for outcome in ("rejected", "gone", "delivered", "unreachable"):
        assert f'zimg_webhook_attempts_total{{outcome="{outcome}"}} 1.0' in text


def test_an_attempt_to_an_address_inside_is_counted_as_blocked(http, worker, parts, sender, receiver):
    draw(http, worker, webhook_url=receiver.url)
    turn(Webhooks(parts.redis, parts.jobs, parts.settings))

    assert 'zimg_webhook_attempts_total{outcome="blocked"} 1.0' in http.get("/metrics").text
