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
