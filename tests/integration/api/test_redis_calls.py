"""How often an answer waits for Redis: each call costs the api more than Redis, and a thread's turn."""

import pytest
import redis

BODY = {"prompt": "a red mug", "size": "512x512"}


@pytest.fixture
def calls(monkeypatch) -> list[bytes]:
    """What was sent to Redis since it was cleared, one for each call."""
    sent: list[bytes] = []
    send = redis.Connection.send_packed_command

    def count(self, command, check_health=True):
        sent.append(command)
        return send(self, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", count)
    return sent


@pytest.fixture
def warm(keyed, parts, worker):
    """A client with a key; connections are open and the scripts loaded."""
    key, _ = parts.tenants.create_key("shop")
    keyed.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    job_id = keyed.post("/v1/jobs", json=BODY | {"prompt": "warm"}).json["id"]
    keyed.get(f"/v1/jobs/{job_id}")
    return keyed


def test_a_new_job_costs_one_call_for_the_key_and_one_for_everything_else(warm, calls):
    calls.clear()

    answer = warm.post("/v1/jobs", json=BODY)

    assert (answer.status_code, len(calls)) == (202, 2)
    assert answer.json["queue_position"] == 2
    assert "RateLimit" in answer.headers


def test_several_pictures_cost_no_call_more_than_one(warm, calls):
    calls.clear()

    answer = warm.post("/v1/jobs", json=BODY | {"n": 5})

    assert ([one["queue_position"] for one in answer.json["data"]], len(calls)) == ([2, 3, 4, 5, 6], 2)


def test_a_look_at_a_job_costs_one_call_for_the_key_and_one_for_everything_else(warm, calls):
    job_id = warm.post("/v1/jobs", json=BODY).json["id"]
    calls.clear()

    answer = warm.get(f"/v1/jobs/{job_id}")

    assert (answer.json["queue_position"], "RateLimit" in answer.headers, len(calls)) == (2, True, 2)


def test_a_list_asks_for_the_places_of_all_its_jobs_at_once(warm, calls):
    warm.post("/v1/jobs", json=BODY | {"n": 10})
    calls.clear()

    answer = warm.get("/v1/jobs")

    assert sorted(one["queue_position"] for one in answer.json["data"]) == list(range(1, 12))
    assert len(calls) == 5  # key, ids, records, places, limits
