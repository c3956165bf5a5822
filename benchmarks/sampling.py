"""Looking at a process every few milliseconds: where its threads are, and how much host memory it holds."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

#: Seconds between two looks: each takes the interpreter from the others for a moment.
PERIOD_SECONDS = 0.005
#: Of host memory: reading it costs a tenth of a millisecond.
MEMORY_PERIOD_SECONDS = 0.02


class Sampler:
    """Looks from `start` on at every thread but its own; `inclusive` says what it saw."""

    def __init__(self, period_seconds: float = PERIOD_SECONDS) -> None:
        self._period_seconds = period_seconds
        self._seen: Counter[tuple[str, str]] = Counter()
        self._looks = 0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=self._look_on, name="sampler", daemon=True)

    def start(self) -> None:
        self._begun = time.perf_counter()
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def inclusive(self, most: int = 200) -> dict[str, float]:
        """Seconds by "thread: file:function", the longest first; a function's seconds contain those of its callees."""
        with self._lock:
            seconds_each = (time.perf_counter() - self._begun) / max(self._looks, 1)
            longest = self._seen.most_common(most)
        return {f"{thread}: {where}": round(count * seconds_each, 2) for (thread, where), count in longest}

    def _look_on(self) -> None:
        own = threading.get_ident()
        while not self._done.wait(self._period_seconds):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            with self._lock:
                self._looks += 1
                self._seen.update(_places(names, own))


def _places(names: dict[int | None, str], own: int) -> list[tuple[str, str]]:
    """Each thread's functions, but for those of `own`; no frame outlives this, nor do the tensors in it."""
    frames = sys._current_frames().items()
    return [(names.get(ident, "?"), where) for ident, frame in frames if ident != own for where in _functions_of(frame)]


def _functions_of(frame: FrameType | None) -> set[str]:
    """Every function of a stack, once."""
    found = set()
    while frame is not None:
        code = frame.f_code
        found.add(f"{'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_name}")
        frame = frame.f_back
    return found


class HostMemory:
    """Most memory of this process between `start` and `stop`: held (own and shared), and pages of files.

    And of the first card that it sees: most bytes in use by anybody beyond what was in use at the start, 0 without one.
    `held_each_5s`: the most held in each five seconds since `start`, to see what part of a start needs most.
    A process of its own looks, since a thread would take the interpreter from what is measured.
    """

    def __init__(self) -> None:
        self.held = self.files = self.card = 0
        self.held_each_5s: list[int] = []
        self._onlooker: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, __file__, str(os.getpid())]
        self._onlooker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> None:
        assert self._onlooker is not None
        told, _ = self._onlooker.communicate()
        self.files, self.card, *self.held_each_5s = map(int, told.split())
        self.held = max(self.held_each_5s)


def look_on(pid: int) -> None:
    """Look at a process until the other end is closed, or it ends; then print the most that was seen."""
    files = card = 0
    held: list[int] = []
    before, begun = card_bytes(), time.monotonic()
    with contextlib.suppress(OSError, KeyError):  # it has ended
        is_over = False
        while not is_over:
            is_over = bool(select.select([sys.stdin], [], [], MEMORY_PERIOD_SECONDS)[0])
            now = resident_bytes(pid)
            held += [0] * (1 + int((time.monotonic() - begun) / 5) - len(held))
            held[-1], files = max(held[-1], now[0]), max(files, now[1])
            card = max(card, card_bytes() - before)
    print(files, card, *held or [0])


def resident_bytes(pid: int | None = None) -> tuple[int, int]:
    """What a process (this one) holds now, its own and shared; and the pages of files that it looks at."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    own, shared, files = (int(fields[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem", "RssFile"))
    return own + shared, files


def card_bytes() -> int:
    """Bytes in use on the first card that this process sees, as NVML tells without CUDA; 0 where it can not."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible or 0))
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:
        return 0


if __name__ == "__main__":
    look_on(int(sys.argv[1]))
