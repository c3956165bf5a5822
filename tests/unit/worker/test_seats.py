"""Who may be with the engine: any number in company, or one job alone, of which Redis knows before the engine does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import redis

from core.errors import JobCanceled, LeaseLost
from core.job_store import JobStore
from core.redis_client import PREFIX, connect
from core.settings import Settings
from tests.queue_kit import Kit
from worker.lease_keeper import HeldLease
from worker.seats import Seats

PATIENCE = 10.0
WHILE = 0.05  # long enough for a thread that may enter to do so


@pytest.fixture
def kit(fake_redis: redis.Redis) -> Kit:
    return Kit(fake_redis)


@pytest.fixture
def seats(kit: Kit) -> Seats:
    return Seats(kit.store, "w1")


def held(kit: Kit, *, alone: bool = False, age: float = 0.0) -> HeldLease:
    """A claimed job in its worker's hands."""
    release = kit.released()
    if alone:
        kit.redis.hset(f"{PREFIX}job:{release.job_id}", "alone", 1)
    lease = kit.store.claim(release.job_id, release.epoch, f"token-{release.job_id}", "w1")
    assert lease is not None
    return HeldLease(lease, 30.0, time.monotonic() - age)


@dataclass
class Guest:
    """A thread that takes a seat, and keeps it until it is told to go."""

    entered: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    ended: list[BaseException | None] = field(default_factory=list)
    thread: threading.Thread | None = None

    def leave(self) -> BaseException | None:
        """Go, or give up waiting; what ended it."""
        self.go.set()
        assert self.thread is not None
        self.thread.join(PATIENCE)
        return self.ended[0]

    @property
    def is_inside(self) -> bool:
        return self.entered.wait(WHILE)

    def must_enter(self) -> None:
        assert self.entered.wait(PATIENCE)


@contextmanager
def guests(seats: Seats) -> Iterator[Callable[[HeldLease], Guest]]:
    """Starts guests, one after the other; all are gone afterwards."""
    all_guests: list[Guest] = []

    def stay(guest: Guest, mine: HeldLease) -> None:
        try:
            with seats.taken(mine):
                guest.entered.set()
                guest.go.wait(PATIENCE)
            guest.ended.append(None)
        except BaseException as error:
            guest.ended.append(error)

    def start(mine: HeldLease) -> Guest:
        guest = Guest()
        guest.thread = threading.Thread(target=stay, args=(guest, mine), daemon=True)
        all_guests.append(guest)
        before = len(seats._line) + len(seats._inside)
        guest.thread.start()
        while len(seats._line) + len(seats._inside) == before and not guest.ended:
            guest.entered.wait(0.001)
        return guest

    yield start
    for guest in all_guests:
        guest.go.set()
    for guest in all_guests:
        guest.leave()


def test_any_number_ride_in_company_and_redis_is_told_of_none(kit, seats):
    before = kit.redis.keys(f"{PREFIX}solo:*")
    with guests(seats) as start:
        company = [start(held(kit)) for _ in range(5)]

        for guest in company:
            guest.must_enter()

        assert kit.redis.keys(f"{PREFIX}solo:*") == before == []


def test_one_that_must_be_alone_waits_for_the_others_and_keeps_newcomers_out(kit, seats):
    with guests(seats) as start:
        early = start(held(kit))
        early.must_enter()
        alone, late = start(held(kit, alone=True)), start(held(kit))
        assert not alone.is_inside
        assert not late.is_inside

        early.leave()

        alone.must_enter()
        assert not late.is_inside
        alone.leave()
        late.must_enter()


def test_two_that_must_be_alone_come_one_by_one(kit, seats):
    with guests(seats) as start:
        first, second = start(held(kit, alone=True)), start(held(kit, alone=True))
        first.must_enter()
        assert not second.is_inside

        first.leave()

        second.must_enter()


def test_redis_knows_who_is_alone_for_as_long_as_it_is(kit, seats):
    mine = held(kit, alone=True)

    with seats.taken(mine):
        assert kit.redis.get(f"{PREFIX}solo:w1") == mine.lease.token

    assert kit.redis.get(f"{PREFIX}solo:w1") is None


def test_a_seat_is_left_when_the_ride_fails(kit, seats):
    with pytest.raises(ZeroDivisionError), seats.taken(held(kit, alone=True)):
        1 / 0  # noqa: B018

    assert kit.redis.get(f"{PREFIX}solo:w1") is None
    with seats.taken(held(kit)):
        pass


@pytest.mark.parametrize("alone", [True, False])
def test_one_that_is_stopped_while_it_waits_leaves_the_line_to_the_next(kit, seats, alone):
    with guests(seats) as start:
        first = start(held(kit, alone=True))
        first.must_enter()
        mine = held(kit, alone=alone)
        stopped, third = start(mine), start(held(kit))

        mine.stop(JobCanceled("stop"))

        assert isinstance(stopped.leave(), JobCanceled)
        assert not stopped.entered.is_set()
        assert not third.is_inside
        first.leave()
        third.must_enter()


def test_one_that_was_stopped_before_does_not_even_ask(kit, seats):
    mine = held(kit, alone=True)
    mine.stop(JobCanceled("stop"))

    with pytest.raises(JobCanceled), seats.taken(mine):
        pytest.fail("it rode")

    assert kit.redis.get(f"{PREFIX}solo:w1") is None


def test_nobody_rides_alone_under_a_lease_that_is_another_ones_now(kit, seats):
    mine = held(kit, alone=True)
    kit.store.give_back(mine.lease.job_id, mine.lease.token)

    with pytest.raises(LeaseLost), seats.taken(mine):
        pytest.fail("it rode")

    with seats.taken(held(kit)):
        pass


def unreachable() -> JobStore:
    return JobStore(connect("redis://127.0.0.1:1/0"), Settings())


def test_nobody_rides_alone_while_redis_can_not_be_told(kit):
    """The others wait as long as its lease at most, which nobody renewed."""
    seats = Seats(unreachable(), "w1")

    with pytest.raises(LeaseLost), seats.taken(held(kit, alone=True, age=29.7)):
        pytest.fail("it rode")

    with seats.taken(held(kit)):
        pass


def test_one_that_waits_for_redis_can_be_stopped(kit):
    seats = Seats(unreachable(), "w1")
    with guests(seats) as start:
        mine = held(kit, alone=True)
        waiting = start(mine)

        mine.stop(JobCanceled("stop"))

        assert isinstance(waiting.leave(), JobCanceled)
