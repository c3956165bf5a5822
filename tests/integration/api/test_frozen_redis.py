"""A Redis that stands still: the caller is told so after a bounded wait, and its next try makes one job."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO

import pytest

from api.app import create_app
from api.objects import JobObject
from api.parts import build_services
from core.job_store import JobStore
from core.redis_client import PREFIX
from core.settings import Settings
from tests.fault_proxy import tcp_proxy
from tests.queue_kit import script_sha
from tests.queue_processes import wait_until

BODY = {"prompt": "a mug that is asked for twice", "size": "256x256"}
KEY = {"Idempotency-Key": "order-77"}


@contextmanager
def through_a_proxy(settings, port, patience_seconds=1.0):
    """A client of an api whose Redis can be frozen, its parts and the proxy."""
    with tcp_proxy(port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        settings = replace(settings, redis_url=url, api_redis_timeout_seconds=patience_seconds)
        parts = build_services(settings)
        try:
            yield create_app(parts).test_client(), parts, proxy
        finally:
            parts.hub.close()
            parts.redis.close()


def thaw(proxy):
    """Everything moves again; what was on the way to connections that were given up is lost."""
    proxy.holds_after = b""
    proxy.holds_answers = proxy.frozen = False


def freeze(proxy):
    proxy.frozen = True


def freeze_at_the_submit(proxy):
    """The submit arrives and is carried out; from then on nothing comes back."""
    proxy.holds_after = BODY["prompt"].encode()


@pytest.mark.parametrize(("how", "stored"), [(freeze, 0), (freeze_at_the_submit, 1)])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_submit_is_told_to_come_again_and_then_makes_its_jobs_once(
    settings, valkey_server, valkey, worker, how, stored, jobs
):
    body = {**BODY, "n": jobs}
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy):
        assert client.post("/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        valkey.flushdb()
        worker.alive()
        how(proxy)

        refused = client.post("/v1/jobs", json=body, headers=KEY)
        found = valkey.zcard(f"{PREFIX}jobs:local")
        thaw(proxy)
        taken = client.post("/v1/jobs", json=body, headers=KEY)

    assert (refused.status_code, refused.json["code"]) == (503, "redis_unavailable")
    assert int(refused.headers["Retry-After"]) == refused.json["retry_after_seconds"] >= 1
    assert "RateLimit" not in refused.headers
    assert found == stored * jobs
    assert taken.status_code == 202, taken.text
    assert taken.headers.get("Idempotency-Replayed") == ("true" if stored else None)
    assert valkey.zcard(f"{PREFIX}jobs:local") == jobs


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("how", [freeze, freeze_at_the_submit])
def test_one_timeout_is_all_that_a_request_waits_for_a_frozen_redis(settings, valkey_server, worker, how, path):
    """Whatever it still wanted of Redis: to ask again whether the job was stored, to give back the key of the call."""
    patience_seconds = 3.0
    with through_a_proxy(settings, valkey_server.port, patience_seconds) as (client, _, proxy):
        assert client.post("/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        how(proxy)
        begun = time.monotonic()

        refused = client.post(path, json=BODY)

        waited = time.monotonic() - begun
        thaw(proxy)
        taken = client.post("/v1/jobs", json={**BODY, "prompt": "the next one"})

    assert (refused.status_code, refused.json["code"]) == (503, "redis_unavailable")
    assert waited < 1.9 * patience_seconds, f"the timeout is {patience_seconds} s, the answer took {waited:.1f} s"
    assert taken.status_code == 202, "the next request has its own patience"


def test_a_list_one_of_whose_answers_is_late_is_asked_again(settings, valkey_server, valkey, worker):
    """The api gives the connection up after a second and opens another: then answers come again."""
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy), ThreadPoolExecutor(1) as pool:
        assert client.post("/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        proxy.holds_after = b'"prompt":"mug of the list, product'
        before = valkey.info("stats")["total_connections_received"]
        sheet = (BytesIO(b"sku,title\n1,mug of the list\n"), "list.csv")
        answer = pool.submit(client.post, "/v1/batches", data={"file": sheet})
        wait_until(lambda: valkey.info("stats")["total_connections_received"] > before, seconds=20)
        thaw(proxy)

        assert answer.result(timeout=20).status_code == 202, answer.result().text


@pytest.mark.parametrize("count", [1, 3])
def test_jobs_that_are_stored_are_told_so_though_redis_goes_away_before_the_look_at_them(
    settings, valkey_server, valkey, worker, count
):
    """Else a caller without a key sends it again, and it is drawn twice."""
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy):
        assert client.post("/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        valkey.flushdb()
        worker.alive()
        proxy.cuts_before = script_sha("usage")

        answer = client.post("/v1/jobs", json={**BODY, "n": count})
        proxy.cuts_before = b""
        looked_at = client.get(answer.headers["Location"]).json

    told, kept = (body["data"] if count > 1 else [body] for body in (answer.json, looked_at))
    assert (answer.status_code, valkey.zcard(f"{PREFIX}jobs:local")) == (202, count)
    assert [JobObject.model_validate(job).status for job in told] == ["queued"] * count
    assert [without_a_place(job) for job in told] == [without_a_place(job) for job in kept]


def without_a_place(job):
    return {**job, "created_at": 0, "queue_position": None, "eta_seconds": None}


def lose(proxy):
    proxy.refuses = True
    proxy.cut()


def test_a_job_that_is_stored_is_told_so_though_redis_goes_away_while_its_end_is_waited_for(
    settings, valkey_server, valkey, worker
):
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy), ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, "/v1/jobs", json=BODY, headers={"Prefer": "wait=20"})
        wait_until(lambda: valkey.zcard(f"{PREFIX}jobs:local"), seconds=20)
        lose(proxy)
        answer = call.result(timeout=20)

    job = JobStore(valkey, settings).get(answer.json["id"])
    assert (answer.status_code, answer.json["status"], job.request.prompt) == (202, "queued", BODY["prompt"])


def test_a_synchronous_call_names_its_job_though_redis_goes_away_while_it_is_drawn(
    settings, valkey_server, valkey, worker
):
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy), ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, "/v1/images/generations", json=BODY)
        wait_until(lambda: valkey.zcard(f"{PREFIX}jobs:local"), seconds=20)
        lose(proxy)
        answer = call.result(timeout=20)

    assert (answer.status_code, answer.json["code"]) == (503, "still_running")
    assert answer.json["job_ids"] == valkey.zrange(f"{PREFIX}jobs:local", 0, -1)
    assert "Retry-After" in answer.headers


def test_a_list_that_is_stored_is_told_so_though_redis_goes_away_before_the_look_at_it(
    settings, valkey_server, valkey, worker
):
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy):
        assert client.post("/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        proxy.cuts_before = f"{PREFIX}hold:".encode()  # what the look asks for

        answer = client.post("/v1/batches", data={"file": (BytesIO(b"sku,title\n1,mug\n2,jug\n"), "list.csv")})
        proxy.cuts_before = b""
        looked_at = client.get(answer.headers["Location"]).json

    assert answer.status_code == 202, answer.text
    assert answer.json == looked_at
    assert answer.json["request_counts"]["total"] == 4


def test_the_apis_patience_with_redis_is_its_own(settings, valkey):
    parts = build_services(replace(settings, api_redis_timeout_seconds=Settings().api_redis_timeout_seconds))

    assert Settings.from_env({"ZIMG_API_REDIS_TIMEOUT_SECONDS": "1.5"}).api_redis_timeout_seconds == 1.5
    assert parts.redis.connection_pool.connection_kwargs["socket_timeout"] == 2.0
    assert valkey.connection_pool.connection_kwargs["socket_timeout"] == 5.0


def test_an_event_stream_that_loses_redis_ends_without_an_error(settings, valkey_server, worker):
    with through_a_proxy(settings, valkey_server.port) as (client, _, proxy):
        job_id = client.post("/v1/jobs", json=BODY).json["id"]
        with client.get(f"/v1/jobs/{job_id}/events") as answer:
            frames = answer.iter_encoded()
            first = next(frames)
            proxy.refuses = True
            proxy.cut()

            rest = b"".join(frames)

    assert first == b": open\n\n"
    assert b"event: error" not in rest
