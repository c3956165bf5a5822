"""Request headers that say under which condition: weak tags, ranges, the last event."""

import time

import pytest

from api.events import known_id


@pytest.fixture
def drawn(http, worker):
    """A job that has ended, and its PNG."""
    job = http.post("/v1/jobs", json={"prompt": "a red mug", "size": "256x256"}).json["id"]
    worker.draw_all()
    return job, http.get(f"/i/{job}.png").data


@pytest.mark.parametrize("weak", ["", "W/"])
def test_a_long_poll_with_a_tag_of_either_kind_waits_as_long_as_nothing_changes(http, worker, weak):
    job = http.post("/v1/jobs", json={"prompt": "a red mug"}).json["id"]
    tag = http.get(f"/v1/jobs/{job}").headers["ETag"]
    begun = time.monotonic()

    answer = http.get(f"/v1/jobs/{job}?wait=1", headers={"If-None-Match": f"{weak}{tag}"})

    assert answer.status_code == 304
    assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("empty", ["", '""', '"'])
def test_an_idempotency_key_that_says_nothing_is_none(http, worker, empty):
    """Two wishes under it are two."""
    answers = [
        http.post("/v1/jobs", json={"prompt": prompt}, headers={"Idempotency-Key": empty}) for prompt in ("a", "b")
    ]

    assert [one.status_code for one in answers] == [202, 202]
    assert len({one.json["id"] for one in answers}) == 2


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_picture_under_a_weak_tag_is_not_read_again(http, drawn, parts, suffix):
    path = f"/i/{drawn[0]}.{suffix}"
    tag = http.get(path).headers["ETag"]
    parts.images.delete(parts.jobs.get(drawn[0]).picture.key)

    assert http.get(path, headers={"If-None-Match": f"W/{tag}"}).status_code == 304


@pytest.mark.parametrize("wanted", ["items=0-5", "bytes=0-0,5-9", "bytes=9-5", "bytes", "bytes=a-b", "=0-5"])
def test_a_range_that_is_not_one_of_bytes_gives_the_whole(http, drawn, wanted):
    job, png = drawn

    answer = http.get(f"/i/{job}.png", headers={"Range": wanted})

    assert (answer.status_code, answer.data) == (200, png)
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(("wanted", "status"), [("bytes=0-0", 206), ("bytes=-5", 206), ("bytes=99999999-", 416)])
def test_one_range_of_bytes_is_a_part_or_can_not_be(http, drawn, wanted, status):
    assert http.get(f"/i/{drawn[0]}.png", headers={"Range": wanted}).status_code == status


@pytest.mark.parametrize(
    "last", ["99999999999999999999-0", "1-99999999999999999999", "18446744073709551616-0", "9" * 19 + "-0", "٣-٣"]
)
def test_a_last_event_that_can_be_none_of_ours_begins_at_the_first(http, drawn, last):
    headers = {"Last-Event-ID": last.encode().decode("latin-1")}

    answer = http.get(f"/v1/jobs/{drawn[0]}/events", headers=headers)

    assert answer.status_code == 200
    assert answer.text.count("event: status") == 3
    assert known_id(last) == ""


def test_a_running_job_is_told_to_who_names_an_event_of_the_future(http, worker):
    job = http.post("/v1/jobs", json={"prompt": "a red mug", "size": "256x256"}).json["id"]

    answer = http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "99999999999999999999-0"}, buffered=False)
    frames = iter(answer.response)

    assert next(frames) == b": open\n\n"
    assert b"event: status" in next(frames)
    answer.close()
