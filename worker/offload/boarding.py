"""Who boards next: interactive tickets first, each lane in its order; a batch ticket is passed over only so often."""

from __future__ import annotations

from collections.abc import Sequence

from worker.offload.planner import overtakers
from worker.offload.rider import Rider
from worker.offload.ticket import Ticket

#: Interactive tickets that board while batch tickets wait in line, before it is one of those's turn.
PATIENCE = 8


class Boarding:
    """Decides; the engine seats. Counts how often the batch tickets in line were passed over."""

    def __init__(self) -> None:
        self._passed_over = 0

    def next_of(
        self, line: Sequence[Ticket], riders: Sequence[Rider], seats: int, trial: Sequence[Ticket] = ()
    ) -> Ticket | None:
        """Whoever boards now, if anybody may: one that must be alone, alone; cancelled ones at once, to be told.

        While a plan is tried nobody boards but its `trial`: what happens to them is nothing to others.
        """
        line = [ticket for ticket in line if ticket.canceled or ticket in trial] if trial else line
        canceled = canceled_in(line)
        if canceled is not None or any(rider.ticket.order.alone for rider in riders):
            return canceled
        first = self._first(line, sum(rider.lane == "batch" for rider in riders) < seats, bool(trial))
        if first is None or (first.order.alone and riders):
            return None
        if not _is_batch(first) and sum(rider.lane != "batch" for rider in riders) < seats:
            seats += overtakers(seats)  # batch riders park
        return first if len(riders) < seats else None

    def note(self, boarded: Ticket, line: Sequence[Ticket], trial: Sequence[Ticket] = ()) -> None:
        """`boarded` has left the `line`; one of a `trial` has passed nobody over."""
        if boarded in trial:
            return
        is_passing = not _is_batch(boarded) and any(_is_batch(ticket) for ticket in line)
        self._passed_over = self._passed_over + 1 if is_passing else 0

    def _first(self, line: Sequence[Ticket], has_batch_seat: bool, is_trial: bool) -> Ticket | None:
        """Where batch tickets ride in all seats their lane has what it can have."""
        if not is_trial and not any(_is_batch(ticket) for ticket in line):
            self._passed_over = 0
        is_due = has_batch_seat and self._passed_over >= PATIENCE
        return min(line, key=lambda ticket: _is_batch(ticket) != is_due, default=None)


def canceled_in(line: Sequence[Ticket]) -> Ticket | None:
    """The first who is to be told that it was cancelled, whoever rides and whatever is waited for."""
    return next((ticket for ticket in line if ticket.canceled), None)


def _is_batch(ticket: Ticket) -> bool:
    return ticket.order.lane == "batch"
