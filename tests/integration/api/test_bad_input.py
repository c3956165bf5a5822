"""Whatever a client sends wrong: 4xx problem+json that names the field, nothing stored, nothing charged."""

import json

import pytest

from api.objects import ProblemObject
from tests.integration.api.conftest import use_up

JSON = {"Content-Type": "application/json"}


def fingerprint_of(redis):
    """Everything that Redis holds, workers' heartbeats left out."""
    return {key: redis.dump(key) for key in redis.scan_iter("*") if ":worker" not in key}


def body(**members):
    return json.dumps({"prompt": "a red mug", **members}).encode()


CASES = {
    "no prompt": (b"{}", "prompt", 400),
    "empty prompt": (body(prompt=""), "prompt", 400),
    "blank prompt": (body(prompt=" \t\n"), "prompt", 400),
    "prompt of 100 kB": (body(prompt="x" * 100_000), "prompt", 400),
    "prompt with NUL": (body(prompt="a\x00b"), "prompt", 400),
    "prompt is a list": (body(prompt=["a", "b"]), "prompt", 400),
    "prompt is null": (body(prompt=None), "prompt", 400),
    "prompt is a lone surrogate": (b'{"prompt": "\\ud83d"}', "prompt", 400),
    "size 17x5000": (body(size="17x5000"), "size", 400),
    "size is a number": (body(size=512), "size", 400),
    "size too many pixels": (body(size="1536x1536"), "size", 400),
    "negative seed": (body(seed=-1), "seed", 400),
    "seed of 33 bits": (body(seed=2**32), "seed", 400),
    "seed is text": (body(seed="7"), "seed", 400),
    "n is 0": (body(n=0), "n", 400),
    "n is 11": (body(n=11), "n", 400),
    "metadata is text": (body(metadata="x"), "metadata", 400),
    "metadata too large": (body(metadata={"a": "x" * 5000}), "metadata", 400),
    "seed twice": (b'{"prompt": "a", "seed": 1, "seed": 2}', "seed", 400),
    "broken JSON": (b'{"prompt": "a"', None, 400),
    "NaN": (b'{"prompt": "a", "seed": NaN}', None, 400),
    "JSON list": (b"[]", None, 400),
    "JSON text of JSON": (json.dumps('{"prompt": "a"}').encode(), None, 400),
    "no body": (b"", None, 400),
    "not UTF-8": (b'{"prompt": "\xff\xfe"}', None, 400),
    "huge body": (body(prompt="x" * 400_000), None, 413),
}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("name", CASES)
def test_a_bad_body_is_refused_naming_the_field_and_leaves_no_trace(http, worker, valkey, path, name):
    data, field, status = CASES[name]
    before = fingerprint_of(valkey)

    answer = http.post(path, data=data, headers=JSON)

    problem = answer.json
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    assert ProblemObject.model_validate(problem)
    assert problem.get("field") == field
    assert problem["error"]["param"] == field
    assert "x" * 50 not in answer.text
    assert fingerprint_of(valkey) == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_another_content_type_is_refused(http, worker, valkey, content_type):
    before = fingerprint_of(valkey)

    answer = http.post("/v1/jobs", data=body(), headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    assert fingerprint_of(valkey) == before


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "schl\xfcssel"])
def test_a_malformed_idempotency_key_is_refused_or_ignored_when_empty(http, worker, key):
    answer = http.post("/v1/jobs", data=body(), headers={**JSON, "Idempotency-Key": key})

    assert answer.status_code == (202 if key == "" else 400)
    if key:
        assert answer.json["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("status=done", "status"),
        ("cursor=../..", "cursor"),
        ("ids=" + "a" * 9000, "ids"),
    ],
)
def test_a_bad_query_is_refused_naming_the_parameter(http, parts, query, field):
    answer = http.get(f"/v1/jobs?{query}")

    assert answer.status_code == 400
    assert answer.json["field"] == field


def test_every_wrong_member_is_told_at_once(http, parts):
    answer = http.post("/v1/jobs", json={"prompt": "", "size": "1x1", "seed": -1})

    assert [error["pointer"] for error in answer.json["errors"]] == ["/prompt", "/size", "/seed"]


def test_of_wrong_members_a_hundred_are_told_at_most(http, parts):
    answer = http.post("/v1/jobs/cancel", json={"ids": [7] * 900}, headers={"Accept-Language": "zh"})

    assert (answer.status_code, len(answer.json["errors"])) == (400, 100)


def test_of_unknown_members_a_hundred_are_told_at_most(keyed, parts):
    operator = {"Authorization": "Bearer the-operators-own-key"}

    answer = keyed.patch("/v1/admin/tenants/local", json={f"n{n}": 1 for n in range(9_000)}, headers=operator)

    assert (answer.status_code, len(answer.json["errors"])) == (400, 100)


@pytest.mark.parametrize(
    ("language", "title"),
    [
        ("en", "The prompt is empty"),
        ("zh-CN", "提示词为空"),
        ("zh", "提示词为空"),
        ("de, zh;q=0.3", "提示词为空"),
        ("de", "The prompt is empty"),
    ],
)
def test_errors_speak_the_callers_language(http, parts, language, title):
    answer = http.post("/v1/jobs", json={"prompt": ""}, headers={"Accept-Language": language})

    assert answer.json["title"] == title
    assert answer.json["code"] == "empty_prompt"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("PUT", "/v1/jobs", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v1/models/other", 404),
        ("DELETE", "/", 405),
    ],
)
def test_wrong_paths_and_methods_are_problems_too(http, parts, method, path, status):
    answer = http.open(path, method=method)

    assert answer.status_code == status
    assert ProblemObject.model_validate(answer.json)
    assert answer.headers["X-Request-Id"] == answer.json["request_id"]
    if status == 405:
        assert answer.headers["Allow"]


def test_over_the_daily_quota_nothing_is_stored_and_the_client_knows_when_to_return(http, worker, parts, valkey):
    use_up(parts)
    parts.tenants.change("local", {"daily_units": 3})

    answer = http.post("/v1/jobs", json={"prompt": "a", "n": 3})

    assert (answer.status_code, answer.json["code"]) == (429, "quota_exceeded")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["violated-policies"] == ["daily"]
    assert answer.json["retry_at"].endswith("Z")
    assert http.get("/v1/jobs").json["data"] == []
    assert http.get("/v1/usage").json["daily_reserved"] == 0


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
@pytest.mark.parametrize("limit", [{"daily_units": 2}, {"queued_jobs": 2}])
def test_more_than_a_limit_ever_allows_is_no_reason_to_wait(http, worker, parts, valkey, path, limit):
    parts.tenants.change("local", limit)

    answer = http.post(path, json={"prompt": "a", "n": 3})

    assert (answer.status_code, answer.json["code"], answer.json["field"]) == (400, "exceeds_limits", "n")
    assert ProblemObject.model_validate(answer.json)
    assert answer.json["detail"].endswith("; send at most 2 at once.")
    assert "Retry-After" not in answer.headers
    assert not {"retry_at", "retry_after_seconds"} & set(answer.json)
    assert list(valkey.scan_iter("*:job:*")) == []
    assert http.get("/v1/usage").json["daily_reserved"] == 0


def test_what_needs_no_member_needs_no_body(keyed, worker):
    key, _ = keyed.application.extensions["zimg"].tenants.create_key("shop")
    own = {"Authorization": f"Bearer {key}"}

    assert keyed.post("/v1/jobs", headers=own).json["code"] == "missing_field"
    assert keyed.post("/v1/account/key/rotate", headers=own).status_code == 201


def test_the_words_of_a_title_are_said_once(http, worker):
    answer = http.post("/v1/jobs", data="{", headers=JSON).json

    assert answer["error"]["message"] == answer["detail"]
    assert answer["error"]["message"].count("The body is not valid JSON") == 1
