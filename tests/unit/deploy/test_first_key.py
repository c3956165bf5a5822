"""What the terminal says of the admin key that the first start made."""

import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.settings import Settings
from deploy.local.first_key import FirstKeyNote
from deploy.local.launcher import Launcher
from deploy.local.readiness import ReadinessWatch
from tests.fixtures.stack import wait_until

KEY = "zimg_thekeyitself"


def note(folder, host="0.0.0.0", port=8080):
    return FirstKeyNote(Settings(data_dir=folder, host=host, port=port))


def text(one):
    return "\n".join(one.lines())


def test_it_names_the_file_and_how_to_use_it_and_never_the_key(tmp_path):
    (tmp_path / "admin.key").write_text(f"{KEY}\n")

    told = text(note(tmp_path))

    assert f"ZIMG_ADMIN_KEY=$(cat {tmp_path}/admin.key) ./zimg keys create team1" in told
    assert "--url" not in told
    assert KEY not in told


def test_a_service_at_another_port_is_named_in_the_command(tmp_path):
    (tmp_path / "admin.key").write_text(KEY)

    assert text(note(tmp_path, port=8091)).endswith("keys create team1 --url http://127.0.0.1:8091")


def test_a_folder_with_a_space_in_its_name_is_quoted_for_the_shell(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "admin.key").write_text(KEY)

    assert f"$(cat {shlex.quote(str(folder / 'admin.key'))})" in text(note(folder))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_a_loopback_address_nothing_is_said(tmp_path, host):
    (tmp_path / "admin.key").write_text(KEY)

    assert text(note(tmp_path, host)) == ""


def test_it_is_said_once_and_not_before_the_key_lies_there(tmp_path):
    one = note(tmp_path)

    before = text(one)
    (tmp_path / "admin.key").touch()
    half = text(one)
    (tmp_path / "admin.key").write_text(KEY)

    assert (before, half) == ("", "")
    assert "admin.key" in text(one)
    assert text(one) == ""


@pytest.fixture
def ready_service():
    """Answers that it is ready, whatever is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("is_made_late", [False, True])
def test_the_launcher_says_it_behind_ready_as_soon_as_the_key_is_made(tmp_path, ready_service, capsys, is_made_late):
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", port=ready_service.server_port)
    supervisor = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = ReadinessWatch(settings, f"unix://{tmp_path}/none", supervisor)
    told = []

    def is_told(words):
        told.append(capsys.readouterr().out)
        return words in "".join(told)

    if not is_made_late:
        (tmp_path / "admin.key").write_text(KEY)
    run = threading.Thread(target=Launcher(settings, {})._follow, args=(watch, supervisor))
    run.start()
    wait_until(lambda: is_told("ready after"), seconds=60)
    if is_made_late:
        (tmp_path / "admin.key").write_text(KEY)
    wait_until(lambda: is_told("keys create team1"), seconds=60, why=lambda: "".join(told))
    supervisor.communicate(b"\n")
    run.join(timeout=60)

    assert "".join(told).index("ready after") < "".join(told).index("admin.key")
