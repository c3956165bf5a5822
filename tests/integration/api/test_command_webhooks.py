"""`zimg webhooks` and the Python client: look at endpoints, at what was sent, send it again, test, turn off and on."""

import json
from dataclasses import replace

import pytest

from client.client import Zimg, ZimgProblem
from core.redis_client import PREFIX
from core.webhook_store import Attempt, Endpoint, Secret, new_secret
from tests.integration.api.conftest import ended

URL = "https://shop.example/hooks"
TYPES = ("job.succeeded", "job.failed", "job.canceled")


@pytest.fixture
def zimg(command):
    """Runs `zimg webhooks` in an empty folder against the live api."""
    return lambda *arguments: ended(command("webhooks", *arguments))


@pytest.fixture
def client(live):
    with Zimg(live.url) as made:
        yield made


@pytest.fixture
def endpoint(parts):
    made = Endpoint(
        id=f"wh_{'0' * 24}", tenant="local", url=URL, events=TYPES[:2], created_ms=1,
        secrets=(Secret(value=new_secret()),),
    )  # fmt: skip
    parts.webhooks.save(made)
    return made


@pytest.fixture
def sent(parts, endpoint):
    """Three events, oldest first: one that arrived, and two that were given up."""
    made = []
    for number, (kind, status, error) in enumerate(
        zip(TYPES, (204, 500, 0), ("", "", "no answer in time"), strict=True)
    ):
        one = parts.webhooks.enqueue(endpoint, {"id": f"evt_{number}", "type": kind})
        tried = Attempt(at_ms=1_790_000_000_000, status=status, duration_ms=3, error=error)
        ended = replace(one, state="delivered" if status == 204 else "failed", attempts=(tried,))
        parts.webhooks.record(ended)
        made.append(ended)
    for log in ("hook_log", "hook_failed_log"):  # in this order, though all began within one millisecond
        parts.redis.zadd(f"{PREFIX}{log}:{endpoint.id}", {one.id: place for place, one in enumerate(made)}, xx=True)
    return made


def states(parts, sent):
    return [parts.webhooks.delivery(one.id).state for one in sent]


def test_endpoints_are_listed_with_what_they_are_told_and_whether_they_are_on(zimg, endpoint):
    code, out, _ = zimg("list")
    listed = json.loads(zimg("list", "--json")[1])

    assert (code, out) == (0, f"{endpoint.id}\t{URL}\tjob.succeeded, job.failed\ton\n")
    assert [one["id"] for one in listed] == [endpoint.id]


def test_what_was_sent_is_listed_newest_first_with_its_last_answer(zimg, endpoint, sent):
    code, out, _ = zimg("deliveries", endpoint.id)

    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [row[0] for row in rows] == [one.id for one in reversed(sent)]
    assert [row[2:] for row in rows] == [
        ["job.canceled", "evt_2", "failed", "1", "no answer in time"],
        ["job.failed", "evt_1", "failed", "1", "500"],
        ["job.succeeded", "evt_0", "delivered", "1", "204"],
    ]


def test_those_that_were_given_up_alone_are_listed_as_many_as_wanted(zimg, endpoint, sent):
    failed = json.loads(zimg("deliveries", endpoint.id, "--failed", "--json")[1])
    newest = json.loads(zimg("deliveries", endpoint.id, "--limit", "1", "--json")[1])

    assert [one["id"] for one in failed] == [sent[2].id, sent[1].id]
    assert [one["id"] for one in newest] == [sent[2].id]


def test_one_is_sent_again_by_its_id(zimg, endpoint, sent, parts):
    code, out, _ = zimg("resend", endpoint.id, sent[1].id)

    assert (code, out) == (0, f"{sent[1].id}\tpending\n")
    assert states(parts, sent) == ["delivered", "pending", "failed"]


def test_all_that_were_given_up_are_sent_again_in_one_call(zimg, endpoint, sent, parts):
    code, out, _ = zimg("resend", endpoint.id, "--failed", "--json")

    assert (code, {one["id"] for one in json.loads(out)}) == (0, {sent[1].id, sent[2].id})
    assert states(parts, sent) == ["delivered", "pending", "pending"]


@pytest.mark.parametrize("more", [(), ("whd_1", "--failed")])
def test_what_is_to_be_sent_again_is_named_in_one_way(zimg, endpoint, more):
    code, _, err = zimg("resend", endpoint.id, *more)

    assert code == 2
    assert "--failed" in err


def test_a_test_event_is_asked_for(zimg, endpoint, parts):
    code, out, _ = zimg("test", endpoint.id)

    (made,) = parts.webhooks.deliveries(endpoint.id)
    assert (code, out) == (0, f"{made.id}\tpending\n")
    assert made.type == "webhook.test"


def test_an_endpoint_that_is_off_sends_nothing_until_it_is_turned_on(zimg, endpoint, sent, parts):
    off = zimg("off", endpoint.id)
    refused = zimg("resend", endpoint.id, sent[1].id)
    on = zimg("on", endpoint.id)

    assert (off[0], off[1]) == (0, f"{endpoint.id}\toff: its owner turned it off\n")
    assert refused[0] == 3
    assert "it must be turned on first" in refused[2]
    assert (on[0], on[1]) == (0, f"{endpoint.id}\ton\n")
    assert states(parts, sent) == ["delivered", "failed", "failed"]


def test_the_endpoint_for_addresses_of_requests_is_named_so(zimg, parts):
    parts.webhooks.for_requests("local")

    code, out, _ = zimg("list")

    assert code == 0
    assert out.split("\t")[1:] == ["(webhook_url of requests)", "all", "on\n"]
    assert zimg("deliveries", "requests")[:2] == (0, "")


def test_python_reads_the_log_in_types_and_sends_again(client, endpoint, sent, parts):
    log = client.deliveries(endpoint.id)
    failed = client.deliveries(endpoint.id, failed=True, limit=1)
    again = client.resend(endpoint.id, sent[2].id)
    off = client.change_webhook(endpoint.id, enabled=False)

    assert [(one.id, one.state, one.type) for one in log] == [
        (one.id, one.state, one.type) for one in reversed(sent)
    ]  # fmt: skip
    assert [(one.status, one.error) for one in log[0].attempts] == [(0, "no answer in time")]
    assert [one.id for one in failed] == [sent[2].id]
    assert (again.state, again.event_id) == ("pending", "evt_2")
    assert off["enabled"] is False
    with pytest.raises(ZimgProblem) as refused:
        client.test_webhook(endpoint.id)
    assert (refused.value.status, refused.value.code) == (409, "conflict")


def test_python_reads_a_long_log_page_by_page(client, endpoint, parts):
    for number in range(103):
        parts.webhooks.enqueue(endpoint, {"id": f"evt_{number}", "type": "job.succeeded"})

    assert len(client.deliveries(endpoint.id, limit=102)) == 102
    assert len({one.id for one in client.deliveries(endpoint.id, limit=1000)}) == 103
