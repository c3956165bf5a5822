"""The check of a delivery's signature, against the library of those who wrote the specification."""

import http.client
import json
import time
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks import Webhook

from client.webhooks import BODY_BYTES_MOST, Receiver, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = json.dumps({"type": "job.succeeded", "data": {"id": "j", "prompt": "霓虹灯"}}).encode()


def signed(body=BODY, *, secret=SECRET, at=None):
    """Headers as the specification's own library signs them."""
    moment = datetime.fromtimestamp(at or time.time(), UTC)
    signature = Webhook(secret).sign("evt_1", moment, body.decode())
    return {
        "webhook-id": "evt_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature
    }  # fmt: skip


def test_what_the_librarys_own_signer_signs_is_verified():
    assert verify(SECRET, signed(), BODY, now=time.time()) == ""


def test_during_a_rotation_either_signature_will_do():
    headers = signed()
    headers["webhook-signature"] = f"v1,AAAA v1a,ignored {headers['webhook-signature']}"

    assert verify(SECRET, headers, BODY, now=time.time()) == ""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"webhook-signature": "v1,"}, "signature"),
        ({"webhook-signature": ""}, "signature"),
        ({"webhook-signature": "v1,ü"}, "signature"),
        ({"webhook-id": "evt_2"}, "signature"),
        ({"webhook-id": ""}, "webhook-id"),
        ({"webhook-timestamp": "soon"}, "webhook-timestamp"),
        ({"webhook-timestamp": "³"}, "webhook-timestamp"),
    ],
)
def test_whatever_is_changed_is_refused_with_the_reason(change, problem):
    assert problem in verify(SECRET, signed() | change, BODY, now=time.time())


def test_another_body_another_secret_and_an_old_recording_are_refused():
    now = time.time()

    assert "signature" in verify(SECRET, signed(), BODY + b" ", now=now)
    assert "signature" in verify("whsec_AAAA", signed(), BODY, now=now)
    assert "secret" in verify("whsec_!", signed(), BODY, now=now)
    assert "five minutes" in verify(SECRET, signed(at=now - 301), BODY, now=now)
    assert "five minutes" in verify(SECRET, signed(at=now + 301), BODY, now=now)


@pytest.fixture
def receiver():
    """The address of a running receiver, and what it saw."""
    seen = []
    made = Receiver(seen.append, secret=SECRET, clock=time.time)
    yield f"http://127.0.0.1:{made.start()}/", seen
    made.close()


def test_a_verified_delivery_is_204_and_another_401(receiver):
    url, seen = receiver
    good = httpx.post(url, content=BODY, headers=signed())
    bad = httpx.post(url, content=BODY + b" ", headers=signed())

    assert (good.status_code, bad.status_code) == (204, 401)
    assert [one.problem == "" for one in seen] == [True, False]


def test_a_body_without_end_is_not_read(receiver):
    def endless():
        yield b"x"

    url, seen = receiver

    assert httpx.post(url, content=endless()).status_code == 413
    connection = http.client.HTTPConnection("127.0.0.1", httpx.URL(url).port, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(BODY_BYTES_MOST + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert seen == []
