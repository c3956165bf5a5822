"""DELETE /v1/account/data: everything goes, however it came, in calls that each take a few seconds."""

import io
import time

import pytest

from core.batch_store import BatchStore
from core.job import JobState


def send_list(http, rows):
    sheet = "sku,title\n" + "".join(f"S{row},secret product {row}\n" for row in range(rows))
    answer = http.post("/v1/batches", data={"file": (io.BytesIO(sheet.encode()), "p.csv"), "size": "256x256"})
    assert answer.status_code == 202, answer.json
    return answer.json["id"]


def delete(http):
    answer = http.delete("/v1/account/data?confirm=local")
    assert answer.status_code == 200, answer.json
    return answer.json


def test_a_list_goes_though_its_jobs_were_deleted_one_by_one_before(http, worker):
    batch = send_list(http, 1)
    for job in http.get(f"/v1/jobs?batch={batch}").json["data"]:
        http.post(f"/v1/jobs/{job['id']}/cancel")
        assert http.delete(f"/v1/jobs/{job['id']}").status_code == 204

    told = delete(http)

    assert (told["remaining"], told["ending"]) == (0, 0)
    manifest = http.get(f"/v1/batches/{batch}/manifest.csv")
    assert manifest.status_code == 410
    assert "secret" not in manifest.text


def test_lists_of_others_stay(http, parts, worker):
    batch = send_list(http, 1)

    parts.batches.forget_all("shop")

    assert parts.batches.get(batch) is not None


def test_a_long_list_goes_in_calls_that_are_each_bounded(http, parts, worker):
    send_list(http, 2_000)  # 4,000 pictures
    calls, told = [], {"remaining": 1}
    while told["remaining"] and len(calls) < 10:
        begun = time.monotonic()
        told = delete(http)
        calls.append(time.monotonic() - begun)

    assert told["remaining"] == 0
    assert max(calls) < 10, calls  # 3 seconds of work, on a busy machine
    assert len(calls) <= 4, calls
    assert parts.jobs.list_jobs("local") == []


def test_a_call_whose_time_is_over_tells_what_is_left_and_that_nothing_of_it_is_ending(http, monkeypatch, worker):
    monkeypatch.setattr("api.account.WORK_SECONDS", 0.0)
    send_list(http, 5)

    told = delete(http)

    assert told == {"removed": 0, "canceled": 0, "remaining": 10, "ending": 0}


def test_what_is_being_drawn_is_told_apart_from_what_waits_for_the_next_call(http, parts, worker):
    http.post("/v1/jobs", json={"prompt": "drawn", "size": "256x256"})
    (lease,) = worker.claim()
    http.post("/v1/jobs", json={"prompt": "waits", "size": "256x256"})

    told = delete(http)
    worker.fail(lease)
    after = delete(http)

    assert (told["removed"], told["remaining"], told["ending"]) == (1, 1, 1)
    assert (after["removed"], after["remaining"], after["ending"]) == (1, 0, 0)


@pytest.mark.parametrize("many", [0, 1, 120])
def test_many_are_canceled_and_removed_with_an_answer_for_each(http, parts, worker, many):
    ids = [http.post("/v1/jobs", json={"prompt": f"mug {n}", "size": "256x256"}).json["id"] for n in range(many)]

    assert parts.jobs.remove_many(ids) == 0
    assert parts.jobs.cancel_many([*ids, "f" * 32]) == [*[JobState.CANCELED] * many, None]
    assert parts.jobs.remove_many([*ids, "f" * 32]) == many


def test_the_index_of_lists_ends_with_the_last_of_them(http, parts, worker, valkey):
    batch = send_list(http, 1)

    assert 0 < valkey.ttl("{zimg}:sheets:local") <= valkey.ttl(f"{{zimg}}:sheet:{batch}") + 1
    assert isinstance(parts.batches, BatchStore)
