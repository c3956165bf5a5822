"""Where two parts meet and one of them has moved on: emptied servers, expired pictures, calls given up, odd names."""

import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import urlsplit

import pytest

from core.redis_client import PREFIX
from core.webhook_store import WebhookStore
from scheduler.outbound import OutboundGuard
from tests.integration.api.conftest import application, eventually
from tests.integration.api.test_lost_retries import let_ten_seconds_pass
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    draw,
    http_fixture,
    make_due,
    receiver_fixture,
    sender_fixture,
    turn,
)

BODY = {"prompt": "a red mug", "size": "256x256"}
GENERATIONS = "/v1/images/generations"


@pytest.fixture(name="client")
def client_fixture(parts):
    return application("without keys", parts).test_client()


def expire(parts, job_id):
    parts.redis.hset(f"{PREFIX}job:{job_id}", "expires", 1)


def test_after_redis_was_emptied_ends_are_told_again_without_a_restart(parts, worker, http, sender, receiver):
    add(http, receiver.url)
    draw(http, worker)
    eventually(lambda: sender.turn() or receiver.calls)
    parts.redis.flushall()
    add(http, receiver.url)
    worker.alive()
    told = len(receiver.calls)

    draw(http, worker)

    eventually(lambda: sender.turn() or len(receiver.calls) > told)
    assert receiver.calls[-1] is not None


def test_a_retry_is_never_answered_with_an_older_calls_picture(parts, worker, valkey):
    impatient = application("without keys", replace(parts, settings=replace(parts.settings, sync_wait_seconds=1.5)))

    def call(count, answers):
        headers = {"x-stainless-retry-count": str(count)}
        answers.append(impatient.test_client().post(GENERATIONS, json=BODY, headers=headers))

    first, retry, later, its_retry = [], [], [], []
    calling = threading.Thread(target=call, args=(0, first))
    calling.start()
    eventually(lambda: parts.jobs.list_jobs("local"))
    patient = application("without keys", parts).test_client()
    retrying = threading.Thread(
        target=lambda: retry.append(patient.post(GENERATIONS, json=BODY, headers={"x-stainless-retry-count": "1"}))
    )
    retrying.start()
    calling.join(60)  # given up: its client went away long ago
    worker.draw_all()
    retrying.join(60)
    assert (first[0].status_code, retry[0].status_code) == (503, 200)
    let_ten_seconds_pass(valkey)

    call(0, later)
    call(1, its_retry)

    assert [answer.status_code for answer in (later[0], its_retry[0])] == [503, 503], "its own picture is not drawn yet"
    assert its_retry[0].json["job_ids"] == later[0].json["job_ids"] != first[0].json["job_ids"]


@pytest.mark.parametrize("more", [{}, {"response_format": "b64_json"}])
def test_the_same_key_after_its_picture_expired_is_told_that_it_is_gone(client, parts, worker, more):
    def call(**again):
        return client.post(GENERATIONS, json={**BODY, **more, **again}, headers={"Idempotency-Key": "order-9"})

    with worker.at_work():
        drawn = call()
    expire(parts, drawn.json["job_ids"][0])

    again = call()

    assert (drawn.status_code, again.status_code, again.json["code"]) == (200, 410, "gone")


def test_a_streams_key_after_its_picture_expired_is_told_that_it_is_gone(client, parts, worker):
    def call():
        body, headers = {**BODY, "stream": True}, {"Idempotency-Key": "order-10"}
        answer = client.post(GENERATIONS, json=body, headers=headers)
        return answer.headers["X-Zimg-Job-Id"], answer.get_data(as_text=True)

    with worker.at_work():
        job_id, drawn = call()
    expire(parts, job_id)

    _, again = call()

    assert "image_generation.completed" in drawn
    assert '"code":"gone"' in again.replace(" ", "")


def test_the_events_of_an_expired_picture_show_none(client, parts, worker):
    job_id = client.post("/v1/jobs", json=BODY).json["id"]
    worker.draw_all()
    expire(parts, job_id)

    told = client.get(f"/v1/jobs/{job_id}/events").get_data(as_text=True)

    assert f"/i/{job_id}" not in told
    assert '"status":"expired"' in told.replace(" ", "")


def test_a_picture_that_the_storage_lost_bytes_of_is_never_served_nor_shared(client, parts, worker):
    body = {**BODY, "seed": 5}
    with worker.at_work():
        job_id = client.post(GENERATIONS, json=body).json["job_ids"][0]
        key = json.loads(parts.redis.hget(f"{PREFIX}job:{job_id}", "picture"))["key"]
        parts.images._client.put_object(Bucket=parts.images.bucket, Key=key, Body=b"")

        shown = [client.get(f"/i/{job_id}{suffix}") for suffix in (".png", ".webp")]
        again = client.post(GENERATIONS, json={**body, "response_format": "b64_json"})

    assert [(one.status_code, one.json["code"]) for one in shown] == [(503, "storage_unavailable")] * 2
    assert "immutable" not in str(shown[0].headers)
    assert again.json["data"][0]["b64_json"], "drawn anew"


@pytest.mark.parametrize("origin", ["https://[", "http://[::zz]/"])
def test_an_origin_that_is_none_is_another_origin(parts, origin):
    keyed, open_to_all = application("with keys", parts), application("without keys", parts)

    answers = [
        keyed.test_client().post("/v1/session", json={"key": "x"}, headers={"Origin": origin}),
        open_to_all.test_client().post("/v1/jobs", json=BODY, headers={"Origin": origin}),
    ]

    assert {answer.status_code for answer in answers} == {403}


def test_what_is_sent_again_has_all_its_tries(http, parts, sender, receiver):
    hook = add(http, receiver.url)["id"]
    delivery = http.post(f"/v1/webhooks/{hook}/test").json["id"]
    receiver.answers = [500] * 60

    def tries_until_given_up():
        before = len(receiver.calls)
        while http.get(f"/v1/webhooks/{hook}/deliveries").json["data"][0]["state"] != "failed":
            make_due(parts.redis)
            turn(sender)
        return len(receiver.calls) - before

    first = tries_until_given_up()
    http.post(f"/v1/webhooks/{hook}/deliveries/{delivery}/resend")

    assert tries_until_given_up() == first


def test_sent_again_while_an_attempt_is_in_the_air_each_attempt_is_told_once_and_it_hurries(
    http, parts, sender, receiver
):
    hook = add(http, receiver.url)["id"]
    delivery = http.post(f"/v1/webhooks/{hook}/test").json["id"]
    receiver.answers = [500] * 3
    for _ in range(3):
        turn(sender)
        make_due(parts.redis)

    class Meanwhile:
        """The receiver's next answers; before it gives one the delivery is sent again."""

        def pop(self, _):
            other = http.application.test_client()
            assert other.post(f"/v1/webhooks/{hook}/deliveries/{delivery}/resend").status_code == 202
            return 500

    receiver.answers = Meanwhile()
    turn(sender)

    shown = http.get(f"/v1/webhooks/{hook}/deliveries").json["data"][0]
    assert len(shown["attempts"]) == len(receiver.calls) == 4
    assert shown["next_attempt_at"] - time.time() < 60, "not the hours of a fourth try"


def test_metadata_is_measured_as_it_was_sent(client):
    metadata = {f"k{at:02}": "x" * 55 for at in range(64)}
    metadata["k63"] = "x" * (55 + 4096 - len(json.dumps(metadata, separators=(",", ":"))))
    assert len(json.dumps(metadata, separators=(",", ":"))) == 4096

    fits = client.post("/v1/jobs", json={**BODY, "metadata": metadata})
    metadata["k63"] += "x"
    too_long = client.post("/v1/jobs", json={**BODY, "metadata": metadata})

    assert (fits.status_code, too_long.status_code) == (202, 400)


@pytest.mark.parametrize(
    ("host", "sent"), [("bücher.example", "xn--bcher-kva.example"), ("例え.jp", "xn--r8jz45g.jp"), ("a.b", "a.b")]
)
def test_events_reach_hosts_beyond_ascii_by_the_name_that_servers_know(monkeypatch, host, sent):
    seen = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(urlsplit(f"//{self.headers['host']}").hostname)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    guard = OutboundGuard([host, "127.0.0.0/8"])
    asked = []
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda name, port, **_: asked.append(name) or [(2, 1, 6, "", ("127.0.0.1", port))]
    )
    try:
        assert guard.check(f"http://{host}/hook"), "the operator allowed it by this name"
        status = guard.post(f"http://{host}:{server.server_port}/hook", b"{}", {}, seconds=20)
    finally:
        server.shutdown()

    assert (status, seen, asked[0]) == (204, [sent], sent)


def test_a_list_that_is_stored_while_ones_data_is_deleted_goes_too(client, parts, worker, monkeypatch):
    usual, stored = WebhookStore.endpoints, []

    def endpoints(store, tenant):
        if not stored:  # just behind the first forgetting of all lists
            sheet = (BytesIO(b"sku,title\n1,secret mug\n"), "list.csv")
            stored.append(client.post("/v1/batches", data={"file": sheet}).json["id"])
        return usual(store, tenant)

    monkeypatch.setattr(WebhookStore, "endpoints", endpoints)

    told = client.delete("/v1/account/data?confirm=local").json

    assert told["remaining"] == 0
    assert not parts.redis.exists(f"{PREFIX}sheet:{stored[0]}")
