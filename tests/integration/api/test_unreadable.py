"""One entry that can not be read ends no scheduler: it is put aside and counted, and the others are told."""

import json
import secrets
import threading

import pytest

from core.redis_client import PREFIX
from core.trash import TrashBin
from core.webhook_store import Endpoint, Secret, WebhookStore
from scheduler.loops import Loop
from scheduler.retention import Retention
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

LEDGER = f"{PREFIX}ledger"


def told(receiver):
    return [json.loads(body)["data"]["id"] for _, _, body in receiver.calls]


def goes_on(sender):
    """Whether the loop that such a turn belongs to goes on."""
    stop = threading.Event()

    def once():
        turn(sender)
        stop.set()

    loop = Loop("webhooks", once, stop)
    loop.run()
    return not loop.failed


@pytest.mark.parametrize("field", ["priority", "lane"])
def test_an_end_with_a_value_of_a_newer_release_is_told(http, worker, sender, receiver, parts, field):
    add(http, receiver.url)
    job = draw(http, worker)
    parts.redis.hset(f"{PREFIX}job:{job['id']}", field, "urgent")

    assert goes_on(sender)

    assert told(receiver) == [job["id"]]
    assert http.get("/v1/jobs").json["data"][0]["id"] == job["id"]


def test_a_broken_record_is_put_aside_and_the_others_are_told(http, worker, sender, receiver, parts):
    add(http, receiver.url)
    broken, whole = draw(http, worker), draw(http, worker)
    parts.redis.hset(f"{PREFIX}job:{broken['id']}", "request", "{")

    assert goes_on(sender)

    assert told(receiver) == [whole["id"]]
    assert [job["id"] for job in http.get("/v1/jobs").json["data"]] == [whole["id"]]
    assert http.get(f"/v1/jobs/{broken['id']}").status_code == 404
    assert 'zimg_put_aside_total{kind="job"}' in http.get("/metrics").text


def test_an_entry_of_the_ledger_that_names_no_job_is_put_aside_once(http, worker, sender, receiver, parts):
    add(http, receiver.url)
    parts.redis.xadd(LEDGER, {"tenant": "local", "kind": "of_tomorrow"})
    job = draw(http, worker)

    assert goes_on(sender)
    assert goes_on(sender)

    assert told(receiver) == [job["id"]]
    assert parts.jobs.tallies().put_aside == {"ended_job": 1}
    assert {group["pending"] for group in parts.redis.xinfo_groups(LEDGER)} == {0}


@pytest.mark.parametrize("stored", ["{", "7", '{"id": "wh_1"}'])
def test_a_broken_endpoint_is_passed_over(http, worker, sender, receiver, parts, stored):
    add(http, receiver.url)
    parts.redis.set(f"{PREFIX}hook:wh_broken", stored)
    parts.redis.zadd(f"{PREFIX}hooks:local", {"wh_broken": 1})
    job = draw(http, worker)

    assert goes_on(sender)

    assert told(receiver) == [job["id"]]
    assert len(http.get("/v1/webhooks").json["data"]) == 1


def test_an_endpoint_and_a_delivery_of_a_newer_release_are_read_as_far_as_they_are_known(
    http, worker, sender, receiver, parts
):
    hook = add(http, receiver.url)
    kept = f"{PREFIX}hook:{hook['id']}"
    known = json.loads(parts.redis.get(kept))
    parts.redis.set(
        kept, json.dumps({**known, "of_tomorrow": 1, "secrets": [{**known["secrets"][0], "of_tomorrow": 1}]})
    )
    receiver.answers = [500]
    job = draw(http, worker)
    turn(sender)
    (sent,) = parts.redis.keys(f"{PREFIX}delivery:*")
    stored = json.loads(parts.redis.get(sent))
    more = {**stored, "of_tomorrow": 1, "attempts": [{**stored["attempts"][0], "of_tomorrow": 1}]}
    parts.redis.set(sent, json.dumps(more))
    make_due(parts.redis)

    assert goes_on(sender)

    assert told(receiver) == [job["id"], job["id"]]


def test_a_broken_delivery_is_put_aside_and_the_others_go_out(http, worker, sender, receiver, parts):
    add(http, receiver.url)
    receiver.answers = [500, 500]
    jobs = [draw(http, worker), draw(http, worker)]
    turn(sender)
    first = parts.redis.keys(f"{PREFIX}delivery:*")[0]
    broken = json.loads(json.loads(parts.redis.get(first))["body"])["data"]["id"]
    parts.redis.set(first, "{")
    receiver.calls.clear()
    make_due(parts.redis)

    assert goes_on(sender)

    assert told(receiver) == [job["id"] for job in jobs if job["id"] != broken]
    assert parts.jobs.tallies().put_aside["delivery"] >= 1
    assert parts.redis.zcard(f"{PREFIX}hook_due") == 0


def test_a_delivery_that_can_not_be_signed_fails_alone(http, worker, sender, receiver, parts, allowing):
    add(http, receiver.url)
    odd = Endpoint(id=f"wh_{secrets.token_hex(4)}", tenant="local", url=receiver.url, secrets=(Secret(value=7),))
    WebhookStore(parts.redis).save(odd)
    jobs = [draw(http, worker), draw(http, worker)]

    assert goes_on(sender)
    assert goes_on(sender)

    assert sorted(told(receiver)) == sorted(job["id"] for job in jobs)
    assert parts.jobs.tallies().put_aside == {"delivery": 2}


def test_a_lane_of_deliveries_that_is_none_is_put_aside_and_the_others_go_out(http, worker, sender, receiver, parts):
    add(http, receiver.url)
    job = draw(http, worker)
    parts.redis.zadd(f"{PREFIX}hook_lanes", {"of_tomorrow": 1})

    assert goes_on(sender)
    assert goes_on(sender)

    assert told(receiver) == [job["id"]]
    assert parts.jobs.tallies().put_aside == {"delivery": 1}


def test_an_entry_of_the_trash_that_names_no_object_is_put_aside(http, worker, parts):
    job = draw(http, worker)
    parts.redis.zadd(f"{PREFIX}trash", {"job:of_tomorrow": 1, "job:a:b:c": 2, job["id"]: 3})

    Retention(parts.jobs, TrashBin(parts.redis, lambda *_: "key"), parts.images).turn()

    assert parts.redis.zcard(f"{PREFIX}trash") == 0
    assert parts.jobs.tallies().put_aside == {"trash": 2}
