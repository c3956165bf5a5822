"""A list sent again with its Idempotency-Key is the same batch, whatever was deleted of it and whatever ran out."""

from dataclasses import replace

import pytest

import core.long_list
from core.redis_client import PREFIX
from tests.integration.api.test_batches import SHEET, redis_gone_after, send

KEY = {"Idempotency-Key": "upload-1"}
HOUR_MS = 3_600_000


@pytest.fixture
def portions_of_two(monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)


def used(valkey):
    return sum(int(valkey.hget(key, "used") or 0) for key in valkey.scan_iter(f"{PREFIX}use:local:*"))


def pass_hours(valkey, hours):
    """As if so much time had gone by for everything that an Idempotency-Key is known by."""
    for kind in ("idem", "list"):
        for key in valkey.scan_iter(f"{PREFIX}{kind}:*"):
            left = valkey.pttl(key) - hours * HOUR_MS
            if left > 0:
                valkey.pexpire(key, left)
            else:
                valkey.delete(key)


@pytest.mark.parametrize("number", [0, 3, 5])
def test_a_list_sent_again_after_one_of_its_pictures_was_deleted_draws_nothing(http, worker, parts, valkey, number):
    first = send(http, headers=KEY).json
    worker.draw_all()
    http.delete(f"/v1/jobs/{parts.jobs.batch_job_ids(first['id'])[number]}")

    again = send(http, headers=KEY)

    assert (again.status_code, again.json["id"]) == (202, first["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json["request_counts"] == {"total": 6, "completed": 6, "failed": 0, "canceled": 0}
    assert not worker.draw_all()
    assert used(valkey) == 6


def test_a_list_whose_pictures_were_all_deleted_is_gone(http, worker, parts, valkey):
    first = send(http, headers=KEY).json
    worker.draw_all()
    for job_id in parts.jobs.batch_job_ids(first["id"]):
        http.delete(f"/v1/jobs/{job_id}")

    again = send(http, headers=KEY)
    with_another_key = send(http, headers={"Idempotency-Key": "upload-2"})

    assert (again.status_code, again.json["code"]) == (410, "gone")
    assert (with_another_key.status_code, with_another_key.json["request_counts"]["total"]) == (202, 6)
    assert used(valkey) == 6
    assert http.get(f"/v1/batches/{first['id']}").status_code == 410


@pytest.mark.usefixtures("portions_of_two")
def test_a_list_completed_long_after_it_broke_off_is_known_as_long_as_its_last_row(http, worker, parts, valkey):
    with redis_gone_after(parts, 1):
        send(http, headers=KEY)
    pass_hours(valkey, 20)
    second = send(http, headers=KEY)
    worker.draw_all()
    pass_hours(valkey, 5)  # what was known of the first portion is gone, not what is of the last

    third = send(http, headers=KEY)

    assert (third.status_code, third.json["id"]) == (202, second.json["id"])
    assert third.json["request_counts"] == {"total": 6, "completed": 6, "failed": 0, "canceled": 0}
    assert (used(valkey), bool(worker.draw_all())) == (6, False)


def test_a_list_that_was_refused_first_is_known_from_when_it_was_taken(http, worker, parts, valkey):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, queued_jobs=6)))
    http.post("/v1/jobs", json={"prompt": "x", "size": "256x256"})
    assert send(http, headers=KEY).json["code"] == "queue_full"
    pass_hours(valkey, 20)
    worker.draw_all()
    first = send(http, headers=KEY)
    pass_hours(valkey, 20)

    again = send(http, headers=KEY)

    assert (again.status_code, again.json["id"]) == (202, first.json["id"])


@pytest.mark.usefixtures("portions_of_two")
def test_a_list_whose_own_record_was_lost_is_found_by_its_last_row(http, worker, parts, valkey):
    """As a failover may lose it, or a release that let it run out before its rows'."""
    first = send(http, headers=KEY)
    worker.draw_all()
    for key in [*valkey.scan_iter(f"{PREFIX}list:*"), *list(valkey.scan_iter(f"{PREFIX}idem:*#[0-3]"))]:
        valkey.delete(key)

    again = send(http, headers=KEY)

    assert (again.status_code, again.json["id"], used(valkey)) == (202, first.json["id"], 6)
    assert again.json["request_counts"]["total"] == 6


def test_a_key_whose_time_is_over_stands_for_a_new_list(http, worker, valkey):
    first = send(http, headers=KEY)
    worker.draw_all()
    pass_hours(valkey, 26)

    again = send(http, headers=KEY)

    assert (again.status_code, again.json["id"] == first.json["id"]) == (202, False)
    assert again.json["request_counts"]["total"] == 6


def test_a_key_sent_with_another_list_is_refused(http, worker):
    send(http, headers=KEY)

    other = send(http, SHEET.replace("Red mug", "Green mug"), headers=KEY)

    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reuse")


def delete_newest_job(http):
    newest = http.get("/v1/jobs").json["data"][0]["id"]
    assert http.delete(f"/v1/jobs/{newest}").status_code == 204


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("wait", ["", "wait=1"])
def test_a_call_for_two_of_which_one_was_deleted_is_answered_with_the_other(http, worker, valkey, path, wait):
    call = {"json": {"prompt": "a red mug", "size": "256x256", "n": 2}}
    headers = {"Idempotency-Key": "k", **({"Prefer": wait} if wait else {})}
    with worker.at_work():
        assert http.post(path, **call, headers={**headers, "Prefer": "wait=5"}).is_json
    delete_newest_job(http)

    again = http.post(path, **call, headers=headers)

    assert (again.status_code // 100, len(again.json["data"])) == (2, 1)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert used(valkey) == 2


@pytest.mark.parametrize("pictures", [1, 2])
def test_the_key_of_a_deleted_job_draws_nothing_more(http, worker, parts, valkey, pictures):
    body = {"prompt": "a red mug", "size": "256x256", "n": pictures}
    answer = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    worker.draw_all()
    for _ in range(pictures):
        delete_newest_job(http)

    again = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    other = http.post("/v1/jobs", json={**body, "prompt": "a mug"}, headers={"Idempotency-Key": "k"})

    assert answer.status_code == 202
    assert (again.status_code, again.json["code"]) == (410, "gone")
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reuse")
    assert (used(valkey), bool(worker.draw_all())) == (pictures, False)


def test_the_second_picture_of_a_call_has_a_key_that_no_client_can_send(http, worker):
    first = http.post("/v1/jobs", json={"prompt": "x", "size": "256x256", "n": 2}, headers={"Idempotency-Key": "order"})
    second = http.post("/v1/jobs", json={"prompt": "y", "size": "256x256"}, headers={"Idempotency-Key": "order#1"})

    assert (first.status_code, second.status_code) == (202, 202)
