"""A disk without room ends neither the supervisor nor a start without a sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from deploy.local.output_file import keep_output
from tests.fixtures.redis import free_port

#: A process that may write no byte into any file, as on a full disk; the system would end it with a signal otherwise.
NO_ROOM = (
    "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); sys.argv = ['deploy.local', *sys.argv[1:]];"
    "runpy.run_module('deploy.local', run_name='__main__')"
)


def test_what_a_program_prints_is_kept_in_its_file(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    path = tmp_path / "start.log"
    path.write_text("of the last start")
    thread = keep_output(os.fdopen(reader, "rb"), path)
    with os.fdopen(writer, "wb") as output:
        output.write(b"one line\n" * 20_000)
    thread.join(60)
    assert path.read_bytes() == b"one line\n" * 20_000


def test_a_program_may_print_as_much_as_it_likes_onto_a_full_disk() -> None:
    """The supervisor printed into a file there, got the error itself, and died with every program."""
    output = io.BufferedReader(io.BytesIO(b"a traceback\n" * 50_000))  # type: ignore[arg-type]
    thread = keep_output(output, Path("/dev/full"))
    thread.join(60)
    assert not thread.is_alive()
    assert output.read() == b"", "all of it was taken"


def test_a_start_on_a_full_disk_says_where_and_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_ROOM, "--port", str(free_port()), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "data") in done.stderr
    assert "free some space" in done.stderr
