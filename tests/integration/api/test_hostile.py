"""One address that floods or tries keys, and what everybody else notices of it: nothing."""

import socket
import time
from contextlib import ExitStack

import httpx
import pytest

from api.failed_keys import FAILURES_A_MINUTE
from tests.integration.api.conftest import live_api
from tests.integration.api.test_auth import make_key

HOSTILE, POLITE = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def exposed(settings, parts, tmp_path):
    """An api without a proxy, with tight limits for each address."""
    tight = {"ZIMG_ADDRESS_PER_SECOND": "5", "ZIMG_ADDRESS_BURST": "3", "ZIMG_ADDRESS_CONNECTIONS": "4"}
    with live_api(settings, tmp_path, ZIMG_HOST="0.0.0.0", ZIMG_ADMIN_KEY="k", **tight) as api:
        yield api


def client(api, address):
    return httpx.Client(base_url=api.url, timeout=20, transport=httpx.HTTPTransport(local_address=address))


def test_a_flood_is_slowed_to_the_rate_and_every_request_is_answered(exposed):
    with client(exposed, HOSTILE) as hostile:
        begun = time.monotonic()
        statuses = [hostile.get("/healthz").status_code for _ in range(9)]
        taken = time.monotonic() - begun

    assert statuses == [200] * 9
    assert taken >= (9 - 3 - 1) / 5 * 0.9  # never faster than the rate


def test_silent_connections_take_no_thread_and_too_many_are_closed(exposed):
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", exposed.port), 5, (HOSTILE, 0)))
        fifth = stack.enter_context(socket.create_connection(("127.0.0.1", exposed.port), 5, (HOSTILE, 0)))
        fifth.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with client(exposed, POLITE) as polite:
            assert polite.get("/healthz").status_code == 200
        fifth.settimeout(15)
        try:
            closed = fifth.recv(1)
        except ConnectionResetError:
            closed = b""
    with client(exposed, HOSTILE) as again:  # those that were closed are given back
        assert again.get("/healthz").status_code == 200

    assert closed == b""


def test_who_tries_keys_is_refused_before_the_lookup_and_a_good_key_is_not(keyed, worker):
    mine, _ = make_key(keyed)
    assert keyed.get("/v1/jobs", headers=mine).status_code == 200
    guesses = [keyed.get("/v1/jobs", headers={"Authorization": f"Bearer zimg_{number}"}) for number in range(35)]
    statuses = [answer.status_code for answer in guesses]

    assert statuses == [401] * FAILURES_A_MINUTE + [429] * 5
    assert int(guesses[-1].headers["Retry-After"]) >= 1
    assert keyed.get("/v1/jobs", headers=mine).status_code == 200
    elsewhere = {"Authorization": "Bearer zimg_x", "X-Forwarded-For": "203.0.113.9"}
    assert keyed.get("/v1/jobs", headers=elsewhere).status_code == 401


def test_what_a_stranger_writes_into_a_header_does_not_make_it_somebody_else(keyed, worker):
    statuses = {
        keyed.get(
            "/v1/jobs",
            headers={"Authorization": "Bearer zimg_x", "X-Forwarded-For": f"203.0.113.{number}"},
            environ_overrides={"REMOTE_ADDR": "192.0.2.1"},
        ).status_code
        for number in range(35)
    }

    assert 429 in statuses
