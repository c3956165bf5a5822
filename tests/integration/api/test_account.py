"""One's own account: usage, limits, the key, deleting everything; and signing up with an invite."""

from dataclasses import replace

import pytest

from api.app import create_app
from tests.integration.api.test_auth import ADMIN, BODY, make_key


@pytest.fixture
def inviting(parts):
    """An api where people sign up with invites."""
    settings = replace(parts.settings, host="0.0.0.0", admin_key="the-operators-own-key", sign_up="invite")
    return create_app(replace(parts, settings=settings)).test_client()


def invite(client, **body):
    answer = client.post("/v1/admin/invites", json=body, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    return answer.json


def test_an_account_shows_its_limits_and_thirty_days(keyed, worker):
    mine, made = make_key(keyed, label="till")
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    worker.draw_all()

    seen = keyed.get("/v1/account", headers=mine).json

    assert (seen["tenant"], seen["admin"], seen["used_today"], len(seen["days"])) == ("shop", False, 1, 30)
    assert seen["days"][-1]["used"] == 1
    assert seen["limits"]["queued_jobs"] > 0
    assert (seen["key"]["label"], seen["key"]["hint"]) == ("till", made["key"][-4:])
    assert made["key"] not in str(seen)


def test_the_account_of_this_machine_has_no_key(http, parts):
    assert http.get("/v1/account").json["key"] is None
    assert http.post("/v1/account/key/rotate", json={}).json["code"] == "conflict"


def test_the_operators_own_key_is_not_rotated_here(keyed, parts):
    assert keyed.post("/v1/account/key/rotate", json={}, headers=ADMIN).status_code == 409


def test_a_rotated_key_stops_at_once_and_the_pages_session_goes_on(keyed, worker):
    old, made = make_key(keyed)
    keyed.post("/v1/session", json={"key": made["key"]})
    before = keyed.get_cookie("zimg_session").value

    fresh = keyed.post("/v1/account/key/rotate", json={}).json

    assert keyed.get("/v1/jobs", headers=old).status_code == 401
    assert keyed.get("/v1/jobs", headers={"Authorization": f"Bearer {fresh['key']}"}).status_code == 200
    assert keyed.get_cookie("zimg_session").value != before
    assert keyed.get("/v1/jobs").status_code == 200
    keyed.set_cookie("zimg_session", before)
    assert keyed.get("/v1/jobs").status_code == 401


def test_my_data_is_deleted_and_nobody_elses(keyed, parts, worker):
    mine, _ = make_key(keyed)
    others, _ = make_key(keyed, "other")
    for headers in (mine, others):
        keyed.post("/v1/jobs", json={**BODY, "n": 3}, headers=headers)
    worker.draw_all()
    keyed.post("/v1/webhooks", json={"url": "https://93.184.216.34/hook"}, headers=mine)
    keyed.post("/v1/jobs", json=BODY, headers=mine)
    ids = [job["id"] for job in keyed.get("/v1/jobs", headers=mine).json["data"]]

    deleted = keyed.delete("/v1/account/data?confirm=shop", headers=mine).json

    assert deleted == {"removed": 4, "canceled": 1, "remaining": 0, "ending": 0}
    assert keyed.get("/v1/jobs", headers=mine).json["data"] == []
    assert keyed.get("/v1/webhooks", headers=mine).json["data"] == []
    assert {keyed.get(f"/i/{job_id}.png").status_code for job_id in ids} == {410}
    assert len(keyed.get("/v1/jobs", headers=others).json["data"]) == 3
    assert keyed.get("/v1/account", headers=mine).json["used_today"] == 3


def test_a_running_job_is_asked_to_stop_and_goes_with_the_next_call(keyed, worker):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json={**BODY, "n": 2}, headers=mine)
    first, second = worker.claim()
    worker.finish(first)

    running = keyed.delete("/v1/account/data?confirm=shop", headers=mine).json
    worker.fail(second, "canceled")
    after = keyed.delete("/v1/account/data?confirm=shop", headers=mine).json

    assert running == {"removed": 1, "canceled": 1, "remaining": 1, "ending": 1}
    assert after == {"removed": 1, "canceled": 0, "remaining": 0, "ending": 0}


@pytest.mark.parametrize("query", ["", "?confirm=other", "?confirm="])
def test_nothing_is_deleted_without_the_accounts_name(keyed, worker, query):
    mine, _ = make_key(keyed)
    keyed.post("/v1/jobs", json=BODY, headers=mine)

    answer = keyed.delete(f"/v1/account/data{query}", headers=mine)

    assert (answer.status_code, answer.json["field"]) == (400, "confirm")
    assert len(keyed.get("/v1/jobs", headers=mine).json["data"]) == 1


def test_an_invite_makes_an_account_once_per_use(inviting, worker):
    code = invite(inviting, uses=1, daily_units=5)["code"]

    made = inviting.post("/v1/sign-up", json={"code": code, "name": "ada"})
    again = inviting.post("/v1/sign-up", json={"code": code, "name": "bob"})

    assert (made.status_code, again.status_code) == (201, 403)
    headers = {"Authorization": f"Bearer {made.json['key']}"}
    seen = inviting.get("/v1/account", headers=headers).json
    assert (seen["tenant"], seen["limits"]["daily_units"], seen["admin"]) == ("ada", 5, False)
    assert made.json["key"] not in inviting.get("/v1/keys", headers=ADMIN).text
    (listed,) = inviting.get("/v1/admin/invites", headers=ADMIN).json["data"]
    assert (listed["left"], listed["uses"]) == (0, 1)
    assert code not in str(listed)


@pytest.mark.parametrize("name", ["", "A B", "../x", "admin", "local", "shop"])
def test_a_name_that_can_not_be_had_costs_no_use(inviting, worker, name):
    make_key(inviting)
    code = invite(inviting)["code"]

    answer = inviting.post("/v1/sign-up", json={"code": code, "name": name})

    assert (answer.status_code, answer.json["field"]) == (400, "name")
    assert inviting.get("/v1/admin/invites", headers=ADMIN).json["data"][0]["left"] == 1


def test_a_withdrawn_invite_makes_nothing(inviting, worker):
    made = invite(inviting)
    assert inviting.delete(f"/v1/admin/invites/{made['id']}", headers=ADMIN).status_code == 204

    assert inviting.post("/v1/sign-up", json={"code": made["code"], "name": "ada"}).status_code == 403
    assert inviting.delete(f"/v1/admin/invites/{made['id']}", headers=ADMIN).status_code == 404


def test_nobody_signs_up_where_the_operator_did_not_open_it(keyed, inviting, worker):
    code = invite(inviting)["code"]

    assert (keyed.get("/v1/sign-up").json["open"], inviting.get("/v1/sign-up").json["open"]) == (False, True)
    assert keyed.post("/v1/sign-up", json={"code": code, "name": "ada"}).status_code == 403


def test_another_sites_page_can_not_sign_anybody_up(inviting, worker):
    code = invite(inviting)["code"]

    answer = inviting.post(
        "/v1/sign-up", json={"code": code, "name": "ada"}, headers={"Origin": "https://evil.example"}
    )

    assert answer.status_code == 403
