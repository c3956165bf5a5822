"""The engine's thread: sets up, turns the table, serves riders, and takes everything down."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from greenlet import getcurrent

from worker.offload.apart import Pool
from worker.offload.blocks import Stop
from worker.offload.boarding import Boarding, canceled_in
from worker.offload.card_memory import is_out_of_memory
from worker.offload.device import Device
from worker.offload.errand import Errand
from worker.offload.herald import Herald
from worker.offload.house import House
from worker.offload.marks import Landing, Lead
from worker.offload.placement import Placement, Unplaced
from worker.offload.plan import Plan
from worker.offload.report import report_of
from worker.offload.rider import Rider, draw_picture
from worker.offload.stopwatch import Stopwatch
from worker.offload.ticket import CarouselEnded, Order, Ticket, TicketCanceled, let_go_of_frames
from worker.offload.turn import Turntable

if TYPE_CHECKING:
    from worker.offload.carousel import Options

logger = logging.getLogger(__name__)

#: Turns to look ahead for blocks to fetch.
HORIZON = 12
#: Starts after errors for want of memory, each with a smaller plan, before a ticket fails.
RETRIES = 3


class Engine(threading.Thread):
    """Everything that touches the pipeline or the device runs in this one thread."""

    def __init__(
        self, pipe: Any, budget: int, device: Device, options: Options, watch: Stopwatch | None = None
    ) -> None:
        super().__init__(name="carousel", daemon=True)
        self._pipe, self._budget, self._device, self._options = pipe, budget, device, options
        self._change = threading.Condition()
        self._line: list[Ticket] = []
        self._again: list[Ticket] = []  # met an out-of-memory error
        self._riders: list[Rider] = []
        self._boarding = Boarding()
        self._errands: list[Errand] = []  # between turns
        self._quiet_errands: list[Errand] = []  # when nobody rides
        self._trial: list[Ticket] = []  # of a plan: nobody else boards while they ride
        self._is_closing = False
        self._ready, self._settled = threading.Event(), threading.Event()
        self._house: House | None = None  # rides that the start still owes
        self._must_plan_again = False  # as soon as nobody rides: the process was found over its budget
        self._failure: BaseException | None = None
        self._close_failure: BaseException | None = None
        self._landings: list[Landing] = []
        self.shortages = 0
        self._unplaced: Unplaced | None = None
        self._shortages = 0  # of memory between rides, one after another, that no smaller plan could help
        self._herald = Herald()
        self._lead = Lead()
        self._turns = self._pictures = self._rides = 0
        self._placement: Placement | None = None
        self._watch = watch or Stopwatch()
        self.progress_stamp = time.monotonic()

    # Called from other threads

    def start(self) -> None:
        """Start and wait until the carousel is ready; raises what went wrong."""
        super().start()
        try:
            self._ready.wait()
        except BaseException:  # Ctrl-C: nobody will have the carousel, so nobody could close it
            self._close_soon()
            raise
        if self._failure is not None:
            self.join()
            raise self._failure

    @property
    def plan(self) -> Plan:
        assert self._placement is not None
        return self._placement.plan

    @property
    def in_flight(self) -> int:
        return len(self._line) + len(self._riders) + len(self._again)

    @property
    def has_drawn(self) -> bool:
        return self._pictures > 0 or (self._placement is not None and self._placement.was_remembered)

    @property
    def has_ended(self) -> bool:
        """Something went wrong that nobody's ticket caused: nothing rides any more."""
        return self._failure is not None

    @property
    def is_settled(self) -> bool:
        return self._settled.is_set()

    def settle(self, timeout: float | None) -> None:
        """Wait until nothing is owed any more; raises TimeoutError, or what ended the carousel."""
        if not self._settled.wait(timeout):
            raise TimeoutError(f"the carousel did not settle within {timeout} s")
        if self._failure is not None:
            self._refuse_if_over()

    def enter(self, ticket: Ticket) -> Ticket:
        """Put a ticket in line."""
        with self._change:
            self._refuse_if_over()
            self._line.append(ticket)
            ticket.when_canceled(self._wake)
            self._change.notify()
        return ticket

    def refresh(self, timeout: float) -> None:
        """Upload the residents again between two turns, and forget what was computed of prompts."""

        def upload() -> None:
            if self._placement is not None and self._placement.weights is not None:
                self._placement.assembly.cache.forget()  # also where the residents can not be had anew
                self._placement.weights.refresh()

        self._send(Errand(upload), self._errands).wait(timeout, "the carousel did not come to a turn's end in time")

    def rebudget(self, budget: int, timeout: float) -> None:
        """Plan anew for `budget` bytes as soon as nobody rides; raises ImpossibleBudget and keeps the old plan."""

        def plan() -> None:
            assert self._placement is not None
            try:
                self._placement.rebudget(budget)
            except Unplaced as error:
                self._unplaced = error
                raise

        self._send(Errand(plan), self._quiet_errands).wait(timeout, "the rides did not end in time")

    def _send(self, errand: Errand, errands: list[Errand]) -> Errand:
        with self._change:
            self._refuse_if_over()
            errands.append(errand)
            self._change.notify()
        return errand

    def _refuse_if_over(self) -> None:
        if self._failure is not None:
            raise CarouselEnded.by(self._failure)
        if self._is_closing:
            raise TicketCanceled("the carousel is closed")

    def stop(self, timeout: float) -> None:
        self._herald.excuse()
        self._close_soon()
        self.join(timeout)
        if self.is_alive():
            raise TimeoutError("the carousel's thread did not stop in time")
        if self._close_failure is not None:
            raise self._close_failure

    def _close_soon(self) -> None:
        with self._change:
            self._is_closing = True
            self._change.notify()

    def report(self) -> dict[str, Any]:
        counts = {"turns": self._turns, "pictures": self._pictures, "out_of_memory": self.shortages}
        return counts | report_of(self._device, self._placement, self._watch)

    def _wake(self) -> None:
        with self._change:
            self._change.notify()

    def run(self) -> None:
        try:
            self._device.enter_thread()
            torch.set_grad_enabled(False)  # of this thread, once: a rider's no_grad() then changes nothing for others
            self._herald.start()
            self._set_up_and_turn()
        except BaseException as error:
            if self._failure is None and not self._ready.is_set():
                self._failure = error  # whoever waits for the start is told
            else:
                logger.exception("the carousel could not be taken down")
                self._close_failure = error  # whoever closes it is told
        finally:
            self._settled.set()
            self._ready.set()  # also where what was begun could not even be taken down
            self._herald.close()

    def _set_up_and_turn(self) -> None:
        try:
            with self._watch.part("assembly"):
                self._placement = Placement(
                    self._pipe, self._budget, self._device, self._options, self._ride_now, watch=self._watch
                )
            self._table = Turntable(self._placement.assembly.route)
            self._placement.open()
        except BaseException as error:
            self._failure = error
            self._take_down()
            self._settled.set()
            self._ready.set()
            return
        if self._placement.owed:
            self._house = House(self._placement.owed)
        else:
            self._settled.set()
        self._ready.set()
        try:
            self._turn_until_closed()
        except TicketCanceled:  # closed while it planned again
            pass
        except BaseException as error:  # of the engine's own work, which nobody's ticket caused
            logger.exception("the carousel ends")
            let_go_of_frames(error)
            self._failure = error
            self._placement.forget()
        self._take_down()

    def _turn_until_closed(self) -> None:
        while not self._is_closing:
            if self._house is not None:
                self._see_to_house(self._house)
            if self._must_plan_again and not self._riders:
                self._plan_again()
            with self._change:
                if not (self._line or self._riders or self._errands or self._quiet_errands or self._is_closing):
                    self._change.wait()
                errands = self._errands[:]
                self._errands.clear()
                if not self._riders:
                    errands += self._quiet_errands
                    self._quiet_errands.clear()
            for errand in errands:
                errand.run()
            if self._unplaced is not None:
                raise self._unplaced
            self._turn_once()

    def _see_to_house(self, house: House) -> None:
        """Put the next ride that is owed in line; after the last compare the process with its budget."""
        assert self._placement is not None
        if (ticket := house.next()) is not None:
            with self._change:
                self._line.append(ticket)
        elif house.is_over:
            self._house = None
            self._must_plan_again = not self._placement.keeps_its_word(house.has_failed)
            if not self._must_plan_again:
                self._settled.set()

    def _plan_again(self) -> None:
        """Nobody rides: correct the plan as a start does that was not remembered; what goes wrong ends the carousel."""
        assert self._placement is not None
        self._placement.plan_again()
        self._must_plan_again = False
        self._settled.set()

    def _turn_once(self) -> None:
        """One turn; where memory is short, plan with less and let those who met it start again."""
        shortage: Exception | None = None
        try:
            self._turn()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._note_shortage("between rides", error)
            let_go_of_frames(error)
            shortage = error
        if shortage is not None or self._again:
            has_helped = self._relieve()
            self._shortages = 0 if shortage is None or has_helped else self._shortages + 1
            if shortage is not None and self._shortages > RETRIES:
                self._fail_riders(shortage)
        else:
            self._shortages = 0

    def _note_shortage(self, when: str, error: BaseException) -> None:
        self.shortages += 1
        logger.error("out of memory %s, to be tried again: %s", when, error)

    def _relieve(self) -> bool:
        """Whether there is a smaller plan now."""
        assert self._placement is not None
        before = self._placement.plan
        self._placement.shrink()
        with self._change:
            self._line[:0], self._again = self._again, []
        return self._placement.plan is not before

    def _fail_riders(self, shortage: Exception) -> None:
        """Nothing helps: whoever rides is told, and those in line have their own tries."""
        self._shortages = 0
        for rider in list(self._riders):
            rider.ticket.retries = RETRIES
            self._resume(rider, shortage)

    def _turn(self) -> None:
        """Admit, drop who cancelled, serve one stop."""
        self._landings = [landing for landing in self._landings if not landing.let_go()]
        self._admit()
        for rider in [rider for rider in self._riders if rider.ticket.canceled]:
            self._resume(rider, TicketCanceled("the ticket was cancelled"))
        group = self._table.turn(self._riders)
        if group:
            self._serve(group)
        self.progress_stamp = time.monotonic()

    def _serve(self, group: list[Rider]) -> None:
        """One turn: its weights made ready, the next ones' copies started, its riders run."""
        placement, stop = self._placement, group[0].stop
        assert placement is not None and placement.weights is not None and stop is not None  # noqa: PT018
        weights, gauge = placement.weights, placement.gauge
        self._turns += 1
        if stop.block is None:
            weights.lend()
        else:
            weights.prepare(stop.block)
        upcoming = [later.block for later in self._table.ahead(self._riders, group, HORIZON) if later.block]
        weights.prefetch(upcoming)
        if gauge is not None:
            gauge.before(stop)
        self._let_ride(group, stop, weights.pool if stop.block is None else None)
        if gauge is not None:
            gauge.after(stop)
        if stop.block is None:
            weights.retake()
            weights.prefetch(upcoming)
        weights.forget_scratch()

    def _let_ride(self, group: list[Rider], stop: Stop, pool: Pool | None) -> None:
        lot = self._placement.lot if self._placement is not None else None
        group = lot.order(group) if lot is not None else group
        for rider, following in zip(group, [*group[1:], None], strict=True):
            if lot is not None:
                lot.seat(rider, following, self._riders)
            rider.fresh = rider.fresh and stop.stage != self._table.route.looping
            with contextlib.nullcontext() if pool is None else pool():
                self._resume(rider)
            self._lead.follow(self._device.mark())

    def _resume(self, rider: Rider, error: BaseException | None = None) -> None:
        """Let a rider run to its next stop, or its end; throw `error` into it."""
        rider.stop = None
        if error is not None and self._placement is not None and self._placement.lot is not None:
            self._placement.lot.forget(rider, self._riders)
        try:
            pixels = rider.ride(error)
            landing = self._device.land(pixels) if rider.dead else None
        except BaseException as failure:
            let_go_of_frames(failure)
            if is_out_of_memory(failure) and rider.ticket.retries < RETRIES:
                self._note_shortage("in a ride", failure)
                rider.ticket.retries += 1
                self._again.append(rider.ticket)
            else:
                rider.ticket.fail(failure)
        else:
            if landing is None:
                rider.left = self._device.mark()
                return
            self._pictures += 1
            self._landings.append(landing)
            rider.ticket.finish(landing, rider.decode_mode)
        with self._change:
            self._riders.remove(rider)

    def _admit(self) -> None:
        """Seat the tickets whose turn it is, and let each ride to its first stop."""
        while True:
            with self._change:
                ticket = self._next_in_line()
                if ticket is None:
                    return
                self._line.remove(ticket)
                if ticket.canceled:
                    ticket.fail(TicketCanceled("the ticket was cancelled"))
                    continue
                self._boarding.note(ticket, self._line, self._trial)
                rider = Rider(ticket, ticket.order.steps, self._draw, getcurrent())
                self._riders.append(rider)
            self._resume(rider)

    def _next_in_line(self) -> Ticket | None:
        is_waited_for = self._must_plan_again or any(errand.is_wanted for errand in self._quiet_errands)
        if is_waited_for and not self._trial:
            return canceled_in(self._line)
        return self._boarding.next_of(self._line, self._riders, self.plan.seats, self._trial)

    def _draw(self, rider: Rider) -> torch.Tensor:
        assert self._placement is not None
        return draw_picture(rider, self._pipe, self._device, self._placement.assembly.cache, self._herald.tell)

    # Setting up and taking down

    def _ride_now(self, orders: list[Order]) -> None:
        """Draw these pictures before doing anything else (warm-up and measuring): all others wait."""
        tickets = self._trial = [Ticket(order) for order in orders]
        self._line += tickets
        try:
            while not all(ticket.done() for ticket in tickets):
                if self._is_closing:
                    raise TicketCanceled("the carousel was closed")
                self._turn_once()
        finally:
            self._end_trial()
        for ticket in tickets:
            ticket.result(60)

    def _end_trial(self) -> None:
        """What rode in it leaves, wherever it is: the plan that is in force next has nothing to do with it."""
        tickets, self._trial = self._trial, []
        with self._change:
            self._line = [ticket for ticket in self._line if ticket not in tickets]
        for rider in [rider for rider in self._riders if rider.ticket in tickets]:
            with contextlib.suppress(Exception):
                self._resume(rider, TicketCanceled("the plan is not tried any more"))
        self._again = [ticket for ticket in self._again if ticket not in tickets]

    def _take_down(self) -> None:
        """Cancel everybody, or tell them what ended the carousel, and restore the pipeline."""
        failure = self._failure
        reason = TicketCanceled("the carousel was closed") if failure is None else CarouselEnded.by(failure)
        for rider in list(self._riders):
            with contextlib.suppress(Exception):  # a lost card refuses even that
                self._resume(rider, reason)
            rider.ticket.fail(reason)
        with self._change:
            self._is_closing = True
            line, self._line, self._again = [*self._again, *self._line], [], []
        for ticket in line:
            ticket.fail(reason)
        for errand in (*self._errands, *self._quiet_errands):
            errand.give_up(reason)
        if self._placement is not None:
            self._placement.close()
