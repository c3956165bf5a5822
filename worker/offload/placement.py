"""From a pipeline and a budget to weights in their places: assemble, measure, plan, place, check what came of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.offload import allowance, decoding
from worker.offload.apart import Pool
from worker.offload.card_memory import is_out_of_memory
from worker.offload.compiling import CompiledForms
from worker.offload.device import Device
from worker.offload.experience import Experience
from worker.offload.gauge import Gauge
from worker.offload.host_memory import give_back_freed
from worker.offload.parking import Lot, fitting_lot
from worker.offload.plan import UNLIMITED, Facts, ImpossibleBudget, Plan, gib
from worker.offload.planner import bare_plan, fits_in_place
from worker.offload.planning import Planning
from worker.offload.stock import Stock
from worker.offload.stopwatch import Stopwatch
from worker.offload.ticket import Order, TicketCanceled, let_go_of_frames
from worker.offload.warm_up import WarmUp
from worker.offload.weights import Weights

if TYPE_CHECKING:
    from worker.offload.carousel import Options

logger = logging.getLogger(__name__)

#: Plans tried until one keeps its word.
CORRECTIONS = 12


class Unplaced(RuntimeError):
    """Raised when no plan is in its place any more."""


class Placement(Planning):
    """A pipeline's parts in their places. `ride` draws pictures, some at the same time, here and now."""

    def __init__(
        self,
        pipe: Any,
        budget: int,
        device: Device,
        options: Options,
        ride: Callable[[list[Order]], None],
        *,
        watch: Stopwatch,
    ) -> None:
        super().__init__(Stock(pipe, device, options, watch), budget, device, options)
        self._ride = ride
        self.gauge: Gauge | None = None
        self._warm_up = WarmUp(pipe, options, ride, watch, device.trim_host)
        self._pool_bytes = 0  # that the pool of blocks and decode is known to need
        self._short = 0  # of what was missed, what errors for want of memory have shown while jobs rode
        self.plan: Plan
        self.weights: Weights | None = None
        self.lot: Lot | None = None
        self._is_open = False
        self.was_remembered = False
        self.owed: list[Order] = []  # pictures to ride behind the first tickets, before `keeps_its_word`
        self.watch = watch
        self.corrections = 0

    def open(self) -> None:
        """Take the pipeline apart and put everything where the plan says."""
        try:
            self._open()
        except Exception:
            self._forget_relied()  # else the next start would meet the same again
            raise

    def _open(self) -> None:
        stock = self.stock
        stock.open_forms()
        with self.watch.part("weights"):
            in_place = self._move_weights()
        with self.watch.part("gates"):
            stock.close_gates(self._pool)
            decoding.close_decoder(self.assembly, stock.forms, lambda: self.plan.decode_mode, self._wished_decode())
        self.was_remembered = not in_place and self._remember()
        measures = self._device.is_cuda and not in_place and not self.was_remembered
        self.assembly.cache.rests = measures
        with self.watch.part("first rides"):
            if measures:
                self._measure()
            else:
                with self.watch.part("placing"):
                    self._place(self._plan_or_refuse(self._asked_beyond))
                if self._trusted is not None:
                    self._hold(self._trusted)
                    self.owed, self._is_open = self._warm_up.everything(), True
                    return
                self._ride_first()
        if stock.forms is not None:
            self._ride_unnamed(stock.forms)
        self.assembly.cache.rests = False
        if measures:
            with self.watch.part("placing"):
                self._place(self._plan_or_refuse(self._asked_beyond))
        with self.watch.part("settling"):
            self.settle()
        self._is_open = True

    def keeps_its_word(self, has_failed: bool = False) -> bool:
        """Compare the process with the budget when all that was owed has ridden; False: `settle` it.

        Others may ride meanwhile. `has_failed`: not all of it could be drawn, so the next start finds out anew.
        """
        is_kept = self._device.process_bytes() + allowance.LATER_KERNELS // 2 <= self.budget  # the limit binds the rest
        self._trusted = None
        if is_kept:
            self._keep_word()
        if not is_kept or has_failed or self._short:
            self._notebook.forget()
            self._forget_relied()  # of another budget, maybe
        return is_kept

    def plan_again(self) -> None:
        """Nobody rides, and the process was found over its budget: `settle` as at a start."""
        allowance.lift(self._device)
        self._is_open = False
        self.settle()
        self._is_open = True

    def forget(self) -> None:
        """What was relied on ended in an error: the next start finds out anew."""
        if self._trusted is not None:
            self._forget_relied()

    def _move_weights(self) -> bool:
        """Fixed parts to the device and blocks into host memory; True where they all stay in place instead."""
        self.stock.move_fixed_parts()
        self._facts = self._assumed_facts()
        in_place = fits_in_place(self.assembly.facts(self._options.steps), self.budget, self._facts, self._wishes)
        self.stock.fill(in_place=in_place)
        return in_place

    def shrink(self) -> None:
        """Free what is cached, and plan with a resident less, or with fewer riders; the way of decoding stays.

        Nothing more to give: the plan stays. While it is being set up it stays too. Raises what the card said where no
        plan could be placed any more: nothing lies in its place then.
        """
        self._device.trim()
        before, step = self.plan, max((block.carried_bytes for block in self.assembly.blocks), default=0)
        if not self._is_open or before.in_place:
            return
        self._decode, failure = before.decode_mode, None
        for _ in range(CORRECTIONS):
            self._missed += step
            try:
                plan = self._make_plan()
                if (plan.resident_bytes, plan.seats) != (before.resident_bytes, before.seats):
                    self._short = self._missed
                    if self._trusted is not None:
                        self._forget_relied()
                    logger.warning("out of memory: planned again with %d residents", len(plan.residents))
                    self._place_within(plan)
                    return
            except ImpossibleBudget:
                self._missed -= step
                break
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                let_go_of_frames(error)
                failure = error
        if failure is not None:
            raise failure

    def rebudget(self, budget: int) -> None:
        """Plan and place anew. Raises what went wrong, ImpossibleBudget for one, and the old plan is in force again.

        Raises Unplaced where not even that could be placed: nothing may ride any more.
        """
        before = self.plan, self.budget, self._missed, self._decode, self._seats, self._short
        figures = self._facts, self._has_figures
        allowance.lift(self._device)
        self.budget, self._missed, self._decode = budget, self._short, self._wished_decode()
        self._seats, self.was_remembered = self._options.seats, False
        try:
            self._place(self._plan_or_refuse(self._asked_beyond))
            self.settle()
        except TicketCanceled:
            raise  # closed meanwhile: all of it is taken down
        except BaseException as error:
            plan, self.budget, self._missed, self._decode, self._seats, self._short = before
            self._facts, self._has_figures = figures
            let_go_of_frames(error)
            self._go_back(plan, error)
            raise

    def _go_back(self, plan: Plan, error: BaseException) -> None:
        try:
            if self.plan is not plan or is_out_of_memory(error):
                self._place_within(plan)
            self._grant()
        except Exception as failure:
            text = f"no plan can be placed any more: {type(failure).__name__}: {failure}"
            raise Unplaced(text) from error

    def close(self) -> None:
        """Put the pipeline together as it was, unless it is used up."""
        allowance.lift(self._device)  # weights that came from the card go back there, all of them
        self._device.synchronize()
        untouched = self.weights is None or (bool(self.plan.in_place) and not self._device.is_cuda)
        if self._options.puts_back:
            self.assembly.put_together(weights_in_place=untouched and self.assembly.host is None)
        else:
            self.assembly.let_go()
        if self.weights is not None:
            self.weights.drop()
        if self.lot is not None:
            self.lot.close()
        self._device.trim()

    @property
    def forms(self) -> dict[str, int]:
        return self.stock.forms.counts if self.stock.forms is not None else {}

    def _pool(self) -> Pool | None:
        return self.weights.pool if self.weights is not None else None

    def _measure(self) -> None:
        """See what the pipeline takes with the decode that the budget seems to allow, then with the one it does."""
        try:
            mode = self._make_plan().decode_mode
        except ImpossibleBudget:
            mode = "strips" if self._decode == "auto" else self._decode
        self._facts = self._measured(mode)
        with contextlib.suppress(ImpossibleBudget):
            planned = self._make_plan().decode_mode
            if planned != mode:
                self._facts = self._measured(planned)

    def _measured(self, mode: str) -> Facts:
        """Ride with nothing resident: the longest picture shows the memory, a usual one the times."""
        bare = bare_plan(self._make_plan(budget=UNLIMITED, residents=0))
        self._place(replace(bare, decode_mode=mode))
        allowance.note_peak(self._device, self.budget)
        self._warm_up.named()
        weights = self.weights
        assert weights is not None
        gauge = self.gauge = Gauge(self._device, weights.arena_bytes, weights.lent_bytes)
        gauge.begin()
        try:
            with self.watch.part("gauged"):
                self._ride([self._warm_up.longest()])
                gauge.forget_times()
                self._ride([self._warm_up.usual()])
        finally:
            self.gauge = None  # else it would note each later turn
        largest = {block.stop.stage: block for block in sorted(self.assembly.blocks, key=lambda b: b.carried_bytes)}
        sample = max(largest.values(), key=lambda block: block.carried_bytes).host
        assert sample is not None
        unpacking = {stage: weights.unpacking_seconds(block) for stage, block in largest.items()}
        facts = gauge.facts(self._device.measure_bandwidth(sample), unpacking)
        known, self._has_figures = self._facts, True
        if mode == "strips":
            return replace(facts, strips=facts.decode, decode=known.decode)
        return replace(facts, strips=known.strips)

    @property
    def _rides_first(self) -> bool:
        """Whether there is something to compile, or a card that first rides change."""
        return self._device.is_cuda or self.stock.forms is not None

    def _ride_first(self) -> None:
        """A full house of everything where an earlier start has compiled, measured and tried the plan."""
        if self.was_remembered and self._rides_first:
            self._warm_up.together(self.plan.seats)
        elif self._rides_first:
            self._warm_up.named()

    def _ride_unnamed(self, forms: CompiledForms) -> None:
        forms.freeze()
        if not self.was_remembered:
            allowance.note_peak(self._device, self.budget)  # measuring has begun the record anew
            with self.watch.part("unnamed sizes"):
                self._warm_up.unnamed()
        forms.note_used()

    def settle(self) -> None:
        """Ride as many as will ride, compare the process with the budget, and plan again with what was missed.

        Only a plan that kept the process in the budget becomes ready; raises ImpossibleBudget if there is none.
        """
        if not self._device.tells_memory:
            return
        for _ in range(CORRECTIONS):
            over = self._overdraft()
            if over <= 0:
                self._keep_word()
                return
            logger.info("%.2f GiB too much: planning again", over / 2**30)
            self.corrections += 1
            self.was_remembered = False
            self._place(self._corrected(over + allowance.SPARE))
        least = self.plan.least_budget + over
        text = (
            f"the process stays {gib(over)} over its budget, however little is resident: it needs at least {gib(least)}"
        )
        raise ImpossibleBudget(text, least)

    def _keep_word(self) -> None:
        """Hold the allocator to what the budget leaves it, and note what the next start need not find out."""
        held = self._device.process_bytes()
        logger.info("%s of %s held, %s predicted at most", gib(held), gib(self.budget), gib(self.plan.predicted_peak))
        forms, outside, pool = self.stock.forms, allowance.outside_bytes(self._device), self._device.pool_bytes()
        self._pool_bytes = pool
        known = Experience(self._facts, self._missed, self._decode, self._seats, outside_bytes=outside, pool_bytes=pool)
        if forms is not None:
            is_all = self._trusted is None  # else some rides are still owed
            forms.note_used(is_all=is_all)
            known = replace(known, layouts=forms.layouts, forms=forms.receipt if is_all else ())
        if self._has_figures:  # of what lay in place nothing was measured
            self._notebook.write(known)
        self._grant()
        give_back_freed()  # of loading

    def _excess(self) -> int:
        """Bytes by which the process is over its budget, what may still come included."""
        return self._device.process_bytes() + allowance.growth(self.plan.seats) - self.budget

    def _asked_beyond(self) -> int:
        """Bytes that `settle` would ask for beyond a plan for one rider, as far as the process shows them.

        What the allocator has cached is no part of it: the plan has a figure for what rides take.
        """
        if not self._device.tells_memory:
            return 0
        weights = 0
        if self.weights is not None:
            weights = self.plan.resident_bytes if self.plan.in_place else self.weights.arena_bytes
        planned = self._facts.context + self._facts.fixed + weights
        held = allowance.outside_bytes(self._device) + self._device.allocated_bytes()
        return max(held - planned, 0) + allowance.untried()

    def _hold(self, known: Experience) -> None:
        """Hold the allocator to what an earlier start left it; it took what it needs already."""
        self._pool_bytes = known.pool_bytes
        allowance.hold(self._device, self.budget, known.outside_bytes, self._pool(), self._pool_room)

    def _place_within(self, plan: Plan) -> None:
        """Place without rides, never beyond the budget: a new pool gets the last one's room, as it may not grow."""
        allowance.bound(self._device, self.budget, self._outside)
        self._place(plan)
        try:
            allowance.take_room(self._device, self._pool(), self._pool_room)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("the new plan's pool has less room than the last one's: %s", error)
        allowance.bound(self._device, self.budget, self._outside)  # of what the smaller plan holds

    @property
    def _pool_room(self) -> int:
        """What the pool needs beside what is lent."""
        return max(self._pool_bytes - (self.weights.lent_bytes if self.weights is not None else 0), 0)

    @property
    def _outside(self) -> int:
        """Bytes that will lie beside the allocator at least: some kernels are not loaded yet."""
        return self._trusted.outside_bytes if self._trusted is not None else 0

    def _grant(self) -> None:
        allowance.grant(self._device, self.budget, self._pool(), self._outside)

    def _overdraft(self) -> int:
        """Bytes that the process takes too much when the house is full, as it was already on a remembered plan."""
        seats = self.plan.seats
        warm_up, rides = self._warm_up, list[Callable[[], None]]([lambda: None])
        if self._rides_first and not self.was_remembered:
            rides = [lambda: warm_up.house(seats), lambda: warm_up.mixed(seats, 2 * seats), warm_up.named]
        over = 0
        for ride in rides:
            ride()
            over = self._excess()
            if over > 0:
                break
        return over

    def _corrected(self, missed: int) -> Plan:
        """A plan with so much less; where residents have no more to give a lone rider, and at last strips."""
        before = self.plan
        tries = [(self._seats, self._missed + missed)]
        if before.seats > 1 and self._options.places is None:
            tries.append((1, 0))  # company's memory is company's alone
            if before.decode_mode == "plain" and before.lends_ring:
                del tries[0]  # nothing is resident that does not yield: company is what there is to give
        for seats, lost in tries:
            with contextlib.suppress(ImpossibleBudget):
                plan = self._make_plan(missed=lost, seats=seats)
                if plan.decode_mode == before.decode_mode:
                    self._missed, self._seats = lost, seats
                    return plan
        if before.decode_mode != "plain" or self._decode != "auto":
            self._missed += missed
            return self._plan_or_refuse(lambda: 3 * allowance.SPARE)
        self._decode, self._missed, self._seats = "strips", 0, self._options.seats
        self.stock.fill_late()  # what lay in place is measured as it is carried
        if self._device.is_cuda:
            self._facts = self._measured("strips")
        return self._plan_or_refuse(self._asked_beyond)

    def _place(self, plan: Plan) -> None:
        if not plan.in_place and self.stock.fill_late():
            plan = self._make_plan()  # the last one knew no packed sizes
        if self.weights is not None and plan.in_place and plan.in_place == self.plan.in_place:
            self.weights.adopt(plan)  # what lies in place may have no other copy
            self.plan = plan
            return
        if self.weights is not None:
            self.weights.drop()
            self._device.trim()
        self.plan = plan
        self.weights = Weights(self._device, plan, self.assembly.blocks, self._options.poison)
        self._open_lot(plan)

    def _open_lot(self, plan: Plan) -> None:
        """Host memory for parked states; on the CPU only where the caller wants some parked."""
        if not plan.in_place and (self._device.is_cuda or self._options.places):
            self.lot = fitting_lot(self._device, plan, self.lot)
        if self.lot is not None:
            self.lot.places, self.lot.shared = plan.places, self.assembly.storages()
