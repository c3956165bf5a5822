"""The rides that a restart still owes when it takes its first tickets.

They are warm-up pictures like those of every start: whatever is loaded at first use is loaded by them. They ride in the
batch lane, one at a time, so they stay parked while somebody waits for a picture.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from worker.offload.ticket import Order, Ticket

logger = logging.getLogger(__name__)


class House:
    """Decides which ride is next; the engine puts it in line."""

    def __init__(self, orders: Iterable[Order]) -> None:
        self._owed = deque(replace(order, lane="batch") for order in orders)
        self._riding: Ticket | None = None
        self.has_failed = False

    def next(self) -> Ticket | None:
        """The next ride, once the last one is over; None while it is not, and when there are no more."""
        if not self._is_free() or not self._owed:
            return None
        self._riding = Ticket(self._owed.popleft())
        return self._riding

    @property
    def is_over(self) -> bool:
        """Whether all have ridden."""
        return not self._owed and self._is_free()

    def _is_free(self) -> bool:
        ticket = self._riding
        if ticket is None or not ticket.done():
            return ticket is None
        self._riding = None
        if ticket.error is not None:
            self.has_failed = True
            logger.error("a warm-up picture failed after the start", exc_info=ticket.error)
        return True
