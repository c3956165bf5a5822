"""The operator sends a tenant's failed delivery again, and nobody else does it for another."""

from dataclasses import replace

import pytest

from core.webhook_store import Attempt, Endpoint

OPERATOR = {"Authorization": "Bearer the-operators-own-key"}


@pytest.fixture
def failed(parts):
    """A delivery of the shop's that was given up."""
    endpoint = Endpoint(id="wh_1", tenant="shop", url="https://shop.example/hooks")
    parts.webhooks.save(endpoint)
    sent = parts.webhooks.enqueue(endpoint, {"id": "evt_1", "type": "job.succeeded"})
    parts.webhooks.record(replace(sent, state="failed", attempts=(Attempt(at_ms=5_000, status=502, duration_ms=3),)))
    return sent


def again(http, delivery_id, headers=OPERATOR):
    return http.post("/v1/admin/webhook-failures/resend", json={"delivery_id": delivery_id}, headers=headers)


def test_a_given_up_delivery_is_on_its_way_again(keyed, parts, failed):
    assert again(keyed, failed.id).status_code == 204

    assert parts.webhooks.delivery(failed.id).state == "pending"
    assert [one.id for lane in parts.webhooks.due_lanes() for one in parts.webhooks.take(lane, 9)] == [failed.id]


def test_what_was_sent_again_is_listed_as_due_since_it_was_made(keyed, parts, failed):
    again(keyed, failed.id)

    (shown,) = keyed.get("/v1/admin/webhook-failures", headers=OPERATOR).json["data"]

    assert (shown["state"], shown["next_attempt_at"]) == ("pending", failed.created_ms // 1000)


def test_an_unknown_one_is_told(keyed, parts):
    answer = again(keyed, "whd_" + "0" * 32)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_what_is_off_must_be_turned_on_first(keyed, parts, failed):
    parts.webhooks.disable(parts.webhooks.endpoint("wh_1"), "it answered 410")

    answer = again(keyed, failed.id)

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert parts.webhooks.delivery(failed.id).state == "failed"


def test_a_tenants_key_does_not_open_it(keyed, parts, failed):
    key, _ = parts.tenants.create_key("shop")

    assert again(keyed, failed.id, {"Authorization": f"Bearer {key}"}).status_code == 403
    assert again(keyed, failed.id, {}).status_code == 401
    assert parts.webhooks.delivery(failed.id).state == "failed"
