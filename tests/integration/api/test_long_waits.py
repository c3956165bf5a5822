"""Long waits are few: who gets no place is told so before anything is stored, and nobody takes all of them."""

import pytest

from api.waiting import LongWaits
from core.errors import Overloaded, TooManyStreams

CALLS = "/v1/images/generations"


@pytest.fixture
def full(parts):
    """Every place taken, by many."""
    places = [parts.long_waits.enter(f"other-{number}") for number in range(parts.settings.long_waits)]
    yield parts
    for leave in places:
        leave()


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_synchronous_call_without_a_place_stores_and_charges_nothing(http, worker, full, more):
    refused = http.post(CALLS, json={"prompt": "a red mug", "size": "256x256", **more})

    assert (refused.status_code, refused.json["code"]) == (503, "overloaded")
    assert full.jobs.list_jobs("local") == []
    assert http.get("/v1/usage").json["daily_reserved"] == 0


def test_a_preference_to_wait_without_a_place_is_answered_at_once_and_the_job_is_drawn(http, worker, full):
    answer = http.post("/v1/jobs", json={"prompt": "a red mug"}, headers={"Prefer": "wait=30, respond-async"})

    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "respond-async"
    assert answer.headers["Location"].endswith(answer.json["id"])


@pytest.mark.parametrize(
    ("path", "body"), [(CALLS, {"size": "oops"}), (CALLS, {}), ("/v1/jobs", {}), (CALLS, {"stream": True})]
)
def test_a_call_that_is_refused_gives_its_place_back(http, worker, parts, path, body):
    for _ in range(parts.settings.long_waits + 1):
        assert http.post(path, json=body, headers={"Prefer": "wait=30"}).status_code == 400


def test_a_tenant_that_streams_too_much_is_told_so_and_others_still_wait(http, worker, parts):
    job = http.post("/v1/jobs", json={"prompt": "a red mug"}).json["id"]
    places = take_all(parts.long_waits, "local")

    refused = http.get(f"/v1/jobs/{job}/events")
    drawn = http.post(CALLS, json={"prompt": "a red mug"})
    chinese = http.get(f"/v1/jobs/{job}?wait=5", headers={"Accept-Language": "zh"})
    parts.long_waits.enter("shop")()
    for leave in places:
        leave()

    assert {refused.status_code, drawn.status_code, chinese.status_code} == {429}
    assert (refused.json["code"], refused.headers["Retry-After"]) == ("too_many_streams", "5")
    assert "其余的留给他人" in chinese.json["detail"]
    assert len(parts.jobs.list_jobs("local")) == 1


def test_too_many_streams_are_not_told_to_wait_for_the_day_to_end(http, worker, parts):
    """A used up day refuses pictures; a place among the streams is free as soon as one ends."""
    parts.tenants.change("local", {"daily_units": 1})
    job = http.post("/v1/jobs", json={"prompt": "a red mug"}).json["id"]
    assert http.post("/v1/jobs", json={"prompt": "a cup"}).json["code"] == "quota_exceeded"
    places = take_all(parts.long_waits, "local")

    refused = http.get(f"/v1/jobs/{job}?wait=5")
    for leave in places:
        leave()

    assert (refused.json["code"], refused.headers["Retry-After"]) == ("too_many_streams", "5")


def take_all(waits, tenant):
    """Every place that the tenant is given."""
    taken = []
    while True:
        try:
            taken.append(waits.enter(tenant))
        except TooManyStreams:
            return taken


@pytest.mark.parametrize("most", [2, 3, 10, 240])
def test_a_tenant_leaves_places_for_others_however_many_there_are(most):
    waits = LongWaits(most)

    first = take_all(waits, "one")
    others = [waits.enter(f"other-{number}") for number in range(most - len(first))]

    assert max(1, most * 3 // 4) <= len(first) < most
    assert others
    with pytest.raises(Overloaded):
        waits.enter("the last one")


def test_a_single_place_is_for_whoever_comes_and_is_given_back_once():
    waits = LongWaits(1)
    leave = waits.enter("one")

    with pytest.raises(Overloaded):
        waits.enter("two")
    leave()
    leave()
    waits.enter("two")
    with pytest.raises(Overloaded):
        waits.enter("one")
