"""The OpenAPI document names the headers that a request may send and an answer carries; the answers really do."""

import io
import re

import pytest

SENT = {
    ("post", "/v1/jobs"): {"Idempotency-Key", "Prefer", "Accept-Language"},
    ("post", "/v1/images/generations"): {"Idempotency-Key", "Accept-Language"},
    ("post", "/v1/batches"): {"Idempotency-Key", "Accept-Language"},
    ("get", "/v1/jobs"): {"Prefer", "Accept-Language"},
    ("get", "/v1/jobs/{job_id}"): {"Prefer", "If-None-Match", "Accept-Language"},
    ("get", "/v1/jobs/{job_id}/events"): {"Last-Event-ID", "Accept-Language"},
    ("get", "/i/{job_id}.png"): {"If-None-Match", "Range", "Accept-Language"},
    ("get", "/i/{job_id}.webp"): {"If-None-Match", "Accept-Language"},
    ("get", "/v1/usage"): {"Accept-Language"},
}


@pytest.fixture
def document(http, parts):
    return http.get("/openapi.json").json


def parameters(document, method, path):
    found = document["paths"][path][method].get("parameters", [])
    named = [one["$ref"].rpartition("/")[2] for one in found if "$ref" in one]
    return {name for name in named if document["components"]["parameters"][name]["in"] == "header"}


@pytest.mark.parametrize(("method", "path"), SENT)
def test_an_operation_names_the_headers_that_it_reads(document, method, path):
    assert parameters(document, method, path) == SENT[method, path]


def answer_headers(document, method, path, status):
    answer = document["paths"][path][method]["responses"][str(status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    assert {one["$ref"] for one in answer["headers"].values()} <= {
        f"#/components/headers/{name}" for name in document["components"]["headers"]
    }
    return set(answer["headers"])


def test_what_answers_carry_is_in_the_document(http, worker, document):
    body = {"prompt": "a red mug", "size": "256x256", "steps": 4}
    key = {"Idempotency-Key": "order-17", "Prefer": "wait=1"}
    made = http.post("/v1/jobs", json=body, headers=key)
    again = http.post("/v1/jobs", json=body, headers=key)
    job = made.json["id"]
    worker.draw_all()
    look = http.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=1"})
    with worker.at_work():
        drawn = http.post("/v1/images/generations", json=body)
    part = http.get(f"/i/{job}.png", headers={"Range": "bytes=0-9"})
    missing = http.get(f"/v1/jobs/{'0' * 32}")

    for answer, method, path, named in (
        (made, "post", "/v1/jobs", {"Location", "Preference-Applied", "X-Zimg-Ignored", "X-Request-Id"}),
        (again, "post", "/v1/jobs", {"Idempotency-Replayed"}),
        (look, "get", "/v1/jobs/{job_id}", {"ETag", "Preference-Applied", "X-Request-Id"}),
        (drawn, "post", "/v1/images/generations", {"X-Zimg-Job-Id", "X-Zimg-Ignored"}),
        (part, "get", "/i/{job_id}.png", {"ETag", "Content-Range"}),
        (missing, "get", "/v1/jobs/{job_id}", {"Content-Language", "X-Request-Id"}),
    ):
        assert named <= set(answer.headers.keys()), (path, named)
        assert named <= answer_headers(document, method, path, answer.status_code), (path, answer.status_code)


@pytest.mark.parametrize("status", [429, 503])
def test_what_says_later_says_when(document, status):
    assert "Retry-After" in answer_headers(document, "post", "/v1/jobs", status)


def test_no_example_of_a_header_breaks_its_own_rules(document):
    for name, one in document["components"]["parameters"].items():
        assert re.search(one["schema"].get("pattern", ""), one["example"]), name


def ask(http, path, key):
    """The same wish under the same key: on each of the routes that draw."""
    headers = {"Idempotency-Key": key}
    if path == "/v1/batches":
        return http.post(path, data={"file": (io.BytesIO(b"sku,title\nA,mug\n"), "a.csv")}, headers=headers)
    return http.post(path, json={"prompt": "a red mug", "size": "256x256"}, headers=headers)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/v1/batches"])
def test_the_key_of_deleted_pictures_is_gone_and_the_document_says_so(http, worker, document, path):
    with worker.at_work():
        made = ask(http, path, "order-17")
        ids = [job["id"] for job in http.get("/v1/jobs").json["data"]]
        for job in ids:
            assert http.get(f"/v1/jobs/{job}?wait=30").json["status"] == "succeeded"
    for job in ids:
        assert http.delete(f"/v1/jobs/{job}").status_code == 204

    again = ask(http, path, "order-17")

    assert (made.status_code, again.status_code, again.json["code"]) == (made.status_code, 410, "gone")
    assert "410" in document["paths"][path]["post"]["responses"]


def test_a_list_that_is_canceled_while_it_comes_in_is_a_conflict_by_the_document(document):
    assert "409" in document["paths"]["/v1/batches"]["post"]["responses"]


def test_the_header_that_says_whose_session_is_meant_is_named_once_with_its_refusal(document):
    told = document["components"]["securitySchemes"]["session"]["description"]

    assert "X-Zimg-Tenant" in told
    assert "409 `conflict`" in told
