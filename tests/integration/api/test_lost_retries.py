"""OpenAI's client sends a call again by itself: which call a retry joins, and which is one that never arrived."""

from dataclasses import replace

import pytest

BODY = {"prompt": "a red mug", "size": "256x256"}


def call(http, count, **more):
    answer = http.post("/v1/images/generations", json={**BODY, **more}, headers={"x-stainless-retry-count": str(count)})
    assert answer.status_code == 200, answer.text
    assert answer.data
    answer.close()
    return answer.headers["X-Zimg-Job-Id"]


@pytest.fixture
def drawing(worker):
    with worker.at_work():
        yield


def let_ten_seconds_pass(valkey):
    for name in valkey.scan_iter("*:answered"):
        for key, at in valkey.zrange(name, 0, -1, withscores=True):
            valkey.zadd(name, {key: at - 10_001})


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_retry_long_after_an_answer_is_of_a_call_that_never_arrived(http, valkey, drawing, more):
    first = call(http, 0, **more)
    let_ten_seconds_pass(valkey)

    assert call(http, 1, **more) != first


@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_retry_right_after_an_answer_joins_it_since_it_may_be_lost(http, drawing, more):
    first = call(http, 0, **more)

    assert call(http, 1, **more) == first
    assert call(http, 2, **more) == first


def test_each_lost_answer_is_joined_by_one_retry(http, drawing):
    made = {call(http, 0), call(http, 0)}

    taken = call(http, 1)
    other = call(http, 0)

    assert len(made) == 2
    assert taken in made
    assert other not in made


def test_a_stream_that_breaks_off_is_joined_however_long_it_ran(http, valkey, worker, parts):
    """Its call ends with the stream and not with its first byte."""
    answer = http.post(
        "/v1/images/generations",
        json={**BODY, "stream": True}, headers={"x-stainless-retry-count": "0"}, buffered=False,
    )  # fmt: skip
    next(iter(answer.response))
    let_ten_seconds_pass(valkey)
    answer.close()

    with worker.at_work():
        assert call(http, 1, stream=True) == answer.headers["X-Zimg-Job-Id"]


def test_what_is_kept_of_answers_ends_by_itself(http, valkey, drawing):
    call(http, 0)

    (kept,) = valkey.scan_iter("*:answered")
    assert 0 < valkey.ttl(kept) <= 10
    assert [*valkey.scan_iter("*:last")] == []


def hand_in(http, count):
    return http.post("/v1/jobs", json=BODY, headers={"x-stainless-retry-count": str(count)})


def allow(parts, **limits):
    local = parts.tenants.local()
    parts.tenants.save(replace(local, limits=replace(local.limits, **limits)))


def test_a_retry_of_a_refused_job_never_joins_one_that_was_answered(http, parts, worker):
    ids = {hand_in(http, 0).json["id"]}
    worker.draw_all()
    for used in (1, 2):  # two calls, each refused at first
        allow(parts, daily_units=used)
        assert hand_in(http, 0).status_code == 429
        allow(parts, daily_units=100)
        ids.add(hand_in(http, 1).json["id"])

    assert len(ids) == 3


def test_a_retry_of_a_job_whose_answer_may_be_lost_joins_it(http, worker):
    first = hand_in(http, 0)

    again = hand_in(http, 1)

    assert again.json["id"] == first.json["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_retry_long_after_the_answer_of_a_job_hands_in_another(http, valkey, worker):
    first = hand_in(http, 0).json["id"]
    let_ten_seconds_pass(valkey)

    assert hand_in(http, 1).json["id"] != first


def test_a_program_that_asks_twice_at_once_is_no_double_click(http, worker):
    assert hand_in(http, 0).json["id"] != hand_in(http, 0).json["id"]
