"""Why an event did not arrive, in words; and what is asked of an endpoint that is off."""

import json
import ssl

import httpx
import pytest

from scheduler.outbound import OutboundGuard, reason_of
from tests.fixtures.redis import free_port
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    draw,
    dripping_fixture,
    http_fixture,
    make_due,
    receiver_fixture,
    sender_fixture,
    turn,
)

OFF = "This endpoint is off; it must be turned on first."


def log_of(http, hook):
    return http.get(f"/v1/webhooks/{hook}/deliveries").json["data"]


def test_nothing_is_sent_to_an_endpoint_that_is_off_and_its_owner_is_told(http, sender, receiver):
    hook = add(http, receiver.url)["id"]
    made = http.post(f"/v1/webhooks/{hook}/test").json
    turn(sender)
    http.patch(f"/v1/webhooks/{hook}", json={"enabled": False})

    refused = [
        http.post(f"/v1/webhooks/{hook}/test"),
        http.post(f"/v1/webhooks/{hook}/deliveries/{made['id']}/resend"),
    ]

    assert [(one.status_code, one.json["code"], one.json["detail"]) for one in refused] == [(409, "conflict", OFF)] * 2
    assert [one["state"] for one in log_of(http, hook)] == ["delivered"]
    http.patch(f"/v1/webhooks/{hook}", json={"enabled": True})
    assert http.post(f"/v1/webhooks/{hook}/test").status_code == 202


def test_an_event_that_waits_while_its_endpoint_is_turned_off_says_that(http, worker, sender, receiver):
    hook = add(http, receiver.url)["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    http.patch(f"/v1/webhooks/{hook}", json={"enabled": False})
    turn(sender)

    (sent,) = log_of(http, hook)

    assert (sent["state"], sent["next_attempt_at"]) == ("failed", None)
    assert [(one["status"], one["error"]) for one in sent["attempts"]] == [(0, "not tried: the endpoint is off")]
    assert receiver.calls == []


def test_each_test_call_is_an_event_of_its_own(http, sender, receiver):
    hook = add(http, receiver.url)["id"]
    for _ in range(2):
        http.post(f"/v1/webhooks/{hook}/test")
    turn(sender)

    ids = {headers["webhook-id"] for _, headers, _ in receiver.calls}

    assert len(ids) == 2
    assert {json.loads(body)["id"] for _, _, body in receiver.calls} == ids


def test_a_call_that_nobody_takes_says_so_in_words_to_its_owner_and_the_operator(http, keyed, sender):
    hook = add(http, f"http://127.0.0.1:{free_port()}/")["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    turn(sender)

    (sent,) = log_of(http, hook)
    failed = keyed.get("/v1/admin/webhook-failures", headers={"Authorization": "Bearer the-operators-own-key"})

    assert sent["attempts"][0]["error"] == failed.json["data"][0]["error"] == "nobody takes the connection there"


def test_why_an_endpoint_is_off_and_an_event_did_not_arrive_is_told_in_the_readers_language(http, keyed, parts, sender):
    hook = add(http, f"http://127.0.0.1:{free_port()}/")["id"]
    http.post(f"/v1/webhooks/{hook}/test")
    turn(sender)
    parts.webhooks.disable(parts.webhooks.endpoint(hook), "it answered 410 Gone")

    def told(tag):
        by, operator = {"Accept-Language": tag}, {"Authorization": "Bearer the-operators-own-key"}
        (listed,) = http.get("/v1/webhooks", headers=by).json["data"]
        (sent,) = http.get(f"/v1/webhooks/{hook}/deliveries", headers=by).json["data"]
        (failed,) = keyed.get("/v1/admin/webhook-failures", headers={**by, **operator}).json["data"]
        assert (failed["endpoint_disabled_because"], failed["error"]) == (
            listed["disabled_because"], sent["attempts"][0]["error"]
        )  # fmt: skip
        return listed["disabled_because"], sent["attempts"][0]["error"]

    assert told("en") == ("it answered 410 Gone", "nobody takes the connection there")
    assert told("zh-CN") == ("对方应答 410 Gone", "对方没有接受连接")
    parts.webhooks.disable(parts.webhooks.endpoint(hook), "a newer release's own words")
    assert told("zh-CN")[0] == "a newer release's own words"


def test_an_endpoint_that_its_owner_turned_off_says_so_in_the_readers_language_and_keeps_it_in_english(http, parts):
    hook = add(http, "https://shop.example/hooks")["id"]

    by = {"Accept-Language": "zh-CN"}
    off = http.patch(f"/v1/webhooks/{hook}", json={"enabled": False}, headers=by).json

    assert off["disabled_because"] == "已由所有者关闭"
    assert parts.webhooks.endpoint(hook).disabled == "its owner turned it off"


def failing(url, *, seconds=2.0):
    with pytest.raises(Exception) as failed:
        OutboundGuard(["127.0.0.0/8", "a..b", "no-such-host.invalid"]).post(url, b"{}", {}, seconds=seconds)
    return reason_of(failed.value)


def test_every_way_not_to_arrive_has_its_words(receiver, dripping):
    port = receiver.server.server_port

    assert failing("http://no-such-host.invalid/") == "no such host is known to the name servers"
    assert failing("http://a..b/") == "the address is not one that can be called"
    assert failing(f"https://127.0.0.1:{port}/") == "no TLS connection came about"
    assert failing(dripping.url, seconds=0.3) == "no answer in time"


def untrusted():
    failed = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]")
    failed.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    return failed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (untrusted(), "its certificate is not trusted"),
        (httpx.ReadTimeout("x"), "no answer in time"),
        (httpx.RemoteProtocolError("x"), "what answers there is no web server"),
        (httpx.ReadError("x"), "the connection broke off"),
        (ConnectionResetError("x"), "the connection broke off"),
        (httpx.InvalidURL("x"), "the address is not one that can be called"),
        (OSError("x"), "it could not be sent"),
    ],
)
def test_an_error_is_told_without_a_name_of_pythons(error, words):
    assert reason_of(error) == words
