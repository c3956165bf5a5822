"""Progress is told in a thread of its own, which holds nothing and does not outlive the carousel."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from tests.unit.offload.conftest import Studio
from worker.offload.herald import Herald
from worker.offload.ticket import Order, Ticket, TicketCanceled

ORDER = Order(prompt="a mug", height=64, width=64, seed=7, steps=2)


@pytest.fixture
def herald() -> Iterator[Herald]:
    herald = Herald()
    herald.start()
    yield herald
    herald.close()


def test_a_ticket_is_let_go_of_when_its_caller_was_told(herald: Herald) -> None:
    """It holds events of torch's; the herald's last one was destroyed while Python took itself down."""
    told = threading.Event()
    ticket = Ticket(ORDER)
    there = weakref.ref(ticket)
    herald.tell(ticket, "decode", 2, 2)
    del ticket
    herald.tell(Ticket(ORDER, lambda *_: told.set()), "decode", 2, 2)
    assert told.wait(30)
    assert there() is None


def test_what_a_caller_raises_is_logged_and_the_next_one_is_told(
    herald: Herald, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    herald.tell(Ticket(ORDER, fail), "encode", 0, 2)
    herald.tell(Ticket(ORDER, lambda *_: told.set()), "encode", 0, 2)
    assert told.wait(30)
    assert "on_step of a ticket failed" in caplog.text


def test_what_was_to_be_told_is_told_before_it_ends() -> None:
    heard: list[int] = []
    herald = Herald()
    for step in range(50):
        herald.tell(Ticket(ORDER, lambda _stage, step, _steps: heard.append(step)), "denoise", step, 50)
    herald.start()
    herald.close()
    assert heard == list(range(50))


def test_who_closes_it_waits_for_a_caller_who_is_being_told() -> None:
    heard: list[str] = []

    def take_time(*_: object) -> None:
        while herald._messages.empty():
            pass
        threading.Event().wait(0.05)  # close() has begun
        heard.append("told")

    herald = Herald()
    herald.start()
    herald.tell(Ticket(ORDER, take_time), "decode", 2, 2)
    herald.close()
    assert heard == ["told"]


def test_no_thread_of_a_carousel_outlives_it(open_studio: Callable[..., Studio]) -> None:
    before = set(threading.enumerate())
    studio = open_studio(residents=1, ring_slots=2)
    studio.draw().result(60)
    started = set(threading.enumerate()) - before
    assert {"carousel", "carousel-herald"} <= {thread.name for thread in started}
    studio.carousel.close()
    assert not [thread.name for thread in started if thread.is_alive() and thread.name.startswith("carousel")]


def test_a_caller_who_closes_the_carousel_while_being_told_is_not_waited_for(
    open_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The carousel's end waited for the caller, and the caller for that end."""
    monkeypatch.setattr("worker.offload.herald.PATIENCE_SECONDS", 3600.0)
    studio = open_studio(residents=1, ring_slots=2)
    closed = threading.Event()

    def close(*_: object) -> None:
        studio.carousel.close()
        closed.set()

    ticket = studio.carousel.submit(prompt="a mug", height=64, width=64, seed=7, steps=2, on_step=close)
    assert closed.wait(60)
    with pytest.raises(TicketCanceled):
        ticket.result(60)
