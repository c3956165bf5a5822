"""What a program prints, kept in a file for as long as the disk takes it, and its last lines in memory."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

LINE_BYTES = 4096
FILE_BYTES = 1_000_000
TAIL_LINES = 20
FAREWELL_SECONDS = 1.0


class KeptOutput:
    """A copy of `output` in the file `path`, made by a thread until it ends; what a full disk does not take is dropped.

    A supervisor that prints straight into a file on a full disk dies of it, and every program with it. Of one that
    prints without end the file has the beginning, and memory the end.
    """

    def __init__(self, output: IO[bytes], path: Path) -> None:
        self._path = path
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._room = FILE_BYTES
        self.thread = threading.Thread(target=self._copy, args=(output,), name="output", daemon=True)
        self.thread.start()

    def last_lines(self) -> Sequence[str]:
        """What a program that has ended said last."""
        self.thread.join(FAREWELL_SECONDS)
        return list(self._tail)

    def _copy(self, output: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            self._path.write_bytes(b"")
        while line := output.readline(LINE_BYTES):
            self._tail.append(line.decode(errors="replace").rstrip())
            self._write(line)

    def _write(self, line: bytes) -> None:
        if self._room > 0:
            with contextlib.suppress(OSError), self._path.open("ab") as file:
                self._room -= file.write(line)
