"""nginx, run for real with the configuration that Kubernetes and compose use."""

import collections
import contextlib
import http.server
import json
import re
import socket
import threading
from pathlib import Path

import httpx
import pytest

from api.problems import PROBLEMS
from deploy.local.ports import choose_ports
from tests.fixtures.nginx import CONFIG, nginx_before


class Upstream(http.server.BaseHTTPRequestHandler):
    """An api that answers everything and shows the headers it was sent."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = "\n".join(f"{name}: {value}" for name, value in self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def door(upstream, tmp_path):
    """The URL of a running nginx in front of an upstream."""
    with nginx_before(upstream.server_port, tmp_path) as url:
        yield url


def test_the_file_says_five_requests_a_second_as_documented():
    assert "zone=create:10m rate=5r/s" in CONFIG.read_text()
    assert "5 r/s" in (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def test_one_address_may_create_work_five_times_a_second_with_a_burst_of_five(door):
    with httpx.Client(timeout=20) as client:
        codes = collections.Counter(client.post(f"{door}/v1/jobs", json={}).status_code for _ in range(40))

    assert codes[200] >= 6
    assert codes[429] >= 20
    assert set(codes) == {200, 429}


def test_a_refusal_is_problem_json_and_says_when_to_come_back(door):
    with httpx.Client(timeout=20) as client:
        refused = next(
            answer
            for answer in (client.post(f"{door}/v1/jobs", json={}) for _ in range(40))
            if answer.status_code == 429
        )

    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("language", "is_chinese"),
    [("zh-CN,zh;q=0.9,en;q=0.8", True), ("de, zh;q=0.3", True), ("en-US,zh;q=0.5", False), ("de", False), ("", False)],
)
def test_what_nginx_refuses_is_told_in_the_callers_language_as_the_api_tells_it(door, language, is_chinese):
    with httpx.Client(timeout=20, headers={"Accept-Language": language}) as client:
        sent = (client.post(f"{door}/v1/jobs", json={}) for _ in range(40))
        slow = next(answer for answer in sent if answer.status_code == 429)
        large = client.post(f"{door}/i/x", content=b"x" * (16 * 1024 * 1024 + 1))

    for answer, numbers in ((slow, ["5", "1"]), (large, ["16777216"])):
        told, row = answer.json(), PROBLEMS[answer.json()["code"]]
        assert told["title"] == (row.title_zh if is_chinese else row.title)
        assert (told["status"], told["error"]["type"]) == (row.status, row.openai_type)
        assert re.findall(r"\d+", told["detail"]) == numbers
        colon = "：" if is_chinese else ": "
        assert told["error"]["message"] == f"{told['title']}{colon}{told['detail']}"
        assert told["request_id"] == answer.headers["X-Request-Id"]
        assert bool(re.search("[\u4e00-\u9fff]", told["detail"])) == is_chinese


def test_polling_and_pictures_are_not_counted_as_creating_work(door):
    with httpx.Client(timeout=20) as client:
        codes = {client.get(f"{door}/v1/jobs/abc?wait=20").status_code for _ in range(100)}

    assert codes == {200}


def test_canceling_and_testing_a_webhook_are_not_counted_as_creating_work(door):
    with httpx.Client(timeout=20) as client:
        codes = {client.post(f"{door}/v1/jobs/abc/cancel").status_code for _ in range(30)}

    assert codes == {200}


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/batches", "/v1/session", "/v1/jobs/", "//v1/jobs"])
def test_every_way_to_create_work_counts(door, path):
    with httpx.Client(timeout=20) as client:
        codes = collections.Counter(client.post(f"{door}{path}").status_code for _ in range(40))

    assert codes[429] >= 20


def test_a_body_that_is_too_large_is_refused_as_a_problem(door):
    answer = httpx.post(f"{door}/v1/batches", content=b"x" * (16 * 1024 * 1024 + 1), timeout=20)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_an_api_that_is_away_is_a_problem_to_try_again(tmp_path):
    with nginx_before(choose_ports(["nobody"])["nobody"], tmp_path) as door:
        answer = httpx.get(f"{door}/v1/models", timeout=20)

    assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "2")


def test_a_request_that_trickles_in_reaches_the_api_only_when_it_is_whole(upstream, tmp_path):
    """And one that does not go on is dropped, without the api ever having seen it."""
    seen = []
    upstream.process_request = lambda request, address: seen.append(address) or upstream.shutdown_request(request)
    short = tuple((f"client_{part}_timeout 15s", f"client_{part}_timeout 1s") for part in ("header", "body"))
    with nginx_before(upstream.server_port, tmp_path, changes=short) as door:
        place = httpx.URL(door)
        begun = b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\n"
        for head in (begun, begun + b"Content-Length: 9\r\n\r\n{"):
            with socket.create_connection((place.host, place.port), timeout=20) as connection:
                connection.sendall(head)
                with contextlib.suppress(ConnectionResetError):
                    assert not connection.recv(100).startswith(b"HTTP/1.1 2")

    assert seen == []


def test_the_api_learns_the_request_id_and_the_address(door):
    headers = httpx.get(f"{door}/v1/models", timeout=20).text.lower()

    assert "x-request-id: " in headers
    assert "x-forwarded-for: 127.0.0.1" in headers


@pytest.mark.parametrize(
    ("sent", "passed"), [("https", "https"), ("HTTP", "http"), ("javascript", "http"), ("", "http")]
)
def test_https_in_front_of_nginx_is_passed_on_and_nothing_but_a_scheme(door, sent, passed):
    headers = httpx.get(f"{door}/v1/models", headers={"X-Forwarded-Proto": sent}, timeout=20).text.lower()

    assert re.findall(r"x-forwarded-proto: (\w+)", headers) == [passed]


HEAD = "HTTP/1.1\r\nHost: a\r\nAccept-Language: {language}\r\nConnection: close\r\n"
REFUSED = {
    "a line that is no request": ("\0\1 / HTTP/1.1\r\n\r\n", "invalid_request", False),
    "no version that there is": ("GET / HTTP/7.0\r\n\r\n", "invalid_request", False),
    "a length that is none": ("POST /v1/jobs " + HEAD + "Content-Length: x\r\n\r\n", "invalid_request", True),
    "an unknown coding": ("POST /v1/jobs " + HEAD + "Transfer-Encoding: gzip\r\n\r\n", "invalid_request", True),
    "a large header": ("GET / " + HEAD + "X-Big: " + "x" * 40_000 + "\r\n\r\n", "head_too_large", True),
    "a long address": ("GET /" + "a" * 40_000 + " " + HEAD + "\r\n", "head_too_large", False),
    "a method of none": ("TRACE / " + HEAD + "\r\n", "method_not_allowed", True),
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_nginx_can_not_read_is_a_problem_too(door, case, language):
    request, code, is_language_read = REFUSED[case]
    head, told = answer_to(door, request.replace("{language}", language).encode())

    row, is_chinese = PROBLEMS[code], is_language_read and language == "zh"
    assert head.startswith(f"HTTP/1.1 {row.status} ")
    assert "application/problem+json" in head
    assert (told["code"], told["status"], told["error"]["type"]) == (code, row.status, row.openai_type)
    assert told["title"] == (row.title_zh if is_chinese else row.title)
    assert bool(re.search("[\u4e00-\u9fff]", told["detail"])) == is_chinese
    assert told["request_id"] in head


def read_by_any_page(headers):
    """Whether a page of any other site may read such an answer, and when it may come again."""
    exposed = {name.strip().lower() for name in headers.get("Access-Control-Expose-Headers", "").split(",")}
    return headers.get_list("Access-Control-Allow-Origin") == ["*"] and exposed == {"retry-after", "x-request-id"}


def test_pages_of_other_sites_can_read_what_nginx_refuses(door):
    """A plugin with the origin `null` has no other way to learn why; nothing of it is secret."""
    with httpx.Client(timeout=20, headers={"Origin": "null"}) as client:
        sent = (client.post(f"{door}/v1/jobs", json={}) for _ in range(40))
        refused = {answer.status_code: answer for answer in sent if answer.status_code == 429}
        refused[413] = client.post(f"{door}/v1/batches", content=b"x" * (16 * 1024 * 1024 + 1))
        passed = client.get(f"{door}/v1/models")

    assert {status: read_by_any_page(answer.headers) for status, answer in refused.items()} == {429: True, 413: True}
    assert "Access-Control-Allow-Origin" not in passed.headers  # of the rest the api alone decides


def test_pages_of_other_sites_can_read_that_the_api_is_away(tmp_path):
    with nginx_before(choose_ports(["nobody"])["nobody"], tmp_path) as door:
        answer = httpx.get(f"{door}/v1/models", headers={"Origin": "null"}, timeout=20)

    assert read_by_any_page(answer.headers)


@pytest.mark.parametrize("case", REFUSED)
def test_pages_of_other_sites_can_read_what_could_not_be_read(door, case):
    head, _ = answer_to(door, REFUSED[case][0].replace("{language}", "en").encode())
    lines = (line.partition(": ") for line in head.splitlines()[1:])

    assert read_by_any_page(httpx.Headers([(name, value) for name, _, value in lines]))


def test_every_refusal_of_the_file_can_be_read_by_other_sites():
    refusals = re.findall(r"location [^{]+\{\s+internal;.*?\n        \}", CONFIG.read_text(), re.DOTALL)

    assert len(refusals) == 7
    for refusal in refusals:
        assert 'add_header Access-Control-Allow-Origin "*" always;' in refusal
        assert 'add_header Access-Control-Expose-Headers "Retry-After, X-Request-Id" always;' in refusal


def test_the_addresses_of_refusals_can_not_be_asked_for(door):
    answer = httpx.get(f"{door}/-refused/long", timeout=20)

    assert (answer.status_code, "x-request-id" in answer.text.lower()) == (200, True)  # the api's own


def answer_to(door, request):
    """The head and the JSON of what nginx answers to these bytes."""
    place = httpx.URL(door)
    with socket.create_connection((place.host, place.port), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), json.loads(body)


def test_what_is_refused_leaves_no_query_in_any_log(upstream, tmp_path):
    """Each refusal was logged with its whole request line: a prompt that was sent as a query stood in it."""
    with nginx_before(upstream.server_port, tmp_path) as url, httpx.Client(timeout=20) as client:
        answers = [client.post(f"{url}/v1/jobs?note=a+secret+prompt").status_code for _ in range(40)]

    assert 429 in answers
    logs = "".join((tmp_path / name).read_text() for name in ("access.log", "error.log"))
    assert "/v1/jobs 429" in logs
    assert "secret" not in logs
