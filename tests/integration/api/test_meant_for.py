"""A request that says whose it is meant to be is nobody else's: another tab may have changed the session meanwhile."""

import pytest

BODY = {"prompt": "a", "size": "256x256"}


@pytest.fixture
def signed_in(keyed, parts, worker):
    """A client with the session of `cafe`."""
    key, _ = parts.tenants.create_key("cafe")
    assert keyed.post("/v1/session", json={"key": key}).status_code == 200
    return keyed


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/jobs"), ("GET", "/v1/jobs?ids=" + "a" * 32), ("DELETE", "/v1/account/data")]
)
def test_what_is_meant_for_another_account_is_refused(signed_in, parts, method, path):
    answer = signed_in.open(path, method=method, json=BODY, headers={"X-Zimg-Tenant": "shop"})

    assert (answer.status_code, answer.json["code"], answer.json["field"]) == (409, "conflict", "X-Zimg-Tenant")
    assert parts.jobs.list_jobs("cafe") == []


def test_what_is_meant_for_this_account_or_names_none_is_taken(signed_in, parts):
    for headers in ({"X-Zimg-Tenant": "cafe"}, {}):
        assert signed_in.post("/v1/jobs", json=BODY, headers=headers).status_code == 202

    assert signed_in.get("/v1/session", headers={"X-Zimg-Tenant": "shop"}).json["tenant"] == "cafe"


def test_the_refusal_speaks_chinese(signed_in):
    answer = signed_in.get("/v1/usage", headers={"X-Zimg-Tenant": "shop", "Accept-Language": "zh-CN"})

    assert "另一个账户" in answer.json["detail"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/account/key/rotate"])
def test_who_sends_a_key_is_who_the_key_says_whatever_else_is_said(keyed, parts, worker, path):
    key, _ = parts.tenants.create_key("cafe")

    answer = keyed.post(path, json=BODY if path == "/v1/jobs" else {}, headers={
        "Authorization": f"Bearer {key}", "X-Zimg-Tenant": "shop"
    })  # fmt: skip

    assert answer.status_code in (201, 202)


def test_the_operators_key_is_the_operators_too(keyed, parts):
    operator = {"Authorization": "Bearer the-operators-own-key", "X-Zimg-Tenant": "shop"}

    assert keyed.get("/v1/admin/tenants", headers=operator).status_code == 200


def test_without_keys_what_a_page_means_for_another_account_is_not_drawn_for_local(http, worker):
    """A page that was signed in before the last key was taken away still holds what its account waits for."""
    assert http.post("/v1/jobs", json=BODY, headers={"X-Zimg-Tenant": "cafe"}).status_code == 409
    assert http.post("/v1/jobs", json=BODY, headers={"X-Zimg-Tenant": "local"}).status_code == 202
