"""A call that waits for a picture is told so when its key is closed or its account banned meanwhile: it gets none."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.api.conftest import eventually
from tests.integration.api.test_auth import BODY, make_key

SYNCHRONOUS, JOBS = "/v1/images/generations", "/v1/jobs"


def ask(client, headers, call):
    """One of the calls that wait, to its end: status and text."""
    if call == "poll":
        (job,) = client.get(JOBS, headers=headers).json["data"]
        answer = client.get(f"{JOBS}/{job['id']}?wait=9", headers=headers)
    elif call == "prefer":
        answer = client.post(JOBS, json=BODY, headers={**headers, "Prefer": "wait=9"})
    else:
        answer = client.post(SYNCHRONOUS, json={**BODY, "stream": call == "stream"}, headers=headers)
    return answer.status_code, answer.text


@pytest.fixture
def waiting(keyed, parts, worker):
    """Begins a call of `shop` in another thread; once its job is with a worker: (answer, lease, key's id)."""
    with ThreadPoolExecutor(1) as pool:

        def begin(call):
            headers, made = make_key(keyed)
            if call == "poll":
                keyed.post(JOBS, json=BODY, headers=headers)
            answer = pool.submit(ask, keyed.application.test_client(), headers, call)
            assert eventually(lambda: parts.jobs.depth().waiting["interactive"] and parts.long_waits.held("shop"))
            (lease,) = worker.claim()
            return answer, lease, made["id"]

        yield begin


def close(parts, how, key_id):
    if how == "revoked":
        parts.tenants.revoke_key(key_id)
    else:
        parts.tenants.ban("shop", "no more")


CLOSED = [("revoked", 401, "invalid_api_key"), ("banned", 403, "no more")]
CALLS = ["synchronous", "prefer", "poll"]


@pytest.mark.parametrize(("how", "status", "words"), CLOSED)
@pytest.mark.parametrize("call", CALLS)
def test_a_picture_that_is_finished_after_the_key_was_closed_is_not_given_out(
    parts, worker, waiting, call, how, status, words
):
    answer, lease, key_id = waiting(call)

    close(parts, how, key_id)
    worker.finish(lease)

    told, text = answer.result(60)
    assert (told, words in text) == (status, True)
    assert "/i/" not in text


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_key_ends_the_wait_though_the_job_goes_on(parts, waiting, call, monkeypatch):
    monkeypatch.setattr("api.waiting.KEY_SECONDS", 0.0)
    monkeypatch.setattr("api.waiting.LOOK_AGAIN_SECONDS", 0.05)
    answer, lease, key_id = waiting(call)

    parts.tenants.revoke_key(key_id)

    assert answer.result(20)[0] == 401
    assert not parts.jobs.get(lease.job_id).state.is_terminal


@pytest.mark.parametrize(("how", "status", "words"), CLOSED)
def test_a_stream_of_pictures_ends_with_the_error_where_its_key_is_closed(parts, worker, waiting, how, status, words):
    answer, lease, key_id = waiting("stream")

    close(parts, how, key_id)
    worker.finish(lease)

    _, text = answer.result(60)
    assert "event: error" in text
    assert words in text
    assert "b64_json" not in text


@pytest.mark.parametrize("call", [*CALLS, "stream"])
def test_an_open_key_gets_its_picture(worker, waiting, call, monkeypatch):
    monkeypatch.setattr("api.waiting.KEY_SECONDS", 0.0)
    answer, lease, _ = waiting(call)

    worker.finish(lease)

    status, text = answer.result(60)
    assert (status, lease.job_id in text) == (200, True)
