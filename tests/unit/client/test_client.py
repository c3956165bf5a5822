"""The small Python client against a server that answers as it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import client as client_module
from client.client import Job, Zimg, ZimgProblem

JOB = {"id": "a" * 32, "object": "job", "status": "queued", "prompt": "a", "seed": 7, "images": [], "error": None}
DONE = {
    **JOB,
    "status": "succeeded",
    "progress": {"value": 1.0, "step": 4, "steps": 4, "stage": "done"},
    "images": [{"url": "u", "sha256": "s", "width": 8, "height": 8, "bytes": 9, "expires_at": None}],
}


@pytest.fixture
def server(monkeypatch):
    """A server that gives the next of `answers` (status, headers, body) to each request, and keeps the requests."""
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_SECONDS", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            made.requests.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
            status, headers, body = made.answers.pop(0)
            data = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the server's own names

        def log_message(self, *_):
            """Says nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.requests, made.answers = [], []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def zimg(server):
    with Zimg(f"http://127.0.0.1:{server.server_port}", key="k") as made:
        yield made


def test_a_submit_is_repeated_under_the_same_key_while_the_service_is_away(server, zimg):
    server.answers = [(503, {"Retry-After": "1"}, {"code": "overloaded"}), (502, {}, None), (202, {}, JOB)]

    (job,) = zimg.submit("a", seed=7)

    keys = {headers["Idempotency-Key"] for _, _, headers, _ in server.requests}
    assert job.id == "a" * 32
    assert len(server.requests) == 3
    assert len(keys) == 1


def test_a_limit_that_passes_soon_is_waited_for_and_a_used_up_day_is_told_at_once(server, zimg):
    server.answers = [(429, {"Retry-After": "1"}, {"code": "rate_limit_exceeded"}), (202, {}, JOB)]
    assert zimg.submit("a")[0].id == JOB["id"]

    server.answers = [(429, {"Retry-After": "7200"}, {"code": "quota_exceeded", "detail": "used up"})]
    with pytest.raises(ZimgProblem, match="used up"):
        zimg.submit("a")


def test_what_may_not_be_sent_twice_is_sent_once(server, zimg):
    server.answers = [(503, {}, {"code": "redis_unavailable", "detail": "away"})]

    with pytest.raises(ZimgProblem, match="away"):
        zimg.create_key("shop")

    assert len(server.requests) == 1


def test_a_refusal_carries_code_field_and_every_wrong_member(server, zimg):
    wrong = {
        "code": "invalid_size",
        "field": "size",
        "detail": "no",
        "errors": [{"pointer": "/size"}],
        "request_id": "r",
    }
    server.answers = [(400, {}, wrong)]

    with pytest.raises(ZimgProblem) as refused:
        zimg.submit("a", size="1x1")

    assert (refused.value.status, refused.value.code, refused.value.field) == (400, "invalid_size", "size")
    assert refused.value.errors == [{"pointer": "/size"}]
    assert refused.value.request_id == "r"


def test_following_asks_with_the_last_tag_and_skips_what_looks_the_same(server, zimg):
    server.answers = [(200, {"ETag": '"1"'}, JOB), (304, {}, None), (200, {"ETag": '"2"'}, DONE)]

    seen = list(zimg.follow("a" * 32))

    assert [job.status for job in seen] == ["queued", "succeeded"]
    assert server.requests[1][2]["If-None-Match"] == '"1"'
    assert "wait=20" in server.requests[1][1]


def test_a_list_goes_on_by_cursor_until_it_has_enough(server, zimg):
    page = {"object": "list", "data": [JOB, JOB], "next_cursor": "c"}
    server.answers = [(200, {}, page), (200, {}, {**page, "next_cursor": None})]

    assert len(zimg.jobs(limit=10)) == 4
    assert "cursor=c" in server.requests[1][1]


def test_a_job_without_a_picture_can_not_be_downloaded(zimg):
    with pytest.raises(ValueError, match="no picture"):
        zimg.download(Job.of(JOB))


def test_a_finished_job_has_its_picture_and_share():
    job = Job.of(DONE)

    assert (job.has_ended, job.share_done, job.picture.width) == (True, 1.0, 8)


def test_priority_and_webhook_url_are_sent_where_they_are_given_and_read_back(server):
    shown = {**JOB, "priority": "high", "fingerprint": "fp1:0", "dedup": {"hit": True, "of": "b" * 32}}
    server.answers = [(202, {}, shown), (202, {}, JOB), (200, {}, {"id": "wh_1", "secret": "whsec_x"})]
    with Zimg(f"http://127.0.0.1:{server.server_port}") as zimg:
        (job,) = zimg.submit("a", priority="high", webhook_url="https://shop.example/h")
        (plain,) = zimg.submit("a")
        made = zimg.rotate_webhook("requests")

    bodies = [json.loads(body) for _, _, _, body in server.requests]
    assert bodies[0] == {"prompt": "a", "priority": "high", "webhook_url": "https://shop.example/h"}
    assert bodies[1] == {"prompt": "a"}
    assert (job.priority, job.fingerprint, job.dedup_of) == ("high", "fp1:0", "b" * 32)
    assert (plain.priority, plain.fingerprint, plain.dedup_of) == ("normal", "", "")
    assert (server.requests[2][1], made["secret"]) == ("/v1/webhooks/requests/rotate", "whsec_x")
