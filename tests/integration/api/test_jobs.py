"""/v1/jobs from handing in to deleting, on a real Redis and storage."""

import hashlib
import secrets
import threading
import time

import pytest

from api.objects import JobObject, ProblemObject
from core import model_queues
from core.redis_client import PREFIX
from tests.integration.api.conftest import eventually


def submit(http, **body):
    own = {"Idempotency-Key": secrets.token_hex(8)}  # two equal ones are two pictures, not a double click
    answer = http.post("/v1/jobs", json={"prompt": "a red mug", "size": "256x256", **body}, headers=own)
    assert answer.status_code == 202, answer.text
    return answer.json


def test_a_job_is_accepted_with_its_place_and_its_addresses(http, worker):
    answer = http.post("/v1/jobs", json={"prompt": "a red mug", "size": "512x256", "seed": 7, "metadata": {"shelf": 3}})

    job = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{job['id']}"
    assert JobObject.model_validate(job)
    assert (job["status"], job["queue_position"], job["seed"], job["metadata"]) == ("queued", 1, 7, {"shelf": 3})
    assert job["effective_parameters"]["size"] == "512x256"
    assert http.get(job["urls"]["self"]).json["id"] == job["id"]


def test_a_finished_job_has_a_picture_whose_bytes_match_its_checksum(http, worker):
    job = submit(http, seed=1)
    drawn = worker.draw_all()

    done = http.get(f"/v1/jobs/{job['id']}").json

    picture = http.get(f"/i/{job['id']}.png")
    assert done["status"] == "succeeded"
    assert done["progress"]["value"] == 1.0
    assert done["images"][0]["url"] == f"http://localhost/i/{job['id']}.png"
    assert hashlib.sha256(picture.data).hexdigest() == done["images"][0]["sha256"]
    assert picture.data == drawn[job["id"]]


def test_without_a_size_and_a_seed_the_models_own_and_a_drawn_one_are_used(http, worker):
    first, second = (http.post("/v1/jobs", json={"prompt": prompt}).json for prompt in "ab")

    assert first["effective_parameters"]["size"] == "1024x1024"
    assert first["seed"] != second["seed"]
    assert 0 <= first["seed"] < 2**32


def test_n_makes_that_many_jobs_with_seeds_of_their_own(http, worker):
    answer = http.post("/v1/jobs", json={"prompt": "a", "n": 4, "seed": 9})

    made = answer.json["data"]
    assert answer.status_code == 202
    assert len({job["id"] for job in made}) == len({job["seed"] for job in made}) == 4
    assert made[0]["seed"] == 9
    assert len(http.get(answer.headers["Location"]).json["data"]) == 4


def test_wait_holds_the_answer_until_the_job_has_ended(http, worker):
    job = submit(http)
    timer = threading.Timer(0.2, worker.draw_all)
    timer.start()

    done = http.get(f"/v1/jobs/{job['id']}?wait=15").json

    timer.join()
    assert done["status"] == "succeeded"


def test_prefer_wait_on_submit_answers_with_the_finished_job(http, worker):
    with worker.at_work():
        answer = http.post("/v1/jobs", json={"prompt": "a", "size": "256x256"}, headers={"Prefer": "wait=15"})

    assert answer.status_code == 200
    assert answer.headers["Preference-Applied"] == "wait=15"
    assert answer.json["status"] == "succeeded"


@pytest.mark.parametrize("more", [{}, {"n": 2}])
def test_prefer_wait_for_what_is_deleted_meanwhile_says_so(http, worker, parts, more):
    """Canceled and deleted by another client of the tenant before who waits has looked."""

    def delete_all():
        while not (found := parts.jobs.list_jobs("local")):
            time.sleep(0.01)
        for job in found:
            with parts.redis.pipeline() as pipeline:  # in one moment
                pipeline.delete(f"{PREFIX}job:{job.id}").set(f"{PREFIX}tombstone:{job.id}", 1).execute()

    other = threading.Thread(target=delete_all)
    other.start()
    answer = http.post("/v1/jobs", json={"prompt": "a", **more}, headers={"Prefer": "wait=15"})
    other.join()

    assert (answer.status_code, answer.json["code"]) == (410, "gone")


def test_prefer_wait_gives_the_running_job_when_the_time_is_over(http, worker):
    answer = http.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "wait=1"})

    assert answer.status_code == 202
    assert answer.json["status"] == "queued"


def test_respond_async_alone_waits_for_nothing_and_with_a_wait_for_so_long(http, worker):
    at_once = http.post("/v1/jobs", json={"prompt": "a"}, headers={"Prefer": "respond-async"})
    after = http.post("/v1/jobs", json={"prompt": "a", "seed": 2}, headers={"Prefer": "respond-async, wait=1"})

    assert (at_once.status_code, at_once.headers["Preference-Applied"]) == (202, "respond-async")
    assert (after.status_code, after.headers["Preference-Applied"]) == (202, "respond-async, wait=1")


def test_polling_with_an_etag_is_answered_304_until_something_changes(http, worker):
    job = submit(http)
    url = f"/v1/jobs/{job['id']}"
    lease = worker.claim()[0]
    worker.step(lease, 1)
    tag = http.get(url).headers["ETag"]

    same = http.get(url, headers={"If-None-Match": tag})
    worker.step(lease, 2)
    changed = http.get(f"{url}?wait=10", headers={"If-None-Match": tag})

    assert (same.status_code, same.data) == (304, b"")
    assert changed.status_code == 200
    assert changed.json["progress"]["step"] == 2


def test_a_running_job_shows_its_true_step(http, worker):
    job = submit(http)
    lease = worker.claim()[0]

    worker.step(lease, 3)

    shown = http.get(f"/v1/jobs/{job['id']}").json
    assert shown["status"] == "running"
    assert shown["progress"] == {"value": 0.6, "step": 3, "steps": 4, "stage": "denoise"}
    assert shown["queue_position"] is None


def test_cancel_of_a_waiting_job_is_final_at_once_and_may_be_repeated(http, worker):
    job = submit(http)

    first = http.post(f"/v1/jobs/{job['id']}/cancel")
    again = http.post(f"/v1/jobs/{job['id']}/cancel")

    assert (first.status_code, first.json["status"]) == (200, "canceled")
    assert (again.status_code, again.json["status"]) == (200, "canceled")
    assert worker.draw_all() == {}


def test_cancel_of_a_running_job_reads_canceling_until_the_worker_stopped(http, worker):
    job = submit(http)
    lease = worker.claim()[0]

    asked = http.post(f"/v1/jobs/{job['id']}/cancel").json
    wanted = worker.is_wanted(lease)
    worker.fail(lease, "canceled")

    assert asked["status"] == "canceling"
    assert not wanted
    assert http.get(f"/v1/jobs/{job['id']}").json["status"] == "canceled"


def test_several_jobs_are_canceled_all_or_none(http, worker):
    ids = [submit(http)["id"] for _ in range(3)]

    refused = http.post("/v1/jobs/cancel", json={"ids": [*ids, "0" * 32]})
    untouched = {http.get(f"/v1/jobs/{job_id}").json["status"] for job_id in ids}
    done = http.post("/v1/jobs/cancel", json={"ids": ids})

    assert refused.status_code == 404
    assert untouched == {"queued"}
    assert [job["status"] for job in done.json["data"]] == ["canceled"] * 3


def test_the_list_is_newest_first_and_goes_on_by_cursor(http, worker):
    ids = []
    for _ in range(5):
        ids.append(submit(http)["id"])
        time.sleep(0.003)  # jobs of one millisecond have no order among each other

    first = http.get("/v1/jobs?limit=3").json
    second = http.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").json

    assert first["has_more"]
    assert not second["has_more"]
    assert [job["id"] for job in first["data"] + second["data"]] == ids[::-1]


def test_the_list_can_be_narrowed_to_a_status(http, worker):
    first = submit(http)
    worker.draw_all()
    second = submit(http)

    assert [job["id"] for job in http.get("/v1/jobs?status=succeeded").json["data"]] == [first["id"]]
    assert [job["id"] for job in http.get("/v1/jobs?status=queued").json["data"]] == [second["id"]]
    assert http.get("/v1/jobs?status=failed").json["data"] == []


def test_delete_removes_record_prompt_and_picture_and_says_so_afterwards(http, worker, parts):
    job = submit(http)
    worker.draw_all()

    deleted = http.delete(f"/v1/jobs/{job['id']}")

    assert deleted.status_code == 204
    assert http.get(f"/v1/jobs/{job['id']}").status_code == 410
    assert http.get(f"/i/{job['id']}.png").status_code == 410
    assert http.get("/v1/jobs").json["data"] == []


def test_delete_of_an_open_job_is_refused(http, worker):
    job = submit(http)

    answer = http.delete(f"/v1/jobs/{job['id']}")

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")


def test_a_failed_job_says_why_in_the_callers_language(http, worker):
    job = submit(http)
    worker.fail(worker.claim()[0], "black_image")

    english = http.get(f"/v1/jobs/{job['id']}").json
    chinese = http.get(f"/v1/jobs/{job['id']}", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).json

    assert english["status"] == "failed"
    assert english["error"] == {"code": "black_image", "message": "It did not work."}
    assert "空白" in chinese["error"]["message"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"varied_from": "a mug", "variation": "in different light"}, "in different light"),
        ({"variation": "my own secret note"}, None),  # not what the prompt says: never made public
        ({"variation": ["a mug"]}, None),
        ({}, None),
    ],
)
def test_a_variation_is_told_by_the_picture_and_its_record(http, worker, said, told):
    job = http.post("/v1/jobs", json={"prompt": "a mug, in different light", "metadata": said}).json
    (lease,) = worker.claim()
    worker.finish(lease)

    shown = http.get(f"/v1/jobs/{job['id']}").json

    assert http.get(f"/i/{job['id']}.json").json["parameters"]["variation"] == told
    assert (shown["effective_parameters"]["variation"], shown["metadata"]) == (told, said)
    assert lease.request.variation == (told or "")


@pytest.mark.parametrize("job_id", ["0" * 32, "nope", "..%2f..", "a" * 5000, "%00", "0" * 31 + "G"])
@pytest.mark.parametrize("tail", ["", "/events"])
def test_an_unknown_job_is_404_and_never_done(http, parts, job_id, tail):
    answer = http.get(f"/v1/jobs/{job_id}{tail}")

    assert answer.status_code == 404
    assert ProblemObject.model_validate(answer.json)


def test_locked_and_unknown_parameters_change_nothing_and_are_named(http, worker):
    sent = {"steps": 50, "guidance_scale": 7.5, "quality": "high", "style": "vivid", "background": "transparent"}
    answer = http.post("/v1/jobs", json={"prompt": "a", **sent, "sparkle\u2028": True})

    assert answer.status_code == 202
    assert answer.headers["X-Zimg-Ignored"] == "background, guidance_scale, quality, sparkle?, steps, style"
    assert answer.json["effective_parameters"]["steps"] == 4
    assert answer.json["effective_parameters"]["guidance_scale"] == 0.0
    assert set(sent) <= set(answer.json["effective_parameters"])
    assert http.get(f"/v1/jobs/{answer.json['id']}").json["effective_parameters"]["background"] == "opaque"


def test_a_picture_is_kept_as_long_as_the_request_says(http, worker):
    job = submit(http, expires_in=3600)
    worker.draw_all()

    done = http.get(f"/v1/jobs/{job['id']}").json

    assert abs(done["expires_at"] - done["completed_at"] - 3600) <= 1


def test_an_expired_picture_is_gone_while_its_record_still_reads(http, worker, parts, valkey):
    job = submit(http)
    worker.draw_all()
    valkey.zadd("{zimg}:pictures", {job["id"]: 1})
    valkey.hset(f"{{zimg}}:job:{job['id']}", "expires", "1")

    parts.jobs.expire(10)

    assert http.get(f"/v1/jobs/{job['id']}").json["status"] == "expired"
    assert http.get(f"/i/{job['id']}.png").status_code == 410


def test_a_picture_past_its_retention_is_gone_before_it_is_swept(http, worker, valkey):
    job = submit(http)
    worker.draw_all()
    valkey.hset(f"{{zimg}}:job:{job['id']}", "expires", "1")

    shown = http.get(f"/v1/jobs/{job['id']}").json

    assert (shown["status"], shown["images"]) == ("expired", [])
    assert http.get(f"/i/{job['id']}.png").status_code == 410


def test_with_the_last_long_wait_taken_the_next_is_refused_and_short_calls_still_work(http, worker, parts):
    job = submit(http)
    places = [parts.long_waits.enter(f"shop-{number}") for number in range(parts.settings.long_waits)]

    refused = http.get(f"/v1/jobs/{job['id']}?wait=5")
    stream = http.get(f"/v1/jobs/{job['id']}/events")
    short = http.get(f"/v1/jobs/{job['id']}")
    for leave in places:
        leave()

    assert (refused.status_code, refused.json["code"], refused.headers["Retry-After"]) == (503, "overloaded", "5")
    assert stream.status_code == 503
    assert short.status_code == 200
    assert http.get(f"/v1/jobs/{job['id']}?wait=0").status_code == 200


@pytest.fixture
def up_for_long(parts, monkeypatch):
    """The service and its Redis began an hour ago."""
    monkeypatch.setattr(parts.submission, "_begun", parts.submission._begun - 3_600)
    monkeypatch.setattr(model_queues, "_up_seconds", lambda _: 3_600.0)


def test_while_redis_was_down_nobody_could_be_heard_of(http, worker, valkey, up_for_long, monkeypatch):
    valkey.zadd("{zimg}:workers", {worker.name: 1})
    valkey.hset("{zimg}:heard", "", 1)
    monkeypatch.setattr(model_queues, "_up_seconds", lambda _: 5.0)

    assert http.post("/v1/jobs", json={"prompt": "a"}).status_code == 202


def test_redis_says_how_long_it_is_up(valkey):
    assert 0 <= model_queues._up_seconds(valkey) < 86_400


@pytest.mark.usefixtures("up_for_long")
def test_a_submit_is_refused_when_no_worker_has_lived_for_long(http, worker, valkey, parts):
    valkey.zadd("{zimg}:workers", {worker.name: 1})
    valkey.hset("{zimg}:heard", "", 1)

    answer = http.post("/v1/jobs", json={"prompt": "a"})

    assert (answer.status_code, answer.json["code"]) == (503, "no_worker")
    assert answer.headers["Retry-After"] == "60"
    assert http.get("/v1/jobs").json["data"] == []


@pytest.mark.usefixtures("up_for_long")
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_repeat_by_its_key_is_answered_though_no_worker_has_lived_since(http, worker, valkey, parts, path):
    body, key = {"prompt": "a", "size": "256x256"}, {"Idempotency-Key": "k"}
    with worker.at_work():
        first = http.post(path, json=body, headers={**key, "Prefer": "wait=15"})
    parts.submission._workers_seen_until.clear()
    valkey.zadd("{zimg}:workers", {worker.name: 1})
    valkey.hset("{zimg}:heard", "", 1)

    again = http.post(path, json=body, headers=key)
    other = http.post(path, json=body, headers={"Idempotency-Key": "other"})

    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert (other.status_code, other.json["code"]) == (503, "no_worker")


def test_without_redis_every_answer_is_503_and_says_when_to_come_back(http, worker, valkey_server):
    valkey_server.kill()
    try:
        answer = http.post("/v1/jobs", json={"prompt": "a"})
        assert (answer.status_code, answer.json["code"]) == (503, "redis_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert http.get("/healthz").status_code == 200
    finally:
        valkey_server.start()
    assert eventually(lambda: http.post("/v1/jobs", json={"prompt": "a"}).status_code == 202)


def test_a_high_priority_goes_before_ones_own_jobs_that_wait(http, worker):
    usual, urgent = (
        http.post("/v1/jobs", json={"prompt": "a", "size": "256x256", "priority": priority}).json
        for priority in ("normal", "high")
    )
    places = [http.get(f"/v1/jobs/{job['id']}").json["queue_position"] for job in (usual, urgent)]

    assert places == [2, 1]
    assert [lease.job_id for lease in worker.claim()] == [urgent["id"], usual["id"]]


@pytest.mark.parametrize("priority", ["urgent", "HIGH", 5, ""])
@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/images/generations"])
def test_a_priority_out_of_range_is_refused_and_named(http, route, priority):
    answer = http.post(route, json={"prompt": "a", "priority": priority})

    assert (answer.status_code, answer.json["field"]) == (400, "priority")
