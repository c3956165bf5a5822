"""What a program prints, kept in a file for as long as the disk takes it."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import IO

PIECE_BYTES = 1 << 16


def keep_output(output: IO[bytes], path: Path) -> threading.Thread:
    """Copy `output` into `path` in a thread, until it ends; what a full disk does not take is dropped.

    A supervisor that prints straight into a file on a full disk dies of it, and every program with it.
    """
    thread = threading.Thread(target=_copy, args=(output, path), name="output", daemon=True)
    thread.start()
    return thread


def _copy(output: IO[bytes], path: Path) -> None:
    with contextlib.suppress(OSError):
        path.write_bytes(b"")
    while piece := output.read1(PIECE_BYTES):  # type: ignore[attr-defined]
        with contextlib.suppress(OSError), path.open("ab") as file:
            file.write(piece)
