"""Webhooks end to end: a job ends, a real receiver is called, and independent libraries verify the signature."""

import io
import json
import secrets
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from jsonschema import Draft202012Validator
from standardwebhooks import Webhook, WebhookVerificationError

from api.app import create_app
from core.webhook_store import Attempt, Delivery, WebhookStore
from scheduler.outbound import AddressRefused, OutboundGuard
from scheduler.webhooks import RETRY_SECONDS, Webhooks, after_attempt
from tests.integration.api.conftest import eventually


class Receiver:
    """A customer's server: keeps what it was sent, and answers with the next of `answers`, then 204."""

    def __init__(self):
        self.calls, self.answers, self.headers_sent = [], [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.calls.append((self.path, dict(self.headers), body))
                self.send_response(outer.answers.pop(0) if outer.answers else 204)
                for name, value in outer.headers_sent.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture
def allowing(parts):
    """Parts whose webhooks may reach this machine."""
    return replace(parts, settings=replace(parts.settings, webhook_allow=("127.0.0.0/8",)))


@pytest.fixture
def http(allowing):
    return create_app(allowing).test_client()


@pytest.fixture
def sender(allowing):
    made = Webhooks(allowing.redis, allowing.jobs, allowing.settings)
    made.turn()
    return made


def add(http, url, **more):
    answer = http.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json


def draw(http, worker, **more):
    own = {"Idempotency-Key": secrets.token_hex(8)}
    job = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256", **more}, headers=own).json
    worker.draw_all()
    return job


def make_due(valkey):
    """As if the wait until the next try were over."""
    for wanted in valkey.zrange("{zimg}:hook_due", 0, -1):
        valkey.zadd("{zimg}:hook_due", {wanted: 0})


def test_a_finished_job_is_told_and_standardwebhooks_verifies_it(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    job = draw(http, worker, seed=3, metadata={"sku": "A"})

    sender.turn()

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
    sender.turn()

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

    sender.turn()

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

    sender.turn()

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
    sender.turn()

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
    sender.turn()

    assert receiver.calls == []


def test_a_receiver_that_fails_is_called_again_with_the_same_id_until_it_takes_it(
    http, worker, sender, receiver, valkey
):
    hook = add(http, receiver.url)
    receiver.answers = [500, 503]
    draw(http, worker)
    for _ in range(3):
        sender.turn()
        make_due(valkey)
    sender.turn()

    (delivery,) = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json["data"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 503, 204]
    assert delivery["state"] == "delivered"
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1


def test_what_is_due_later_survives_a_restart_and_is_not_sent_before(http, worker, sender, receiver, valkey, allowing):
    add(http, receiver.url)
    receiver.answers = [500]
    draw(http, worker)
    sender.turn()
    sender.turn()
    calls_before = len(receiver.calls)

    make_due(valkey)
    Webhooks(allowing.redis, allowing.jobs, allowing.settings).turn()

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
    sender.turn()

    ids = [headers["webhook-id"] for _, headers, _ in receiver.calls]
    assert len(ids) == len(set(ids)) == 8


def test_410_turns_the_endpoint_off_and_its_owner_turns_it_on_again(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    receiver.answers = [410]
    draw(http, worker)
    sender.turn()
    off = http.get(f"/v1/webhooks/{hook['id']}").json
    draw(http, worker)
    sender.turn()
    calls_while_off = len(receiver.calls)

    http.patch(f"/v1/webhooks/{hook['id']}", json={"enabled": True})
    draw(http, worker)
    sender.turn()

    assert (off["enabled"], off["disabled_because"]) == (False, "it answered 410 Gone")
    assert (calls_while_off, len(receiver.calls)) == (1, 2)


def test_a_redirect_is_a_failure_and_not_followed(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    receiver.answers = [302]
    receiver.headers_sent = {"Location": receiver.url.replace("/hook", "/elsewhere")}
    draw(http, worker)
    sender.turn()

    (delivery,) = http.get(f"/v1/webhooks/{hook['id']}/deliveries").json["data"]
    assert (delivery["state"], delivery["attempts"][0]["status"]) == ("pending", 302)
    assert [path for path, _, _ in receiver.calls] == ["/hook"]


def test_both_secrets_sign_after_a_rotation(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    new = http.post(f"/v1/webhooks/{hook['id']}/rotate", json={}).json
    draw(http, worker)
    sender.turn()

    _, headers, body = receiver.calls[0]
    lower = {name.lower(): value for name, value in headers.items()}
    assert new["secret"] != hook["secret"]
    for secret in (hook["secret"], new["secret"]):
        assert Webhook(secret).verify(body, lower)


def test_a_rotation_without_overlap_ends_the_old_secret(http, worker, sender, receiver):
    hook = add(http, receiver.url)
    http.post(f"/v1/webhooks/{hook['id']}/rotate", json={"overlap_seconds": 0})
    draw(http, worker)
    sender.turn()

    _, headers, body = receiver.calls[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(body, {name.lower(): value for name, value in headers.items()})


def test_a_test_call_and_sending_again(http, sender, receiver):
    hook = add(http, receiver.url)
    made = http.post(f"/v1/webhooks/{hook['id']}/test").json
    sender.turn()
    http.post(f"/v1/webhooks/{hook['id']}/deliveries/{made['id']}/resend")
    sender.turn()

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
    sender.turn()

    assert receiver.calls == []
    assert http.get(f"/v1/webhooks/{hook['id']}").status_code == 404


INTERNAL = [
    "https://127.0.0.1/x", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data",
    "https://[::1]/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://0.0.0.0/", "https://100.64.0.1/",
]  # fmt: skip
WRONG = [
    "ftp://example.com/", "http://example.com/", "example.com", "https://", "https://user:pw@example.com/",
    "https://a:0/", "file:///etc/passwd",
]  # fmt: skip


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

    sender.turn()

    assert eventually(lambda: len(receiver.calls) == 3)


def verified(secret, call):
    _, headers, body = call
    return Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/images/generations"])
def test_a_request_names_where_its_own_end_is_told(http, worker, sender, receiver, route):
    secret = http.post("/v1/webhooks/requests/rotate", json={}).json["secret"]
    with worker.at_work():
        answer = http.post(route, json={"prompt": "a", "size": "256x256", "webhook_url": receiver.url + "?order=7"})
        job_id = answer.headers.get("X-Zimg-Job-Id") or answer.json["id"]
        assert eventually(lambda: http.get(f"/v1/jobs/{job_id}").json["status"] == "succeeded")
    draw(http, worker)

    sender.turn()

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
    sender.turn()
    make_due(valkey)
    sender.turn()

    (delivery,) = http.get("/v1/webhooks/requests/deliveries").json["data"]
    assert [json.loads(body)["type"] for _, _, body in receiver.calls] == [kind, kind]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 204]
    assert (delivery["url"], delivery["state"]) == (receiver.url, "delivered")


def test_each_picture_of_a_request_and_each_follower_is_told_at_its_own_address(http, worker, sender, receiver):
    first = http.post("/v1/jobs", json={"prompt": "a", "seed": 1, "n": 2, "webhook_url": receiver.url}).json["data"]
    follower = http.post("/v1/jobs", json={"prompt": "a", "seed": 1, "webhook_url": receiver.url + "/b"}).json
    quiet = http.post("/v1/jobs", json={"prompt": "a", "seed": 1}, headers={"Idempotency-Key": "quiet"}).json
    worker.draw_all()

    sender.turn()

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
    sender.turn()

    assert verified(hook["secret"], receiver.calls[0])["type"] == "job.succeeded"
    http.patch(f"/v1/webhooks/{hook['id']}", json={"events": []})
    draw(http, worker, webhook_url=receiver.url)
    sender.turn()
    assert len(receiver.calls) == 2


def test_a_gone_address_of_one_request_does_not_silence_the_others(http, worker, sender, receiver):
    receiver.answers = [410]
    for _ in range(2):
        draw(http, worker, webhook_url=receiver.url)
        sender.turn()

    states = [one["state"] for one in http.get("/v1/webhooks/requests/deliveries").json["data"]]
    assert states == ["delivered", "failed"]


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
    sender.turn()

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
        sender.turn()

    text = http.get("/metrics").text

    for outcome in ("rejected", "gone", "delivered", "unreachable"):
        assert f'zimg_webhook_attempts_total{{outcome="{outcome}"}} 1.0' in text


def test_an_attempt_to_an_address_inside_is_counted_as_blocked(http, worker, parts, sender, receiver):
    draw(http, worker, webhook_url=receiver.url)
    Webhooks(parts.redis, parts.jobs, parts.settings).turn()

    assert 'zimg_webhook_attempts_total{outcome="blocked"} 1.0' in http.get("/metrics").text
