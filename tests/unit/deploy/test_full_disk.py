"""A disk without room ends neither the supervisor nor a start without a sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from deploy.local.output_file import FILE_BYTES, KeptOutput
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
    kept = KeptOutput(os.fdopen(reader, "rb"), path)
    with os.fdopen(writer, "wb") as output:
        output.write(b"one line\n" * 20_000)
    kept.thread.join(60)
    assert path.read_bytes() == b"one line\n" * 20_000


def test_a_program_may_print_as_much_as_it_likes_onto_a_full_disk() -> None:
    """The supervisor printed into a file there, got the error itself, and died with every program."""
    output = io.BufferedReader(io.BytesIO(b"a traceback\n" * 50_000))  # type: ignore[arg-type]
    kept = KeptOutput(output, Path("/dev/full"))
    kept.thread.join(60)
    assert not kept.thread.is_alive()
    assert output.read() == b"", "all of it was taken"
    assert set(kept.last_lines()) == {"a traceback"}, "and can be quoted"


def test_a_program_that_prints_without_end_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "start.log"
    kept = KeptOutput(io.BytesIO(b"x" * (FILE_BYTES * 2) + b"\nthe end\n"), path)
    kept.thread.join(60)
    assert FILE_BYTES <= path.stat().st_size < FILE_BYTES * 1.01
    assert kept.last_lines()[-1] == "the end"


def test_a_start_on_a_full_disk_says_where_and_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-c", NO_ROOM, "--port", str(free_port()), "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "data") in done.stderr
    assert "free some space" in done.stderr
