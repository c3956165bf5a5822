"""The operator's API, of tenants: who may open it, limits, bans, keys, usage."""

from dataclasses import replace

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from tests.integration.api.test_auth import ADMIN, BODY, make_key


def admin(client, method, path, body=None):
    more = {} if body is None else {"json": body}
    return client.open(f"/v1/admin/{path}", method=method, headers=ADMIN, **more)


def admin_routes(client):
    names = {"tenant": "shop", "key_id": "a" * 64, "invite_id": "a" * 64, "kind": "lane", "name": "batch"}
    return sorted(
        (method, path.format(**names, job_id="a" * 32))
        for path, item in client.get("/openapi.json").json["paths"].items()
        if path.startswith("/v1/admin/")
        for method in item
    )


def test_no_route_of_the_operator_opens_to_a_tenants_key_or_to_nobody(keyed, parts):
    mine, _ = make_key(keyed)
    routes = admin_routes(keyed)

    assert len(routes) >= 17
    for method, path in routes:
        assert keyed.open(path, method=method, json={}).status_code == 401, path
        refused = keyed.open(path, method=method, json={}, headers=mine)
        assert (refused.status_code, refused.json["code"]) == (403, "forbidden"), path


def test_no_route_of_the_operator_opens_on_localhost_without_a_key(http, parts):
    assert {http.open(path, method=method, json={}).status_code for method, path in admin_routes(http)} == {401}


def test_limits_hold_from_the_next_request_on(keyed, worker):
    mine, _ = make_key(keyed)
    changed = admin(keyed, "PATCH", "tenants/shop", {"daily_units": 1, "weight": 3, "preset": "turbo-8"})

    first = keyed.post("/v1/jobs", json=BODY, headers=mine)
    second = keyed.post("/v1/jobs", json={**BODY, "prompt": "b"}, headers=mine)

    assert changed.json["limits"]["daily_units"] == 1
    assert (changed.json["limits"]["weight"], changed.json["preset"]) == (3.0, "turbo-8")
    assert (first.status_code, first.json["preset"]) == (202, "turbo-8")
    assert (second.status_code, second.json["code"]) == (429, "quota_exceeded")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"daily_units": -1}, "daily_units"),
        ({"weight": 0}, "weight"),
        ({"burst": 0}, "burst"),
        ({"running_jobs": "many"}, "running_jobs"),
        ({"lanes": []}, "lanes"),
        ({"lanes": ["fast"]}, "lanes.0"),
        ({"preset": "slow"}, "preset"),
    ],
)
def test_a_limit_that_can_not_work_is_named(keyed, parts, body, field):
    answer = admin(keyed, "PATCH", "tenants/shop", body)

    assert (answer.status_code, answer.json["field"]) == (400, field)
    assert parts.tenants.get("shop") == replace(parts.tenants.get("never-seen"), name="shop")


def test_a_tenant_kept_to_one_lane_is_refused_in_the_other(keyed, worker):
    mine, _ = make_key(keyed)
    admin(keyed, "PATCH", "tenants/shop", {"lanes": ["batch"]})

    answer = keyed.post("/v1/jobs", json=BODY, headers=mine)

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


def test_a_ban_is_told_with_its_reason_cancels_what_waits_and_ends(keyed, worker):
    mine, _ = make_key(keyed)
    job = keyed.post("/v1/jobs", json=BODY, headers=mine).json

    banned = admin(keyed, "POST", "tenants/shop/ban", {"reason": "the invoice is open", "cancel_jobs": True})
    refused = keyed.get("/v1/jobs", headers=mine)
    admin(keyed, "POST", "tenants/shop/unban")

    assert banned.json["ban_reason"] == "the invoice is open"
    assert (refused.status_code, "the invoice is open" in refused.json["detail"]) == (403, True)
    assert keyed.get(f"/v1/jobs/{job['id']}", headers=mine).json["status"] == "canceled"


def test_a_ban_cancels_what_waits_behind_any_number_of_ended_jobs(keyed, parts, worker, monkeypatch):
    monkeypatch.setattr("core.job_pages.SCANNED_MOST", 3)
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 1)
    mine, _ = make_key(keyed)
    made = [keyed.post("/v1/jobs", json={**BODY, "prompt": f"mug {n}"}, headers=mine).json["id"] for n in range(9)]
    for job_id in made[2:]:
        parts.jobs.cancel(job_id)

    admin(keyed, "POST", "tenants/shop/ban", {"reason": "the invoice is open", "cancel_jobs": True})

    assert {parts.jobs.get(job_id).state for job_id in made} == {JobState.CANCELED}


@pytest.mark.parametrize(("tenant", "body", "field"), [("shop", {}, "reason"), ("admin", {"reason": "x"}, "tenant")])
def test_a_ban_without_a_reason_or_of_the_operator_is_refused(keyed, parts, tenant, body, field):
    answer = admin(keyed, "POST", f"tenants/{tenant}/ban", body)

    assert (answer.status_code, answer.json["field"]) == (400, field)


def test_a_rotated_key_stops_at_once_and_the_new_one_opens_the_same_account(keyed, worker):
    old, made = make_key(keyed, label="till")
    fresh = admin(keyed, "POST", f"keys/{made['id']}/rotate", {})

    assert (fresh.status_code, fresh.json["tenant"], fresh.json["label"]) == (201, "shop", "till")
    assert keyed.get("/v1/jobs", headers=old).status_code == 401
    assert keyed.get("/v1/jobs", headers={"Authorization": f"Bearer {fresh.json['key']}"}).status_code == 200


def test_with_an_overlap_both_keys_work_and_the_old_one_has_its_end(keyed, worker):
    old, made = make_key(keyed)
    admin(keyed, "POST", f"keys/{made['id']}/rotate", {"overlap_seconds": 600})
    (shown,) = [key for key in keyed.get("/v1/keys", headers=ADMIN).json["data"] if key["id"] == made["id"]]

    assert keyed.get("/v1/jobs", headers=old).status_code == 200
    assert shown["expires_at"] is not None


def test_a_key_that_is_not_there_is_not_rotated(keyed, parts):
    assert admin(keyed, "POST", f"keys/{'a' * 64}/rotate", {}).status_code == 404


def test_usage_is_told_by_tenant_and_by_day(keyed, worker, valkey):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json={**BODY, "n": 2}, headers=mine)
    worker.draw_all()
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    day = admin(keyed, "GET", "tenants/shop/usage").json["days"][-2]["date"].replace("-", "")
    valkey.hset(f"{PREFIX}use:shop:{day}", "used", 5)

    usage = admin(keyed, "GET", "usage?days=2").json["data"]

    (shop,) = [one for one in usage if one["tenant"] == "shop"]
    assert [(one["used"], one["reserved"]) for one in shop["days"]] == [(5, 0), (2, 1)]
    assert (shop["used_today"], shop["used"]) == (2, 7)
    (listed,) = [one for one in admin(keyed, "GET", "tenants").json["data"] if one["name"] == "shop"]
    assert (listed["used_today"], listed["reserved_today"]) == (2, 1)
    assert len(admin(keyed, "GET", "tenants/shop/usage").json["days"]) == 30


def test_every_admin_route_and_form_is_in_the_document_with_an_example(keyed, parts):
    document = keyed.get("/openapi.json").json
    schemas = document["components"]["schemas"]
    for path, item in document["paths"].items():
        if not path.startswith("/v1/admin/"):
            continue
        for method, operation in item.items():
            forms = [body for body in [operation.get("requestBody"), operation["responses"].get("200")] if body]
            for form in forms:
                reference = form["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                if reference != "TenantUsage":
                    assert "example" in schemas[reference], (method, path, reference)
