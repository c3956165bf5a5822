"""GET /v1/jobs page by page: nothing is lost, whatever is deleted meanwhile and however much stands between."""

import pytest


def submit(http, prompt):
    return http.post("/v1/jobs", json={"prompt": prompt, "size": "256x256"}).json["id"]


def test_the_history_goes_on_when_the_job_that_a_cursor_came_from_is_deleted(http, worker):
    made = [submit(http, f"mug {number}") for number in range(6)]
    worker.draw_all()
    first = http.get("/v1/jobs?limit=3").json
    assert http.delete(f"/v1/jobs/{first['data'][-1]['id']}").status_code == 204

    second = http.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").json

    assert [job["id"] for job in second["data"]] == made[2::-1]
    assert (second["has_more"], second["next_cursor"]) == (False, None)


@pytest.mark.parametrize("cursor", ["0" * 32, "abc", "7-7", "1e3-" + "0" * 32])
def test_a_nonsense_cursor_is_refused_by_name(http, parts, cursor):
    answer = http.get(f"/v1/jobs?cursor={cursor}")

    assert (answer.status_code, answer.json["field"]) == (400, "cursor")


def test_the_cursor_of_a_release_before_goes_on_too(http, worker):
    made = [submit(http, f"mug {number}") for number in range(3)]

    assert [job["id"] for job in http.get(f"/v1/jobs?cursor={made[1]}").json["data"]] == [made[0]]


def test_what_stands_behind_a_long_list_is_found_by_status_page_by_page(http, worker, monkeypatch):
    monkeypatch.setattr("core.job_pages.SCANNED_MOST", 4)
    monkeypatch.setattr("core.job_pages.READ_AT_ONCE", 2)
    own = submit(http, "my own mug")
    worker.draw_all()
    for number in range(10):
        submit(http, f"row {number}")

    found, cursor, pages = [], "", 0
    while cursor is not None and pages < 10:
        page = http.get("/v1/jobs?status=succeeded&limit=5" + (f"&cursor={cursor}" if cursor else "")).json
        found, cursor, pages = found + [job["id"] for job in page["data"]], page["next_cursor"], pages + 1
        assert page["has_more"] is (cursor is not None)

    assert (found, pages) == ([own], 3)


def test_a_page_of_one_status_is_filled_past_those_of_another_that_is_stored_alike(http, worker, valkey):
    made = [submit(http, f"mug {number}") for number in range(6)]
    worker.draw_all()
    for job_id in made[1::2]:
        valkey.hset(f"{{zimg}}:job:{job_id}", "picture_removed", "1")

    expired, there = (http.get(f"/v1/jobs?status={status}&limit=3").json for status in ("expired", "succeeded"))

    assert [job["id"] for job in expired["data"]] == made[5::-2]
    assert [job["id"] for job in there["data"]] == made[4::-2]
    assert [expired["has_more"], there["has_more"]] == [False, False]
