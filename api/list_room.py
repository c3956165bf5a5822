"""How many product lists one process takes in at a time: each is some 110 MB until it is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Overloaded

LISTS_AT_ONCE = 2
#: A list of 20,000 pictures is stored in some seconds.
WAIT_SECONDS = 20.0

_places = threading.BoundedSemaphore(LISTS_AT_ONCE)


@contextmanager
def room_for_a_list() -> Iterator[None]:
    """Wait for room and hold it while inside; raises Overloaded when there is none in time."""
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise Overloaded("Other lists are coming in; send this one again shortly.", retry_after_seconds=10)
    try:
        yield
    finally:
        _places.release()
