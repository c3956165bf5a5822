"""Tells callers of their pictures' progress, in a thread where they may take their time."""

from __future__ import annotations

import logging
import queue
import threading

from worker.offload.ticket import Ticket

logger = logging.getLogger(__name__)

#: Wait so long at the end for callers who are still being told.
PATIENCE_SECONDS = 10.0


class Herald:
    """Calls `on_step` of tickets, one after another; what it raises is logged."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[tuple[Ticket, str, int, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._go_on, name="carousel-herald", daemon=True)
        self._patience_seconds = PATIENCE_SECONDS

    def start(self) -> None:
        self._thread.start()

    def tell(self, ticket: Ticket, stage: str, step: int, steps: int) -> None:
        """Have the ticket's caller told; returns at once."""
        self._messages.put((ticket, stage, step, steps))

    def excuse(self) -> None:
        """Called by who is about to wait for the end: where that is a caller being told, the end waits for nobody."""
        if threading.current_thread() is self._thread:
            self._patience_seconds = 0.0

    def close(self) -> None:
        """Pass on what is left, and end.

        No thread may outlive the carousel: one that lets go of an event of torch's while Python takes itself down ends
        the process with "terminate called without an active exception" (seen on an H200).
        """
        self._messages.put(None)
        if self._thread.ident is not None:  # else no thread could be had
            self._thread.join(self._patience_seconds)

    def _go_on(self) -> None:
        while self._pass_on():
            pass

    def _pass_on(self) -> bool:
        """Wait for a message and pass it on; False for the last. No ticket is held while waiting."""
        message = self._messages.get()
        if message is None:
            return False
        ticket, stage, step, steps = message
        if ticket.on_step is not None:
            try:
                ticket.on_step(stage, step, steps)
            except Exception:
                logger.exception("on_step of a ticket failed")
        return True
