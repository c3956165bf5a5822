"""Who boards next: lanes, seats, whom nobody may ride with, and that no lane is passed over for ever."""

from __future__ import annotations

from typing import Any

from greenlet import getcurrent

from worker.offload.boarding import PATIENCE, Boarding
from worker.offload.rider import Rider
from worker.offload.ticket import Order, Ticket


def ticket(name: str = "mug", **order: Any) -> Ticket:
    return Ticket(Order(prompt=name, height=64, width=64, seed=1, steps=1, **order))


def riding(*tickets: Ticket) -> list[Rider]:
    return [Rider(each, 1, lambda _: None, getcurrent()) for each in tickets]


def board(boarding: Boarding, line: list[Ticket], seats: int = 1, riders: tuple[Rider, ...] = ()) -> str:
    """Let one board as the engine does; its prompt, or nothing."""
    first = boarding.next_of(line, riders, seats)
    if first is None:
        return ""
    line.remove(first)
    boarding.note(first, line)
    return first.order.prompt


def test_interactive_tickets_board_first_and_each_lane_in_its_order() -> None:
    boarding = Boarding()
    line = [ticket("b1", lane="batch"), ticket("i1"), ticket("b2", lane="batch"), ticket("i2")]

    assert [board(boarding, line) for _ in range(5)] == ["i1", "i2", "b1", "b2", ""]


def test_a_batch_ticket_boards_after_so_many_interactive_ones_however_many_more_wait() -> None:
    boarding = Boarding()
    line = [ticket("batch", lane="batch"), *[ticket("now") for _ in range(3 * PATIENCE)]]

    boarded = [board(boarding, line) for _ in range(2 * PATIENCE)]

    assert boarded.index("batch") == PATIENCE


def test_each_batch_ticket_is_passed_over_as_often_as_the_one_before_it() -> None:
    boarding = Boarding()
    line = [ticket("batch", lane="batch"), ticket("batch", lane="batch"), *[ticket("now") for _ in range(4 * PATIENCE)]]

    boarded = [board(boarding, line) for _ in range(3 * PATIENCE)]

    assert [at for at, name in enumerate(boarded) if name == "batch"] == [PATIENCE, 2 * PATIENCE + 1]


def test_a_trial_boards_alone_and_changes_nothing_of_whose_turn_it_is() -> None:
    boarding, trial = Boarding(), [ticket("trial")]
    line = [ticket("batch", lane="batch"), *[ticket("now") for _ in range(3 * PATIENCE)]]
    for _ in range(PATIENCE - 1):
        assert board(boarding, line) == "now"
    line += trial

    first = boarding.next_of(line, (), 1, trial)
    assert first is trial[0]
    line.remove(first)
    boarding.note(first, line, trial)
    assert boarding.next_of(line, (), 1, trial) is None

    assert [board(boarding, line) for _ in range(2)] == ["now", "batch"]


def test_nobody_is_passed_over_while_no_batch_ticket_waits() -> None:
    boarding = Boarding()
    for _ in range(2 * PATIENCE):
        board(boarding, [ticket("now")])
    line = [ticket("batch", lane="batch"), ticket("now")]

    assert board(boarding, line) == "now"


def test_a_batch_ticket_whose_turn_it_is_gets_the_next_seat() -> None:
    boarding = Boarding()
    line = [ticket("batch", lane="batch"), *[ticket("now") for _ in range(PATIENCE + 2)]]
    for _ in range(PATIENCE):
        board(boarding, line, seats=1)

    assert board(boarding, line, seats=1, riders=tuple(riding(ticket()))) == ""
    assert board(boarding, line, seats=1) == "batch"


def test_batch_tickets_that_ride_in_all_seats_let_interactive_ones_overtake_however_often() -> None:
    boarding, batch = Boarding(), riding(ticket(lane="batch"))
    line = [ticket("batch", lane="batch"), *[ticket("now") for _ in range(2 * PATIENCE)]]

    boarded = [board(boarding, line, seats=1, riders=tuple(batch)) for _ in range(2 * PATIENCE)]

    assert set(boarded) == {"now"}


def test_a_batch_ticket_that_was_canceled_leaves_no_claim_to_the_next() -> None:
    boarding = Boarding()
    canceled = ticket("gone", lane="batch")
    line = [canceled, *[ticket("now") for _ in range(PATIENCE)]]
    for _ in range(PATIENCE):
        board(boarding, line)
    canceled.cancel()
    line.remove(canceled)
    board(boarding, line)

    assert board(boarding, [ticket("batch", lane="batch"), ticket("now")]) == "now"


def test_interactive_tickets_board_beyond_the_seats_that_batch_tickets_have() -> None:
    boarding, batch = Boarding(), riding(ticket(lane="batch"), ticket(lane="batch"))

    assert boarding.next_of([ticket(lane="batch")], batch, 2) is None
    assert boarding.next_of([first := ticket()], batch, 2) is first
    full = [*batch, *riding(ticket(), ticket())]
    assert boarding.next_of([ticket()], full, 2) is None


def test_who_must_be_alone_waits_for_an_empty_house_and_keeps_it() -> None:
    boarding, alone = Boarding(), ticket(alone=True)

    assert boarding.next_of([alone, ticket()], riding(ticket()), 4) is None
    assert boarding.next_of([alone], [], 4) is alone
    assert boarding.next_of([ticket()], riding(alone), 4) is None


def test_a_canceled_ticket_is_told_though_the_house_is_full() -> None:
    boarding, canceled = Boarding(), ticket(lane="batch")
    canceled.cancel()

    assert boarding.next_of([ticket(), canceled], riding(ticket()), 1) is canceled
