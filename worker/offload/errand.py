"""What callers have the engine's thread do between its turns."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Errand:
    """Something that the engine's thread does for a caller who waits."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._done = work, threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def give_up(self, reason: BaseException) -> None:
        self._error = reason
        self._done.set()

    def wait(self, timeout: float, late: str) -> None:
        """Until it is done; raises what went wrong, or TimeoutError saying `late`."""
        if not self._done.wait(timeout):
            raise TimeoutError(late)
        if self._error is not None:
            raise self._error
