"""A ban, and a mass cancel, reach a list that is still coming in."""

import pytest

import core.long_list
from api.admin import cancel_open
from core.redis_client import PREFIX
from tests.integration.api.test_batches import send

ADMIN = {"Authorization": "Bearer the-operators-own-key"}


class Interrupted:
    """The store's scripts; something happens after the first call of submit."""

    def __init__(self, scripts, then):
        self._scripts, self._then = scripts, [then]

    def run(self, name, *arguments):
        answer = self._scripts.run(name, *arguments)
        if name == "submit" and self._then:
            self._then.pop()()
        return answer

    def __getattr__(self, name):
        return getattr(self._scripts, name)


@pytest.fixture
def after_the_first_portion(parts, monkeypatch):
    def do(then):
        monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 2)
        monkeypatch.setattr(parts.jobs, "_scripts", Interrupted(parts.jobs._scripts, then))

    return do


def counts(valkey, tenant):
    return [
        {kind: int(value) for kind, value in valkey.hgetall(key).items()}
        for key in valkey.scan_iter(f"{PREFIX}use:{tenant}:*")
    ]


def test_a_mass_cancel_ends_a_list_that_comes_in(http, worker, parts, valkey, after_the_first_portion):
    after_the_first_portion(lambda: cancel_open(parts, "local"))

    answer = send(http)

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert {job["status"] for job in http.get("/v1/jobs").json["data"]} == {"canceled"}
    assert counts(valkey, "local") == [{"reserved": 0}]
    assert not worker.draw_all()


@pytest.mark.parametrize("cancels", [True, False])
def test_a_ban_ends_a_list_that_comes_in(keyed, parts, valkey, after_the_first_portion, cancels):
    key = keyed.post("/v1/keys", json={"tenant": "t1"}, headers=ADMIN).json["key"]
    ban = {"reason": "spam", "cancel_jobs": cancels}
    after_the_first_portion(lambda: keyed.post("/v1/admin/tenants/t1/ban", json=ban, headers=ADMIN).status_code)

    answer = send(keyed, headers={"Authorization": f"Bearer {key}"})

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")
    assert "spam" in answer.json["detail"]
    assert len(parts.jobs.list_jobs("t1", limit=100)) == 2
    assert counts(valkey, "t1") == [{"reserved": 0 if cancels else 2}]
    assert valkey.zcard(f"{PREFIX}holds") == 0


@pytest.mark.parametrize("how", ["revoked", "replaced", "expired"])
def test_a_list_ends_with_its_key(keyed, parts, worker, valkey, after_the_first_portion, how):
    made = keyed.post("/v1/keys", json={"tenant": "t1"}, headers=ADMIN).json
    close = {
        "revoked": lambda: parts.tenants.revoke_key(made["id"]),
        "replaced": lambda: parts.tenants.rotate_key(made["id"]),
        "expired": lambda: valkey.hset(f"{PREFIX}key:{made['id']}", "expires_ms", "1"),
    }[how]
    after_the_first_portion(close)
    headers = {"Authorization": f"Bearer {made['key']}", "Idempotency-Key": "upload-1"}

    answer = send(keyed, headers=headers)

    assert (answer.status_code, answer.json["code"]) == (401, "invalid_api_key")
    assert len(parts.jobs.list_jobs("t1", limit=100)) == 2
    valkey.zadd(f"{PREFIX}holds", dict.fromkeys(valkey.zrange(f"{PREFIX}holds", 0, -1), 1))
    parts.jobs.reap_holds()
    assert counts(valkey, "t1") == [{"reserved": 2}]


def test_another_key_of_the_tenant_stores_the_rest_of_a_list_whose_key_was_revoked(
    keyed, parts, worker, after_the_first_portion
):
    made, other = (keyed.post("/v1/keys", json={"tenant": "t1"}, headers=ADMIN).json for _ in range(2))
    after_the_first_portion(lambda: parts.tenants.revoke_key(made["id"]))
    send(keyed, headers={"Authorization": f"Bearer {made['key']}", "Idempotency-Key": "upload-1"})

    rest = send(keyed, headers={"Authorization": f"Bearer {other['key']}", "Idempotency-Key": "upload-1"})

    assert (rest.status_code, rest.json["request_counts"]["total"]) == (202, 6)
    assert len(worker.draw_all()) == 6


def test_the_operators_own_list_goes_on(keyed, parts, worker, after_the_first_portion):
    after_the_first_portion(lambda: None)

    assert send(keyed, headers=ADMIN).status_code == 202
