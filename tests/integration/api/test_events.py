"""Event streams over real HTTP: order, resume, an api that restarts, and viewers that go away."""

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from httpx_sse import connect_sse

from tests.integration.api.conftest import eventually, live_api


@pytest.fixture
def client(live):
    with httpx.Client(base_url=live.url, timeout=30) as made:
        yield made


def submit(client, **more):
    own = {"Idempotency-Key": secrets.token_hex(8)}
    return client.post("/v1/jobs", json={"prompt": "a", "size": "256x256", **more}, headers=own).json()["id"]


def follow(client, job_id, last_event_id=""):
    """All events until the stream ends."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source:
        return list(source.iter_sse())


def test_a_stream_tells_the_whole_life_in_order_and_ends_with_it(client, worker):
    job_id = submit(client)
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(follow(client, job_id)))
    thread.start()
    lease = worker.claim()[0]
    worker.step(lease, 1)
    worker.step(lease, 2)
    worker.finish(lease)
    thread.join(timeout=60)

    # A place comes without an id, but a reader of events keeps the last one.
    stored = [event for event in seen if event.id and "queue_position" not in event.json()]
    assert [(event.event, event.json().get("status")) for event in stored if event.event == "status"] == [
        ("status", "queued"),
        ("status", "running"),
        ("status", "succeeded"),
    ]
    assert [event.json()["step"] for event in stored if event.event == "progress"] == [1, 2]
    output = next(event.json() for event in stored if event.event == "output")
    assert output["images"][0]["url"].endswith(f"/i/{job_id}.png")
    assert "key" not in output["images"][0]


def test_a_waiting_job_tells_its_place(client, worker):
    submit(client)
    job_id = submit(client)
    with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events") as source:
        place = next(event.json() for event in source.iter_sse() if "queue_position" in event.json())

    assert place["queue_position"] == 2


def test_a_lost_stream_goes_on_after_the_last_event_that_was_seen(client, worker):
    job_id = submit(client)
    lease = worker.claim()[0]
    worker.step(lease, 1)
    with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events") as source:
        last = next(event for event in source.iter_sse() if event.event == "progress")
    worker.step(lease, 2)
    worker.finish(lease)

    rest = follow(client, job_id, last.id)

    assert [event.json().get("step") for event in rest if event.event == "progress"] == [2]
    assert rest[-1].json()["status"] == "succeeded"


def test_a_stream_goes_on_after_the_api_was_restarted(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path) as api, httpx.Client(base_url=api.url, timeout=30) as client:
        job_id = submit(client)
        lease = worker.claim()[0]
        worker.step(lease, 1)
        with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events") as source:
            last_id = next(event.id for event in source.iter_sse() if event.event == "progress")
        api.stop()
        worker.finish(lease)
        api.start()

        rest = follow(client, job_id, last_id)

    assert [event.event for event in rest] == ["output", "status"]


def test_a_stopping_api_ends_its_streams_at_once(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path) as api, httpx.Client(base_url=api.url, timeout=30) as client:
        job_id = submit(client)
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            lines = answer.iter_lines()
            next(lines)
            api.process.terminate()
            told = time.monotonic()
            list(lines)
            assert time.monotonic() - told < 7.5, "gunicorn would cut them off after 8 s"
            assert api.process.wait(timeout=60) == 0
            api.process = None


def test_who_has_seen_the_end_is_told_not_to_come_back(client, worker):
    job_id = submit(client)
    worker.draw_all()
    last = follow(client, job_id)[-1]

    answer = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last.id})

    assert answer.status_code == 204


def test_a_stream_that_is_no_longer_kept_is_answered_by_a_summary(client, worker, valkey):
    job_id = submit(client)
    worker.draw_all()
    valkey.delete(f"{{zimg}}:ev:{job_id}")

    seen = follow(client, job_id)

    assert [event.event for event in seen] == ["output", "status"]


def test_a_failed_job_ends_its_stream_with_the_error(client, worker):
    job_id = submit(client)
    worker.fail(worker.claim()[0], "black_image")

    seen = follow(client, job_id)

    error = next(event.json() for event in seen if event.event == "error")
    assert error == {"code": "black_image", "message": "It did not work."}
    assert seen[-1].json()["status"] == "failed"


@pytest.mark.parametrize("last", ["garbage", "-1", "9" * 100, "1-1\x00"])
def test_a_last_event_id_that_is_not_ours_starts_from_the_beginning(http, worker, last):
    job_id = http.post("/v1/jobs", json={"prompt": "a"}).json["id"]
    worker.draw_all()

    answer = http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})

    assert '"status":"queued"' in answer.text


def test_a_place_is_free_again_when_a_viewer_leaves(settings, parts, worker, tmp_path):
    with live_api(settings, tmp_path, ZIMG_LONG_WAITS="1") as api, httpx.Client(base_url=api.url, timeout=30) as client:
        job_id = submit(client)
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            lines = answer.iter_lines()  # kept: a collected iterator closes the stream
            next(lines)
            full = client.get(f"/v1/jobs/{job_id}?wait=1").status_code
        lease = worker.claim()[0]

        def is_free():
            worker.step(lease, 1)  # the server finds out when it writes
            return client.get(f"/v1/jobs/{job_id}?wait=1").status_code == 200

        assert full == 503
        assert eventually(is_free)


def test_two_hundred_streams_and_as_many_short_calls_at_once_are_all_served(client, live, worker):
    """More threads than a Redis client has connections by default."""
    job_id = submit(client)
    limits = httpx.Limits(max_connections=300)
    with httpx.Client(base_url=live.url, timeout=30, limits=limits) as many, ExitStack() as stack:
        for _ in range(200):
            answer = stack.enter_context(many.stream("GET", f"/v1/jobs/{job_id}/events"))
            assert answer.status_code == 200
        with ThreadPoolExecutor(64) as pool:
            statuses = list(pool.map(lambda _: many.get(f"/v1/jobs/{job_id}").status_code, range(400)))

    assert set(statuses) == {200}


def test_an_open_stream_ends_when_its_key_is_revoked_or_its_account_is_stopped(parts, worker, settings, tmp_path):
    more = {"ZIMG_HOST": "127.0.0.1", "ZIMG_ADMIN_KEY": "the-operators-own-key"}
    keys = {name: parts.tenants.create_key(name) for name in ("revoked", "banned", "welcome")}

    with live_api(settings, tmp_path, **more) as api, httpx.Client(base_url=api.url, timeout=30) as client:

        def bearer(name):
            return {"Authorization": f"Bearer {keys[name][0]}"}

        def watch(name, job_id):
            """Until the stream ends by itself; the job has not."""
            with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=bearer(name)) as source:
                opened.release()
                return [event.json().get("status") for event in source.iter_sse()]

        opened = threading.Semaphore(0)
        jobs = {
            name: client.post("/v1/jobs", json={"prompt": "a", "size": "256x256"}, headers=bearer(name)).json()["id"]
            for name in keys
        }
        with ThreadPoolExecutor(3) as pool:
            ends = {name: pool.submit(watch, name, job_id) for name, job_id in jobs.items()}
            assert all(opened.acquire(timeout=30) for _ in keys)
            parts.tenants.revoke_key(keys["revoked"][1].id)
            parts.tenants.ban("banned", "test")
            ended = {name: ends[name].result(timeout=30) for name in ("revoked", "banned")}
            is_welcome_still_there = not ends["welcome"].done()
            parts.jobs.cancel(jobs["welcome"])
            seen = ends["welcome"].result(timeout=30)
        again = client.get(f"/v1/jobs/{jobs['revoked']}/events", headers=bearer("revoked"))

    assert is_welcome_still_there
    assert seen[-1] == "canceled"
    assert {status for statuses in ended.values() for status in statuses} == {"queued"}
    assert again.status_code == 401
