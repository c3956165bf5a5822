"""nginx, run for real with the configuration that Kubernetes and compose use."""

import collections
import http.server
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from deploy.local.ports import choose_ports, is_free
from tests.fixtures.stack import wait_until
from tests.fixtures.tools import require_tool

CONFIG = Path(__file__).parents[3] / "deploy" / "nginx" / "nginx.conf"


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
def door(tmp_path):
    """The URL of a running nginx in front of an upstream."""
    nginx = require_tool("nginx")
    ports = choose_ports(["nginx", "api"])
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", ports["api"]), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    config = CONFIG.read_text()
    for old, new in (
        ("zimg-api:8080", f"127.0.0.1:{ports['api']}"), ("listen 8080", f"listen 127.0.0.1:{ports['nginx']}"),
        ("/tmp/", f"{tmp_path}/"), ("/dev/stdout", f"{tmp_path}/access.log"), ("/dev/stderr", f"{tmp_path}/error.log"),
        ("worker_processes auto", "worker_processes 1"),
    ):  # fmt: skip
        assert old in config
        config = config.replace(old, new)
    (tmp_path / "nginx.conf").write_text(config)
    process = subprocess.Popen(
        [nginx, "-e", f"{tmp_path}/error.log", "-c", tmp_path / "nginx.conf", "-g", "daemon off;"]
    )
    wait_until(lambda: not is_free(ports["nginx"]), seconds=20)
    yield f"http://127.0.0.1:{ports['nginx']}"
    process.terminate()
    process.wait(timeout=20)
    upstream.shutdown()
    upstream.server_close()


def test_the_file_says_five_requests_a_second_as_documented():
    assert "zone=create:10m rate=5r/s" in CONFIG.read_text()
    assert "5 r/s" in (Path(__file__).parents[3] / "docs" / "operations.md").read_text()


def test_one_address_may_create_work_five_times_a_second_with_a_burst_of_five(door):
    with httpx.Client() as client:
        codes = collections.Counter(client.post(f"{door}/v1/jobs", json={}).status_code for _ in range(40))

    assert codes[200] >= 6
    assert codes[429] >= 20
    assert set(codes) == {200, 429}


def test_a_refusal_is_problem_json_and_says_when_to_come_back(door):
    with httpx.Client() as client:
        refused = next(
            answer
            for answer in (client.post(f"{door}/v1/jobs", json={}) for _ in range(40))
            if answer.status_code == 429
        )

    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["code"] == "rate_limit_exceeded"


def test_polling_and_pictures_are_not_counted_as_creating_work(door):
    with httpx.Client() as client:
        codes = {client.get(f"{door}/v1/jobs/abc?wait=20").status_code for _ in range(100)}

    assert codes == {200}


def test_the_api_learns_the_request_id_and_the_address(door):
    headers = httpx.get(f"{door}/v1/models").text.lower()

    assert "x-request-id: " in headers
    assert "x-forwarded-for: 127.0.0.1" in headers
