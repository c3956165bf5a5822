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
