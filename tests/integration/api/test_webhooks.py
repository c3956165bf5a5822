"""Webhooks end to end: a job ends, a real receiver is called, and independent libraries verify the signature."""

import io
import json
import threading
from dataclasses import replace

import openai
import pytest
from jsonschema import Draft202012Validator
from standardwebhooks import Webhook, WebhookVerificationError

from api.app import create_app
from core.redis_client import PREFIX
from core.webhook_store import Attempt, Delivery, WebhookStore
from scheduler.outbound import AddressRefused, OutboundGuard
from scheduler.webhook_calls import RETRY_SECONDS, after_attempt
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
)


def test_a_finished_job_is_told_and_standardwebhooks_verifies_it(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    job = draw(http, worker, seed=3, metadata={"sku": "A"})

    turn(sender)

    path, headers, body = receiver.calls[0]
    event = Webhook(hook["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})
    assert path == "/hook"
    assert event["type"] == "job.succeeded"
    assert event["data"]["id"] == job["id"]
    assert event["data"]["metadata"] == {"sku": "A"}
    assert event["data"]["images"][0]["url"].endswith(f"/i/{job['id']}.png")
    assert len(receiver.calls) == 1


def test_a_changed_body_or_another_secret_does_not_verify(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    draw(http, worker)
    turn(sender)

    _, headers, body = receiver.calls[0]
    lower = {name.lower(): value for name, value in headers.items()}
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(body + b" ", lower)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 44).verify(body, lower)


def test_openais_client_unwraps_a_finished_batch(http, worker, sender, receiver):
    hook = add(http, receiver.url, events=["batch.completed"])
    sheet = {"file": (io.BytesIO(b"sku,title\nA,mug\n"), "list.csv"), "size": "256x256"}
    batch = http.post("/v1/batches", data=sheet).json
    worker.draw_all()

    turn(sender)

    (_, headers, body), = receiver.calls  # fmt: skip
    event = openai.OpenAI(api_key="none").webhooks.unwrap(body, headers, secret=hook["secret"])
    assert type(event).__name__ == "BatchCompletedWebhookEvent"
    assert event.data.id == batch["id"]


@pytest.mark.parametrize(("end", "kind"), [("fail", "job.failed"), ("cancel", "job.canceled")])
def test_failed_and_canceled_jobs_are_told(http, worker, sender, receiver, end, kind):
    add(http, receiver.url)
    job = http.post("/v1/jobs", json={"prompt": "a"}).json
    if end == "fail":
        worker.fail(worker.claim()[0], "black_image")
    else:
        http.post(f"/v1/jobs/{job['id']}/cancel")

    turn(sender)

    event = json.loads(receiver.calls[0][2])
    assert event["type"] == kind
    assert (event["data"]["error"] or {}).get("code") == ("black_image" if end == "fail" else None)


def test_what_is_sent_is_what_the_openapi_document_says(http, worker, sender, receiver):
    add(http, receiver.url)
    document = http.get("/openapi.json").json
    draw(http, worker, metadata={"sku": "A"})
    job = http.post("/v1/jobs", json={"prompt": "a"}).json
    http.post(f"/v1/jobs/{job['id']}/cancel")
    http.post("/v1/jobs", json={"prompt": "b"})
    worker.fail(worker.claim()[0], "black_image")
    http.post("/v1/batches", data={"file": (io.BytesIO(b"sku,title\nA,mug\n"), "list.csv"), "size": "256x256"}).close()
    worker.draw_all()
    http.post(f"/v1/webhooks/{http.get('/v1/webhooks').json['data'][0]['id']}/test")
    turn(sender)

    events = [json.loads(body) for _, _, body in receiver.calls]

    assert {event["type"] for event in events} == {
        "job.succeeded", "job.canceled", "job.failed", "batch.completed", "webhook.test"
    }  # fmt: skip
    for event in events:
        body = document["webhooks"][event["type"]]["post"]["requestBody"]["content"]["application/json"]["schema"]
        wrong = list(Draft202012Validator({**body, "components": document["components"]}).iter_errors(event))
        assert wrong == [], (event["type"], wrong)


def test_only_wanted_events_of_the_own_tenant_are_sent(http, worker, sender, receiver, parts):
    add(http, receiver.url, events=["job.failed"])
    store = WebhookStore(parts.redis)
    (mine,) = store.endpoints("local")
    store.save(replace(mine, id="wh_" + "0" * 24, tenant="other", events=()))

    draw(http, worker)
    turn(sender)

    assert receiver.calls == []


def test_a_receiver_that_fails_is_called_again_with_the_same_id_until_it_takes_it(
    http, worker, sender, receiver, valkey
):
    hook = add(http, receiver.url)
    receiver.answers = [500, 503]
    draw(http, worker)
    for _ in range(3):
        turn(sender)
        make_due(valkey)
    turn(sender)

    (delivery,) = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json["data"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 503, 204]
    assert delivery["state"] == "delivered"
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1


def test_what_is_due_later_survives_a_restart_and_is_not_sent_before(http, worker, sender, receiver, valkey, allowing):
    add(http, receiver.url)
    receiver.answers = [500]
    draw(http, worker)
    turn(sender)
    turn(sender)
    calls_before = len(receiver.calls)

    make_due(valkey)
    turn(Webhooks(allowing.redis, allowing.jobs, allowing.settings))

    assert (calls_before, len(receiver.calls)) == (1, 2)


def test_two_senders_send_each_event_once(http, worker, sender, receiver, allowing):
    add(http, receiver.url)
    other = Webhooks(allowing.redis, allowing.jobs, allowing.settings)
    for _ in range(8):
        draw(http, worker)
    threads = [threading.Thread(target=one.turn) for one in (sender, other) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    turn(sender)
    assert other.wait(seconds=30)

    ids = [headers["webhook-id"] for _, headers, _ in receiver.calls]
    assert len(ids) == len(set(ids)) == 8


def test_410_turns_the_endpoint_off_and_its_owner_turns_it_on_again(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    receiver.answers = [410]
    draw(http, worker)
    turn(sender)
    off = http.get(f"/v1/webhooks/{hook['id']}").json
    draw(http, worker)
    turn(sender)
    calls_while_off = len(receiver.calls)

    http.patch(f"/v1/webhooks/{hook['id']}", json={"enabled": True})
    draw(http, worker)
    turn(sender)

    assert (off["enabled"], off["disabled_because"]) == (False, "it answered 410 Gone")
    assert (calls_while_off, len(receiver.calls)) == (1, 2)


def test_a_redirect_is_a_failure_and_not_followed(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    receiver.answers = [302]
    receiver.headers_sent = {"Location": receiver.url.replace("/hook", "/elsewhere")}
    draw(http, worker)
    turn(sender)

    (delivery,) = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json["data"]
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", 302)
    assert [path for path, _, _ in receiver.calls] == ["/hook"]


def test_both_secrets_sign_after_a_rotation(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    new = http.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json
    draw(http, worker)
    turn(sender)

    _, headers, body = receiver.calls[0]
    lower = {name.lower(): value for name, value in headers.items()}
    assert new["secret"] != hook["secret"]
    for secret in (hook["secret"], new["secret"]):
        assert Webhook(secret).verify(body, lower)


def test_a_rotation_without_overlap_ends_the_old_secret(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    http.post(f"/v1/webhooks/{hook['id']}/rotate", json={"overlap_seconds": 0})
    draw(http, worker)
    turn(sender)

    _, headers, body = receiver.calls[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})


def test_a_test_call_and_sending_again(http, sender, receiver):
    hook = add(http, receiver.url)
    made = http.post(f"/v1/webhooks/{hook['id']}/test").json
    turn(sender)
    http.post(f"/v1/webhooks/{hook['id']}/deliveries/{made['id']}/resend")
    turn(sender)

    assert [json.loads(body)["type"] for _, _, body in receiver.calls] == ["webhook.test"] * 2
    assert receiver.calls[0][1]["webhook-id"] == receiver.calls[1][1]["webhook-id"]


def test_the_secret_is_shown_once(http, receiver):
    hook = add(http, receiver.url)

    assert hook["secret"].startswith("whsec_")
    assert hook["secret"] not in http.get("/v1/webhooks").text
    assert hook["secret"] not in http.get(f"/v1/webhooks/{hook['id']}").text


def test_a_removed_endpoint_gets_nothing_more(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    draw(http, worker)
    http.delete(f"/v1/webhooks/{hook['id']}")
    turn(sender)

    assert receiver.calls == []
    assert http.get(f"/v1/webhooks/{hook['id']}").status_code == 404


def test_a_removed_endpoint_takes_its_deliveries_and_failures_along(http, worker, sender, receiver, valkey, allowing):
    endpoint, kept = add(http, receiver.url), add(http, receiver.url)
    receiver.answers = [502] * 4
    draw(http, worker)
    turn(sender)
    store = allowing.webhooks
    before = {one.endpoint_id for one in store.failures()}
    (late,) = store.deliveries(endpoint["id"])

    http.delete(f"/v1/webhooks/{endpoint['id']}")
    store.record(late)  # an attempt that was on its way ends after the removal
    make_due(valkey)
    turn(sender)

    assert before == {endpoint["id"], kept["id"]}
    assert {one.endpoint_id for one in store.failures()} == {kept["id"]}
    assert store.delivery(late.id) is None
    assert len(receiver.calls) == 3  # two at first, then the kept one alone


def test_a_failure_whose_endpoint_an_earlier_release_removed_is_not_shown(http, worker, sender, receiver, allowing):
    endpoint = add(http, receiver.url)
    receiver.answers = [502]
    draw(http, worker)
    turn(sender)
    allowing.redis.delete(f"{PREFIX}hook:{endpoint['id']}")

    assert allowing.webhooks.failures() == []
    assert allowing.redis.zcard(f"{PREFIX}hook_failures") == 0


@pytest.mark.parametrize("url", INTERNAL + WRONG)
def test_internal_addresses_and_odd_urls_are_refused_when_an_endpoint_is_made(parts, url):
    client = create_app(parts).test_client()

    answer = client.post("/v1/webhooks", json={"url": url})

    assert (answer.status_code, answer.json["field"]) == (400, "url")
    assert client.get("/v1/webhooks").json["data"] == []


def test_a_name_that_leads_inside_is_refused_when_it_is_called(receiver):
    guard = OutboundGuard()

    with pytest.raises(AddressRefused):
        guard.post(f"https://localhost:{receiver.server.server_port}/", b"{}", {}, seconds=5)
    assert receiver.calls == []


@pytest.mark.parametrize("url", [one for one in INTERNAL if "[" in one])
def test_an_internal_address_in_another_one_is_refused_when_it_is_called_too(url):
    with pytest.raises(AddressRefused):
        OutboundGuard().post(url, b"{}", {}, seconds=5)


@pytest.mark.parametrize(
    "host", ["shop.example", "SHOP.example.", "my_shop.example", "商店.example", "a-b.example:8443"]
)
def test_a_name_as_hosts_have_them_is_taken(host):
    assert OutboundGuard().check(f"https://{host}/hook?a=b")


@pytest.mark.parametrize("host", ["2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"])
def test_a_public_address_is_taken_however_it_is_written(host):
    assert OutboundGuard().check(f"https://[{host}]/hook")


def test_the_allow_list_opens_just_what_it_names(receiver):
    port = receiver.server.server_port

    assert OutboundGuard(["localhost"]).post(f"http://localhost:{port}/", b"{}", {}, seconds=5) == 204
    with pytest.raises(AddressRefused):
        OutboundGuard(["10.0.0.0/8"]).post(f"http://127.0.0.1:{port}/", b"{}", {}, seconds=5)


def test_a_delivery_is_tried_for_three_days_and_then_failed():
    delivery = Delivery(
        id="d", endpoint_id="e", tenant="t", event_id="v", type="job.failed", body="{}", created_ms=0
    )  # fmt: skip
    moments, at = [], 0
    while delivery.state == "pending":
        delivery = after_attempt(
            replace(delivery, attempts=(*delivery.attempts, Attempt(at_ms=at, status=500, duration_ms=1)))
        )
        moments.append(at)
        at = delivery.next_ms

    assert len(moments) == len(RETRY_SECONDS) + 1
    assert 3 * 86_400_000 <= moments[-1] <= 4 * 86_400_000
    assert delivery.state == "failed"


def test_a_scheduler_that_was_away_tells_what_ended_meanwhile(http, worker, sender, receiver):
    add(http, receiver.url)
    for _ in range(3):
        draw(http, worker)

    turn(sender)

    assert eventually(lambda: len(receiver.calls) == 3)
