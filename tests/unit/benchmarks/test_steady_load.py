"""The load of the api's benchmark: what it sends, and that a stall is seen in full."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from benchmarks.steady_load import Connections, Taken, at_rate, get, post


class Answering(BaseHTTPRequestHandler):
    """Repeats the body; the first request on /stall waits until it is let go."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()
    peers: ClassVar[set] = set()

    def do_POST(self):
        self.peers.add(self.client_address)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/stall":
            self.go_on.wait(60)
        self.send_response(202 if self.headers["Authorization"] == "Bearer k" else 401)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def connections():
    Answering.go_on.clear()
    Answering.peers.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Connections(server.server_port)
        yield made
        made.close()
        server.shutdown()


def test_a_whole_answer_is_read_and_its_connection_used_again(connections):
    statuses = [connections.status_of(post("/", {"text": "x" * 200_000}, key)) for key in ("k", "", "k")]

    assert statuses == [202, 401, 202]
    assert len(Answering.peers) == 1


def test_requests_go_out_at_their_moments_though_the_first_is_not_answered(connections):
    numbers = iter(range(100))

    def request():
        number = next(numbers)
        if number == 19:
            Answering.go_on.set()
        return post("/stall" if number == 0 else "/", {}, "k")

    taken = at_rate(connections, request, rate=100, seconds=0.2)

    assert taken.statuses == [202] * 20
    assert max(taken.seconds) >= 0.18
    assert len(taken.late) == 20


def test_a_request_without_an_answer_is_counted(connections):
    taken = Taken()

    taken.send(Connections(1), get("/healthz"), planned=0.0)

    assert (taken.statuses, len(taken.seconds)) == ([0], 1)
