"""Attacks that are no slip of a client: each is tried here, unless the part that it is aimed at has a test of its own.

SSRF: test_webhooks.py. Other sites' pages and rebound names: test_auth.py. Slow clients: test_slow_clients.py.
"""

import hmac

import pytest

from tests.integration.api.test_auth import ADMIN, BODY, make_key


@pytest.fixture
def compared(monkeypatch):
    """What was compared in constant time."""
    seen, real = [], hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: seen.append((one, other)) or real(one, other))
    return seen


def test_the_admin_key_is_compared_in_constant_time(keyed, worker, compared):
    keyed.get("/v1/keys", headers={"Authorization": "Bearer the-operators-own-kez"})

    assert (b"the-operators-own-kez", b"the-operators-own-key") in compared


def test_a_tenants_key_is_looked_up_by_its_hash_and_never_compared_as_it_is(keyed, worker, compared):
    headers, made = make_key(keyed)
    keyed.get("/v1/jobs", headers=headers)

    assert (made["id"], made["id"]) in compared
    assert not any(made["key"] in pair for pair in compared if isinstance(pair[0], str))


def test_an_unknown_key_and_a_revoked_one_are_answered_alike(keyed, worker):
    headers, made = make_key(keyed)
    keyed.delete(f"/v1/keys/{made['id']}", headers=ADMIN)

    def seen(header):
        answer = keyed.get("/v1/jobs", headers=header)
        return answer.status_code, {**answer.json, "request_id": ""}, sorted(answer.headers.keys())

    assert seen(headers) == seen({"Authorization": f"Bearer zimg_{'x' * 43}"})


def test_anothers_job_is_answered_like_one_that_never_was(keyed, worker):
    mine, _ = make_key(keyed, "mine")
    other, _ = make_key(keyed, "other")
    job = keyed.post("/v1/jobs", json=BODY, headers=mine).json["id"]

    def seen(job_id):
        answer = keyed.get(f"/v1/jobs/{job_id}", headers=other)
        return answer.status_code, {**answer.json, "request_id": "", "instance": ""}

    assert seen(job) == seen("0" * 32)


def test_no_header_of_an_answer_can_be_written_by_a_request(http, worker):
    for text in ("a\r\nSet-Cookie: evil=1", "a\nb", "é" * 10, "a" * 10_000, "\x00"):
        answer = http.post("/v1/jobs", json={**BODY, text: 1})

        assert answer.status_code in (202, 400), text
        assert "evil" not in (answer.headers.get("Set-Cookie") or "")
        assert all(value.isprintable() and value.isascii() for value in answer.headers.values()), text


OUTWARD = [
    "/v1/jobs/..%2fkeys", "/v1/jobs/%2e%2e/keys", "/i/..%2f..%2fcore%2fsettings.py", "/i/%00.png", "//v1/jobs",
    "/static/..%5capp.py", "/static/%2e%2e%2fapp.py", "/docs/assets/..%2f..%2f__init__.py",
    "/docs/assets/%2fetc%2fpasswd",
]  # fmt: skip


def test_no_path_leads_out_of_its_place(keyed, worker):
    for path in OUTWARD:
        answer = keyed.get(path, headers=ADMIN)

        assert answer.status_code in (400, 404), path
        assert "import" not in answer.text
        assert "root:" not in answer.text


def test_a_session_is_never_offered_to_another_origin(keyed, worker):
    for origin in ("https://evil.example", "null", "http://localhost"):
        answer = keyed.get("/v1/session", headers={"Origin": origin})

        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_prompt_is_never_markup_in_an_answer(http, worker):
    job = http.post("/v1/jobs", json={**BODY, "prompt": "<script>alert(1)</script>"})
    looked = http.get(f"/v1/jobs/{job.json['id']}")

    assert looked.content_type == "application/json"
    assert looked.headers["X-Content-Type-Options"] == "nosniff"
