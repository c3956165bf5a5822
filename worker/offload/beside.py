"""Work beside other work: in a thread of its own, which takes short turns with whoever waits for it."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from collections.abc import Callable, Iterator

#: A thread comes back from each of torch's operations, and from each read, to wait until another one that computes in
#: Python gives way. At Python's usual 5 ms, 0.1 s of small operations took 1.6 s beside one; so, 0.35 s.
TURN_SECONDS = 0.0001


class ShortTurns:
    """Python's switch interval, shortened as long as anybody is inside; of the whole process, as that interval is."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, TURN_SECONDS))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                sys.setswitchinterval(self._before)


short_turns = ShortTurns()


@contextlib.contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` in a thread while what is inside goes on; it must not raise."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="beside", daemon=True)
    with short_turns:
        thread.start()
        try:
            yield
        finally:
            thread.join()
