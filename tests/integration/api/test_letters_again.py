# ruff: noqa: F811 - a fixture of another file
"""Dead letters tried again: what is refused stops no other, and the new job is checked as any other is."""

import pytest

from core.redis_client import PREFIX
from tests.integration.api.conftest import use_up
from tests.integration.api.test_admin import admin
from tests.integration.api.test_admin_service import letters  # noqa: F401 - the fixture
from tests.integration.api.test_auth import ADMIN, BODY, make_key
from tests.integration.api.test_batches import redis_gone_after


def again(keyed, **body):
    answer = admin(keyed, "POST", "dead-letters/requeue", body)
    assert answer.status_code == 200, answer.text
    return answer.json


def outcomes(told):
    return [(one["letter"], one["refused"]) for one in told["data"]]


def test_a_banned_tenants_letters_are_refused_and_the_others_are_tried(keyed, letters, worker):
    admin(keyed, "POST", "tenants/other/ban", {"reason": "spam"})

    told = again(keyed, all=True)

    assert outcomes(told) == [(letters["c"], "forbidden"), (letters["b"], None), (letters["a"], None)]
    assert told["next_cursor"] is None
    assert len(worker.draw_all()) == 2


def test_refused_letters_use_up_no_limit(keyed, letters, parts, worker):
    use_up(parts, "other")

    first, second, third = (again(keyed, all=True, limit=1) for _ in range(3))

    assert outcomes(first) == [(letters["c"], "quota_exceeded"), (letters["b"], None)]
    assert outcomes(second) == [(letters["c"], "quota_exceeded"), (letters["a"], None)]
    assert outcomes(third) == [(letters["c"], "quota_exceeded")]
    assert first["next_cursor"]
    assert (second["next_cursor"], third["next_cursor"]) == (None, None)


def test_the_cursor_passes_over_what_was_refused(keyed, letters, parts, worker, monkeypatch):
    monkeypatch.setattr("scheduler.dead_letters.LOOKED_AT_MOST", 1)
    use_up(parts, "other")

    first = again(keyed, all=True)
    second = again(keyed, all=True, cursor=first["next_cursor"])
    third = again(keyed, all=True, cursor=second["next_cursor"])

    assert outcomes(first) == [(letters["c"], "quota_exceeded")]
    assert (outcomes(second), bool(second["next_cursor"])) == ([(letters["b"], None)], True)
    assert (outcomes(third), third["next_cursor"]) == ([(letters["a"], None)], None)


def test_what_was_tried_is_told_where_redis_goes_away_in_between(keyed, letters, parts):
    with redis_gone_after(parts, 1):
        told = again(keyed, all=True)

    assert outcomes(told) == [(letters["c"], None), (letters["b"], "redis_unavailable")]
    after = again(keyed, all=True, cursor=told["next_cursor"])
    assert outcomes(after) == [(letters["b"], None), (letters["a"], None)]


def test_a_letter_whose_picture_is_not_in_the_storage_is_drawn(keyed, parts, worker):
    mine, _ = make_key(keyed)
    body = {**BODY, "seed": 7}
    dead = keyed.post("/v1/jobs", json=body, headers=mine).json
    worker.fail(worker.claim()[0], "poison")
    drawn = keyed.post("/v1/jobs", json={**body, "metadata": {"x": "y"}}, headers=mine).json
    worker.draw_all()
    parts.images.delete(parts.jobs.get(drawn["id"]).picture.key)

    new = admin(keyed, "POST", f"dead-letters/{dead['id']}/requeue").json["job_id"]

    assert keyed.get(f"/v1/jobs/{new}", headers=mine).json["status"] == "queued"
    assert list(worker.draw_all()) == [new]
    assert keyed.get(f"/i/{new}.png").status_code == 200


def used_by_keys(parts):
    return [parts.redis.hgetall(name) for name in parts.redis.scan_iter(f"{PREFIX}use:shop/*")]


@pytest.mark.parametrize("rotated", [False, True])
def test_a_letter_tried_again_counts_for_the_key_that_asked_first(keyed, parts, worker, rotated):
    made = keyed.post("/v1/keys", json={"tenant": "shop", "daily_units": 1}, headers=ADMIN).json
    mine = {"Authorization": f"Bearer {made['key']}"}
    dead = keyed.post("/v1/jobs", json=BODY, headers=mine).json
    worker.fail(worker.claim()[0], "poison")
    if rotated:
        parts.tenants.rotate_key(made["id"])

    done = admin(keyed, "POST", f"dead-letters/{dead['id']}/requeue")
    worker.draw_all()

    assert done.status_code == 201
    assert used_by_keys(parts) == [{"reserved": "0", "used": "1"}]


def test_a_key_that_has_used_its_day_gets_no_letter_tried_again(keyed, parts, worker):
    made = keyed.post("/v1/keys", json={"tenant": "shop", "daily_units": 1}, headers=ADMIN).json
    mine = {"Authorization": f"Bearer {made['key']}"}
    dead = keyed.post("/v1/jobs", json=BODY, headers=mine).json
    worker.fail(worker.claim()[0], "poison")
    keyed.post("/v1/jobs", json={**BODY, "prompt": "b"}, headers=mine)

    told = again(keyed, all=True)

    assert outcomes(told) == [(dead["id"], "quota_exceeded")]


def test_the_letter_of_a_key_that_has_no_limits_any_more_counts_for_its_tenant_alone(keyed, parts, worker):
    made = keyed.post("/v1/keys", json={"tenant": "shop", "daily_units": 1}, headers=ADMIN).json
    mine = {"Authorization": f"Bearer {made['key']}"}
    dead = keyed.post("/v1/jobs", json=BODY, headers=mine).json
    worker.fail(worker.claim()[0], "poison")
    for name in parts.redis.scan_iter(f"{PREFIX}key:*"):
        parts.redis.hset(name, "daily_units", "-1")

    admin(keyed, "POST", f"dead-letters/{dead['id']}/requeue")
    worker.draw_all()

    assert used_by_keys(parts) == [{"reserved": "0"}]
