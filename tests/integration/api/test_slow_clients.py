"""Clients that dawdle, against the api as it runs, without nginx in front: the others are served all the same."""

import http.client
import json
import socket
import time
from contextlib import ExitStack

import httpx
import pytest

from api.objects import ProblemObject
from core.settings import Settings
from tests.integration.api.conftest import eventually, live_api

SLOW = 50
THREADS = 16
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\n"
BODY = HEAD + b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"
REFUSED = HEAD + b"Content-Type: application/json\r\nContent-Length: 9000000\r\n\r\n{"
KINDS = {
    "idle": b"",
    "head": HEAD,
    "body": BODY,
    "chunked": CHUNKED,
    "refused": REFUSED,
    "answer": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.fixture(scope="module")
def small(valkey_server, storage_environment, tmp_path_factory):
    """An api with far fewer threads than there are slow clients, and little patience."""
    settings = Settings(redis_url=valkey_server.url, s3_endpoint_url=storage_environment["S3_ENDPOINT_URL"])
    more = {"ZIMG_API_THREADS": str(THREADS), "ZIMG_LONG_WAITS": "4", "ZIMG_REQUEST_SECONDS": "0.3"}
    with live_api(settings, tmp_path_factory.mktemp("small"), **more) as api:
        yield api


@pytest.fixture
def slowly():
    """Opens a connection, sends what is given, and then nothing more."""
    with ExitStack() as stack:

        def open_one(port, sent):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            connection.sendall(sent)
            return connection

        yield open_one


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_slow_clients_keep_nobody_from_being_served(live, slowly, worker, kind):
    for _ in range(SLOW):
        slowly(live.port, KINDS[kind])

    for _ in range(5):
        assert httpx.get(f"{live.url}/healthz", timeout=10).status_code == 200
    assert httpx.post(f"{live.url}/v1/jobs", json={"prompt": "a"}, timeout=10).status_code == 202


def test_who_was_answered_and_does_not_hang_up_keeps_nobody_waiting(small, slowly):
    for _ in range(3 * THREADS):
        slowly(small.port, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert httpx.get(f"{small.url}/healthz", timeout=10).status_code == 200


@pytest.mark.parametrize("kind", ["head", "body", "chunked", "refused"])
def test_three_times_as_many_slow_clients_as_threads_keep_nobody_out(small, slowly, worker, kind):
    for _ in range(3 * THREADS):
        slowly(small.port, KINDS[kind])

    assert httpx.get(f"{small.url}/healthz", timeout=10).status_code == 200
    assert httpx.post(f"{small.url}/v1/jobs", json={"prompt": "a"}, timeout=10).status_code == 202


@pytest.mark.parametrize("kind", ["head", "body", "chunked"])
def test_a_request_that_never_becomes_whole_is_given_up(small, slowly, worker, kind):
    connection = slowly(small.port, KINDS[kind])

    assert not connection.recv(100).startswith(b"HTTP/1.1 2")


def test_who_was_refused_and_does_not_send_the_rest_of_a_large_body_is_given_up(small, slowly, worker):
    connection = slowly(small.port, REFUSED)

    assert refusal(connection)[0] == 413
    assert connection.recv(1) == b""


def test_a_request_that_drips_in_byte_by_byte_is_given_up_too(small, slowly, worker):
    connection = slowly(small.port, HEAD)
    connection.setblocking(False)
    deadline = time.monotonic() + 20

    def is_closed():
        try:
            connection.send(b"X")
            return connection.recv(1) is not None
        except BlockingIOError:
            return False
        except OSError:
            return True

    assert eventually(is_closed, seconds=deadline - time.monotonic())


def test_a_slow_but_whole_request_is_served(small, slowly, worker):
    body = b'{"prompt": "a red mug"}'
    connection = slowly(small.port, HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body))
    for part in (b"\r\n", body[:5], body[5:]):
        connection.sendall(part)

    assert connection.recv(100).startswith(b"HTTP/1.1 202")


def test_a_synchronous_picture_that_takes_longer_than_a_request_may_is_not_given_up(small, worker):
    """The deadline ends with the body, not with the answer."""
    job = httpx.post(
        f"{small.url}/v1/jobs", json={"prompt": "a slow mug"}, headers={"Prefer": "wait=2"}, timeout=30
    )  # nobody draws

    assert (job.status_code, job.headers["Preference-Applied"]) == (202, "wait=2")


def test_a_kept_alive_connection_is_used_again_after_a_body(small, worker):
    with httpx.Client(timeout=20) as client:
        for number in range(3):
            assert client.post(f"{small.url}/v1/jobs", json={"prompt": f"mug {number}"}).status_code == 202
            assert client.post(f"{small.url}/v1/jobs", content=b"{not json").status_code in (400, 415)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: a\r\n" % number for number in range(100)) + b"\r\n",
    ],
)
def test_a_head_has_bounds_and_is_told_them(live, slowly, parts, head):
    status, _, problem = refusal(slowly(live.port, head))

    assert (status, problem["code"]) == (431, "head_too_large")
    assert "8190 bytes" in problem["detail"]
    assert "64 headers" in problem["detail"]
    assert "aaaa" not in str(problem)


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE<script>\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: <script>\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: <script>\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: <script>\r\n\r\n",
    ],
)
def test_what_is_no_request_is_a_problem_that_repeats_nothing(live, slowly, parts, sent):
    status, headers, problem = refusal(slowly(live.port, sent))

    assert (status, problem["status"], problem["code"]) == (400, 400, "invalid_request")
    assert ProblemObject.model_validate(problem)
    assert headers["X-Request-Id"] == problem["request_id"]
    assert "script" not in str(problem)


def refusal(connection):
    """Status, headers and problem of an answer that ends the connection."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status, answer.headers, json.loads(answer.read())
