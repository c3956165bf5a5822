"""A server that answers as it is told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client import client as client_module


@pytest.fixture
def stranger(monkeypatch):
    """A server that answers every request with `answer`: status, headers, body."""
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_SECONDS", 0.01)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = made.answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the server's own names

        def log_message(self, *_):
            """Says nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()
