"""Bodies that come in chunks, broken, compressed or too long, against the api as it runs."""

import contextlib
import gzip
import http.client
import json
import socket
from contextlib import closing

import pytest

from api.batches import FILE_BYTES_MOST
from api.objects import ProblemObject
from api.strict_json import JSON_BYTES_MOST
from tests.integration.api.conftest import eventually

JSON = "Content-Type: application/json"
FORM = "Content-Type: multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nsku,title\r\n'


def send(live, path, body, *headers):
    """Status, problem or job, and the raw answer's headers; the connection is ours alone."""
    head = "\r\n".join((f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers)) + "\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", live.port), timeout=60)) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def chunked(body):
    return (
        b"".join(
            b"%x\r\n%s\r\n" % (len(part), part)
            for part in (body[start : start + 16_384] for start in range(0, len(body), 16_384))
        )
        + b"0\r\n\r\n"
    )


def in_chunks(live, body):
    return send(live, "/v1/jobs", chunked(body), JSON, "Transfer-Encoding: chunked")


def logged(live):
    return "".join(path.read_text(errors="replace") for path in live.folder.rglob("*.log"))


def test_a_body_in_chunks_is_read_to_its_bound(live, worker):
    body = b'{"prompt":"a red mug"}'

    status, job = in_chunks(live, body + b" " * (JSON_BYTES_MOST - len(body)))

    assert (status, job["status"]) == (202, "queued")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"prompt": "a", "user": "x" * 300_000}).encode(),
        b'{"prompt":"x"}' + b" " * JSON_BYTES_MOST + b"garbage",
        b'{"prompt":"x"}'.ljust(JSON_BYTES_MOST + 1),
    ],
)
def test_a_body_in_chunks_beyond_the_bound_is_too_large_and_never_cut_off(live, worker, valkey, body):
    status, problem = in_chunks(live, body)

    assert (status, problem["code"]) == (413, "body_too_large")
    assert f"at most {JSON_BYTES_MOST} bytes" in problem["detail"]
    assert list(valkey.scan_iter("*:job:*")) == []


def test_a_list_in_chunks_beyond_the_bound_is_too_large(live, worker, valkey):
    body = PART + b"A,mug\r\n" * (FILE_BYTES_MOST // 7 + 1) + b"--b--\r\n"

    status, problem = send(live, "/v1/batches", chunked(body), FORM, "Transfer-Encoding: chunked")

    assert (status, problem["code"]) == (413, "body_too_large")
    assert list(valkey.scan_iter("*:sheet:*")) == []


@pytest.mark.parametrize("kept", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("/v1/jobs", JSON, (413, "body_too_large")),
        ("/v1/webhooks", JSON, (413, "body_too_large")),
        ("/v1/batches", JSON, (415, "unsupported_media_type")),
        ("/v1/images/edits", FORM, (404, "not_found")),
    ],
)
def test_who_first_sends_a_large_body_whole_reads_why_it_was_refused(live, path, kind, expected, kept):
    """As nginx does: were the rest not taken, it would find a broken pipe and tell of an api that is away."""
    length = f"Content-Length: {FILE_BYTES_MOST}"

    status, problem = send(live, path, b"x" * FILE_BYTES_MOST, kind, length, f"Connection: {kept}")

    assert (status, problem["code"]) == expected


def test_no_more_is_taken_of_a_refused_body_than_the_largest_that_is_allowed(live):
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: a\r\n{JSON}\r\nContent-Length: {2**40}\r\n\r\n"
    taken = 0
    with closing(socket.create_connection(("127.0.0.1", live.port), timeout=60)) as connection:
        connection.sendall(head.encode())
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while taken < 4 * FILE_BYTES_MOST:
                taken += connection.send(b"x" * 65_536)

    assert FILE_BYTES_MOST < taken < 4 * FILE_BYTES_MOST


@pytest.mark.parametrize("path", ["/v1/session", "/v1/sign-up", "/v1/jobs", "/v1/images/generations", "/v1/batches"])
@pytest.mark.parametrize(
    "broken",
    [
        b"ZZ\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"2;<script>\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX <script>: y\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: " + b"y" * 600_000 + b"\r\n\r\n",
        b"ff\r\n{",
    ],
)
def test_a_broken_chunk_is_a_bad_request_and_no_fault_of_ours(live, worker, path, broken):
    before = logged(live).count("unforeseen error")
    kind = FORM if path == "/v1/batches" else JSON

    status, problem = send(live, path, broken, kind, "Transfer-Encoding: chunked")

    assert (status, problem["code"]) == (400, "invalid_request")
    assert ProblemObject.model_validate(problem)
    assert "script" not in json.dumps(problem)
    assert eventually(lambda: problem["request_id"] in logged(live))
    assert logged(live).count("unforeseen error") == before


def test_what_follows_a_broken_chunk_is_never_read_as_a_request(live, worker, valkey):
    smuggled = b'{"prompt":"smuggled"}'
    second = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\n%b\r\nContent-Length: %d\r\n\r\n" % (JSON.encode(), len(smuggled))

    status, _ = send(live, "/v1/jobs", b"ZZ\r\n{}\r\n" + second + smuggled, JSON, "Transfer-Encoding: chunked")

    assert status == 400
    assert list(valkey.scan_iter("*:job:*")) == []


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/session", "/v1/batches"])
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_compressed_body_is_told_to_come_plain(live, worker, path, coding):
    body = gzip.compress(b'{"prompt":"a red mug"}')
    kind = FORM if path == "/v1/batches" else JSON

    status, problem = send(live, path, body, kind, f"Content-Encoding: {coding}", f"Content-Length: {len(body)}")

    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert "Content-Encoding" in problem["detail"]


def test_identity_is_no_compression(live, worker):
    body = b'{"prompt":"a red mug"}'

    status, _ = send(live, "/v1/jobs", body, JSON, "Content-Encoding: identity", f"Content-Length: {len(body)}")

    assert status == 202
