"""What is left of a tenant's limits is told with every answer to it, and with no other."""

import re
import time
from dataclasses import replace

import pytest

from api.app import create_app
from api.parts import build_services
from core.redis_client import PREFIX
from tests.fault_proxy import tcp_proxy
from tests.integration.api.test_auth import ADMIN, make_key

BODY = {"prompt": "a", "size": "256x256"}
FIELDS = {
    "RateLimit-Policy",
    "RateLimit",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
}


def fields_of(answer):
    return FIELDS & set(answer.headers.keys())


def told(answer, name):
    """The parameters of one policy in the RateLimit field."""
    found = re.search(rf'"{name}";r=(\d+)(?:;t=(\d+))?', answer.headers["RateLimit"])
    return tuple(int(value) for value in found.groups() if value is not None)


def policies(answer):
    return re.findall(r'"(\w+)";q=', answer.headers["RateLimit-Policy"])


def limit(parts, **limits):
    parts.tenants.change("local", limits)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/jobs", 200),
        ("GET", "/v1/jobs?limit=0", 400),
        ("GET", f"/v1/jobs/{'0' * 32}", 404),
        ("GET", "/v1/usage", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/account", 200),
        ("GET", "/v1/webhooks", 200),
        ("GET", "/v1/batches/batch_0", 404),
        ("POST", "/v1/jobs", 202),
        ("POST", "/v1/jobs?prompt", 400),
        ("POST", "/v1/images/generations", 400),
        ("POST", "/v1/batches", 415),
    ],
)
def test_every_answer_to_a_tenant_tells_its_limits(http, worker, method, path, status):
    body = BODY if (path, status) == ("/v1/jobs", 202) else {} if method == "POST" else None

    answer = http.open(path, method=method, json=body)

    assert answer.status_code == status, answer.text
    assert fields_of(answer) == FIELDS
    assert policies(answer) == ["burst", "daily", "queue"]


def test_a_job_that_is_looked_at_tells_what_its_submit_took(http, worker):
    taken = http.post("/v1/jobs", json=BODY)
    looked = http.get(f"/v1/jobs/{taken.json['id']}")
    unchanged = http.get(f"/v1/jobs/{taken.json['id']}", headers={"If-None-Match": looked.headers["ETag"]})

    for answer in (taken, looked, unchanged):
        assert told(answer, "daily")[0] == 99_999
        assert told(answer, "queue") == (19_999,)
        assert answer.headers["x-ratelimit-remaining-requests"] == "99999"
    assert unchanged.status_code == 304


def test_an_event_stream_tells_them_at_its_start(http, worker):
    job = http.post("/v1/jobs", json=BODY).json

    with http.get(f"/v1/jobs/{job['id']}/events") as answer:
        assert fields_of(answer) == FIELDS


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/", "/v1/session"])
def test_what_belongs_to_nobody_tells_no_limits(http, worker, path):
    assert fields_of(http.get(path)) == set()


def test_pictures_the_operators_routes_and_strangers_are_told_no_limits(keyed, http, worker):
    job = http.post("/v1/jobs", json=BODY).json
    worker.draw_all()

    assert fields_of(http.get(f"/i/{job['id']}.png")) == set()
    assert fields_of(keyed.get("/v1/keys", headers=ADMIN)) == set()
    assert fields_of(keyed.get("/v1/jobs")) == set()
    assert fields_of(http.get("/v1/nothing")) == set()


def test_each_tenant_is_told_its_own(keyed, parts, worker):
    shop, _ = make_key(keyed, "shop")
    other, _ = make_key(keyed, "other")
    parts.tenants.change("shop", {"daily_units": 7})

    assert told(keyed.get("/v1/jobs", headers=shop), "daily")[0] == 7
    assert told(keyed.get("/v1/jobs", headers=other), "daily")[0] == 100_000


REFUSALS = {
    "rate_limit_exceeded": ("burst", {"burst": 1, "burst_per_second": 0.01}),
    "quota_exceeded": ("daily", {"daily_units": 1}),
    "queue_full": ("queue", {"queued_jobs": 1}),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_names_a_policy_that_is_told_and_asks_for_enough_patience(http, worker, parts, code):
    policy, limits = REFUSALS[code]
    limit(parts, **limits)
    assert http.post("/v1/jobs", json=BODY).status_code == 202

    refused = http.post("/v1/jobs", json={**BODY, "prompt": "b"})

    assert (refused.status_code, refused.json["code"]) == (429, code)
    assert refused.json["violated-policies"] == [policy]
    assert policy in policies(refused)
    remaining, *resets = told(refused, policy)
    assert remaining == 0
    assert int(refused.headers["Retry-After"]) >= max(resets, default=1)
    assert refused.json["retry_after_seconds"] == int(refused.headers["Retry-After"])


def test_a_refusal_asks_for_patience_with_every_limit_that_has_nothing_left(http, worker, parts):
    limit(parts, burst=1, burst_per_second=0.01, daily_units=1)
    http.post("/v1/jobs", json=BODY)

    refused = http.post("/v1/jobs", json={**BODY, "prompt": "b"})

    assert refused.json["code"] == "rate_limit_exceeded"
    patience = int(refused.headers["Retry-After"])
    assert patience >= max(told(refused, "daily")[1], told(refused, "burst")[1])
    assert refused.json["retry_after_seconds"] == patience


def test_a_burst_that_is_partly_used_says_when_the_next_picture_comes_back(http, worker, parts):
    limit(parts, burst=3, burst_per_second=0.01)

    first, second = (told(http.post("/v1/jobs", json={**BODY, "prompt": text}), "burst") for text in "ab")

    assert (first[0], second[0]) == (2, 1)
    assert 0 < first[1] <= 100
    assert 0 < second[1] <= 100


def test_a_tenant_without_a_burst_is_told_the_other_limits(http, worker, parts):
    limit(parts, burst_per_second=0)

    answer = http.post("/v1/jobs", json=BODY)

    assert policies(answer) == ["daily", "queue"]
    assert '"burst"' not in answer.headers["RateLimit"]


@pytest.mark.parametrize(
    ("call", "status", "told"),
    [
        ({"path": "/v1/jobs", "method": "GET"}, 200, set()),
        ({"path": "/v1/jobs", "method": "POST", "json": {"prompt": ""}}, 400, set()),
        ({"path": "/v1/jobs", "method": "POST", "json": BODY}, 202, FIELDS),  # read together with the new job
    ],
)
def test_an_answer_goes_out_with_what_is_known_when_redis_is_lost_on_the_way(
    settings, worker, valkey_server, call, status, told
):
    with tcp_proxy(valkey_server.port) as proxy:
        url = valkey_server.url.replace(f":{valkey_server.port}", f":{proxy.port}")
        parts = build_services(replace(settings, redis_url=url))
        app = create_app(parts)

        def lose_redis(response):
            proxy.refuses = True
            proxy.cut()
            return response

        app.after_request(lose_redis)  # the last one registered runs first
        answer = app.test_client().open(**call)
        lost = app.test_client().get("/v1/jobs")
        parts.hub.close()

    assert (answer.status_code, fields_of(answer)) == (status, told)
    assert (lost.status_code, lost.json["code"], fields_of(lost)) == (503, "redis_unavailable", set())


def test_the_document_names_the_fields_under_the_answers_that_have_them(http, parts):
    document = http.get("/openapi.json").json

    paths = document["paths"]
    of_waiting = {"Preference-Applied", "X-Zimg-Ignored"}
    assert set(paths["/v1/jobs"]["get"]["responses"]["200"]["headers"]) == FIELDS | {"X-Request-Id"} | of_waiting
    of_429 = {"X-Request-Id", "Content-Language", "Retry-After"}
    assert set(document["components"]["responses"]["Problem429"]["headers"]) == FIELDS | of_429
    assert set(document["components"]["headers"]) >= FIELDS
    assert set(paths["/v1/keys"]["get"]["responses"]["200"]["headers"]) == {"X-Request-Id"}


def test_usage_tells_the_room_that_a_list_keeps_which_is_coming_in(http, worker, parts):
    http.post("/v1/jobs", json={"prompt": "a"})
    parts.redis.hset(f"{PREFIX}hold:batch", mapping={"tenant": "local", "day": "0", "units": 7, "jobs": 7})
    parts.redis.zadd(f"{PREFIX}holds", {"batch": time.time() * 1000 + 60_000})

    answer = http.get("/v1/usage")

    limit = parts.tenants.local().limits.queued_jobs
    told = [answer.json[f"queued_jobs{name}"] for name in ("", "_held", "_remaining", "_limit")]
    assert told == [1, 7, limit - 8, limit]
    assert f'"queue";r={limit - 8}' in answer.headers["RateLimit"]
