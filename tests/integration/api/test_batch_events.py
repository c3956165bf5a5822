"""A batch is told as complete when it is: whole and ended, with the right counts, and again when it is so anew."""

import json
import time

import pytest

import core.long_list
from core.batch_store import BatchCounts
from core.redis_client import PREFIX
from scheduler.dead_letters import DeadLetters
from tests.integration.api.test_batches import redis_gone_after, send
from tests.integration.api.test_stopped_lists import Interrupted
from tests.integration.api.webhook_kit import (  # noqa: F401 - the fixtures
    add,
    allowing_fixture,
    draw,
    http_fixture,
    receiver_fixture,
    sender_fixture,
    turn,
)

KEY = {"Idempotency-Key": "upload-1"}
OF_BATCHES = ["batch.completed", "batch.failed", "batch.cancelled"]


@pytest.fixture(autouse=True)
def portions_of_two(monkeypatch):
    """The sheet's six pictures come in three calls."""
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)


def told(receiver):
    events = [json.loads(body) for _, _, body in receiver.calls]
    return [(event["type"], tuple(event["data"]["request_counts"].values())) for event in events]


def event_ids(receiver):
    return [json.loads(body)["id"] for _, _, body in receiver.calls]


def test_a_list_whose_first_rows_end_at_once_is_told_when_all_have_come(
    http, worker, sender, receiver, parts, monkeypatch
):
    send(http)
    worker.draw_all()
    turn(sender)
    add(http, receiver.url, events=OF_BATCHES)
    monkeypatch.setattr(parts.jobs, "_scripts", Interrupted(parts.jobs._scripts, lambda: turn(sender)))

    again = send(http)  # without a key: another batch, whose rows share the pictures that are there
    turn(sender)

    assert http.get(f"/v1/batches/{again.json['id']}").json["status"] == "completed"
    assert told(receiver) == [("batch.completed", (6, 6, 0, 0))]


def test_the_end_of_a_list_is_told_by_the_servers_clock(http, worker, sender, receiver, parts, monkeypatch):
    add(http, receiver.url, events=OF_BATCHES)
    send(http)
    worker.draw_all()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)

    turn(sender)

    (event,) = [json.loads(body) for _, _, body in receiver.calls]
    assert abs(event["created_at"] - int(parts.redis.time()[0])) < 300


def test_a_list_that_broke_off_is_told_when_it_is_completed(http, worker, sender, receiver, parts):
    add(http, receiver.url, events=OF_BATCHES)
    with redis_gone_after(parts, 1):
        send(http, headers=KEY)
    worker.draw_all()
    turn(sender)
    assert told(receiver) == []

    send(http, headers=KEY)
    worker.draw_all()
    turn(sender)

    assert told(receiver) == [("batch.completed", (6, 6, 0, 0))]


def test_a_list_that_the_release_before_told_too_early_is_told_when_it_is_completed(
    http, worker, sender, receiver, parts, allowing
):
    add(http, receiver.url, events=OF_BATCHES)
    with redis_gone_after(parts, 1):
        batch = send(http, headers=KEY)
    worker.draw_all()
    (name,) = parts.redis.keys(f"{PREFIX}batch:*")
    early = {"id": f"evt_{name.removeprefix(PREFIX + 'batch:')}", "type": "batch.completed", "data": {}}
    sender._hooks.enqueue(sender._hooks.endpoints("local")[0], early)
    turn(sender)
    receiver.calls.clear()

    send(http, headers=KEY)
    worker.draw_all()
    turn(sender)

    assert batch.status_code == 503
    assert told(receiver) == [("batch.completed", (6, 6, 0, 0))]


def fail_all(worker):
    while leases := worker.claim():
        for lease in leases:
            worker.fail(lease, "storage_failed")


def try_again(parts, count):
    letters, owner = DeadLetters(parts.jobs, parts.settings), parts.tenants.get("local")
    for letter in letters.list_page(limit=count).jobs:
        letters.requeue(letter.id, owner)


def test_dead_pictures_tried_again_are_the_same_pictures(http, worker, parts):
    batch = send(http).json
    fail_all(worker)
    shown = f"/v1/batches/{batch['id']}"
    assert http.get(shown).json["request_counts"] == {"total": 6, "completed": 0, "failed": 6, "canceled": 0}

    try_again(parts, 2)
    during = http.get(shown).json
    worker.draw_all()
    after = http.get(shown).json

    assert (during["status"], during["request_counts"]["failed"]) == ("in_progress", 4)
    assert after["status"] == "completed"
    assert after["request_counts"] == {"total": 6, "completed": 2, "failed": 4, "canceled": 0}
    assert http.get(f"{shown}/manifest.csv").text.count("succeeded") == 2


def test_dead_pictures_tried_again_hide_no_missing_rows(http, worker, parts):
    with redis_gone_after(parts, 2):
        send(http, headers=KEY)
    (name,) = parts.redis.keys(f"{PREFIX}batch:*")
    shown = f"/v1/batches/{name.removeprefix(PREFIX + 'batch:')}"
    parts.redis.zadd(f"{PREFIX}holds", dict.fromkeys(parts.redis.zrange(f"{PREFIX}holds", 0, -1), 1))
    parts.jobs.reap_holds()
    fail_all(worker)
    assert http.get(shown).json["status"] == "incomplete"

    try_again(parts, 2)
    worker.draw_all()

    assert http.get(shown).json["status"] == "incomplete"
    assert http.get(shown).json["request_counts"] == {"total": 4, "completed": 2, "failed": 2, "canceled": 0}


def test_the_same_letter_tried_again_twice_is_counted_once(http, worker, parts):
    batch = send(http).json
    fail_all(worker)
    letters, owner = DeadLetters(parts.jobs, parts.settings), parts.tenants.get("local")
    letter = letters.list_page(limit=1).jobs[0]

    letters.requeue(letter.id, owner)
    letters.requeue(letter.id, owner)

    assert http.get(f"/v1/batches/{batch['id']}").json["request_counts"]["failed"] == 5


def test_a_batch_is_told_again_when_its_dead_pictures_were_tried_again(http, worker, sender, receiver, parts):
    add(http, receiver.url, events=OF_BATCHES)
    send(http)
    fail_all(worker)
    turn(sender)

    try_again(parts, 2)
    worker.draw_all()
    turn(sender)
    try_again(parts, 1)
    fail_all(worker)
    turn(sender)

    assert told(receiver) == [
        ("batch.failed", (6, 0, 6, 0)),
        ("batch.completed", (6, 2, 4, 0)),
        ("batch.completed", (6, 2, 4, 0)),
    ]
    assert len(set(event_ids(receiver))) == 3


def test_who_asks_and_who_is_told_hear_the_same_of_a_list_that_was_canceled_in_part(http, worker, sender, receiver):
    """GET said canceled of a list with five pictures, and the webhook completed."""
    add(http, receiver.url, events=OF_BATCHES)
    batch = send(http).json
    first = http.get(f"/v1/jobs?batch={batch['id']}").json["data"][0]["id"]
    assert http.post(f"/v1/jobs/{first}/cancel").json["status"] == "canceled"
    worker.draw_all()
    turn(sender)

    shown = http.get(f"/v1/batches/{batch['id']}").json

    assert shown["status"] == "completed"
    assert told(receiver) == [("batch.completed", tuple(shown["request_counts"].values()))]
    assert shown["request_counts"]["canceled"] == 1


@pytest.mark.parametrize(
    ("counts", "ending"),
    [((1, 1, 1), "completed"), ((0, 1, 1), "failed"), ((0, 0, 3), "canceled"), ((3, 0, 0), "completed")],
)
def test_a_list_ends_as_the_best_that_came_of_its_pictures(counts, ending):
    succeeded, dead, canceled = counts
    found = BatchCounts(id="b", tenant="t", total=3, succeeded=succeeded, dead=dead, canceled=canceled)
    assert found.ending == ending
