"""From a pipeline and a budget to weights in their places: assemble, measure, plan, place, check what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.offload.assembly import Assembly
from worker.offload.compiling import CompiledForms
from worker.offload.device import Device
from worker.offload.gauge import Gauge
from worker.offload.parking import Lot
from worker.offload.plan import UNLIMITED, Facts, ImpossibleBudget, Plan, Wishes, bare_plan, fits_in_place, make_plan
from worker.offload.strategies import find_strategy
from worker.offload.text import prompt_of_length
from worker.offload.ticket import Order
from worker.offload.weights import Weights

if TYPE_CHECKING:
    from worker.offload.carousel import Options

logger = logging.getLogger(__name__)

#: What the allocator's cache was seen to grow by in later rides of other company (0.02-0.08 GiB on an H100).
GROWTH = 48 << 20
#: Added to what a plan missed, so that planning again does not miss by a little.
SPARE = 32 << 20
#: Steps of a picture ridden at warm-up: the second step is the first that uses what was kept of the prompt.
WARM_UP_STEPS = 2
#: Host memory for parked states where nothing was measured.
SMALLEST_LOT = 4 << 20


#: Longer than any text encoder reads.
OVERLONG = "and more " * 700


class Placement:
    """A pipeline's parts in their places. `ride` draws pictures, some at the same time, here and now."""

    def __init__(
        self, pipe: Any, budget: int, device: Device, options: Options, ride: Callable[[list[Order]], None]
    ) -> None:
        self._pipe, self.budget, self._device, self._options, self._ride = pipe, budget, device, options, ride
        strategy = options.strategy or find_strategy(pipe, options.strategy_file)
        self.assembly = Assembly(pipe, strategy, device)
        self.gauge: Gauge | None = None
        self._forms: CompiledForms | None = None
        self._rides = 0
        self._facts: Facts
        self.plan: Plan
        self.weights: Weights | None = None
        self.lot: Lot | None = None

    def open(self) -> None:
        """Take the pipeline apart and put everything where the plan says."""
        options, assembly = self._options, self.assembly
        assembly.move_fixed_parts()
        self._facts = self._assumed_facts()
        in_place = fits_in_place(assembly.facts(options.steps), self.budget, self._facts, self._wishes)
        if not in_place:
            assembly.fill_host(self._packs, options.identity, options.weights_cache)  # the plan needs the packed sizes
        self._close_gates()
        if in_place or not self._device.is_cuda:
            self._place(self._make_plan())
            self._warm_up()
        else:
            self._measure()
            self._settle()
        if self._forms is not None:
            self._forms.freeze()
            self._ride_unnamed()

    def rebudget(self, budget: int) -> None:
        """Plan and place anew; raises ImpossibleBudget and goes back to the old plan."""
        old_budget, old_plan, self.budget = self.budget, self.plan, budget
        try:
            self._place(self._make_plan())
            self._settle()
        except ImpossibleBudget:
            self.budget = old_budget
            if self.plan is not old_plan:
                self._place(old_plan)
            raise

    def close(self) -> None:
        """Put the pipeline together as it was."""
        self._device.synchronize()
        untouched = self.weights is None or (bool(self.plan.in_place) and not self._device.is_cuda)
        self.assembly.put_together(weights_in_place=untouched and self.assembly.host is None)
        if self.weights is not None:
            self.weights.drop()
        if self.lot is not None:
            self.lot.close()
        self._device.trim()

    def _close_gates(self) -> None:
        choice = self._options.compile
        compiles = choice == "on" or (choice == "auto" and self._device.is_cuda)
        self._forms = CompiledForms(self.assembly.strategy, self._options.compile_backend) if compiles else None
        self.assembly.close_gates(self._forms.of if self._forms else lambda block: None)
        decoder = getattr(getattr(self._pipe, self.assembly.strategy.decoder), "decoder", None)
        if self._forms is not None and decoder is not None:
            self.assembly.gates.replace(decoder, "forward", self._forms.both(decoder.forward))

    def _measure(self) -> None:
        """Ride once with nothing resident and see what it takes."""
        self._place(bare_plan(self._make_plan(budget=UNLIMITED, residents=0)))
        self._warm_up()
        assert self.weights is not None
        gauge = Gauge(self._device, self.weights.arena_bytes, self.weights.lent_bytes)
        gauge.begin()
        self.gauge = gauge
        self._ride([self._longest()])
        self.gauge = None
        sample = max(self.assembly.blocks, key=lambda block: block.carried_bytes).host
        assert sample is not None
        self._facts = gauge.facts(self._device.measure_bandwidth(sample))
        self._place(self._make_plan())

    def _settle(self) -> None:
        """Ride as many as will ride, compare the process with the budget, and plan again with what was missed."""
        self._warm_up()
        facts = self._facts
        for _ in range(6):
            over = self._device.process_bytes() + GROWTH - self.budget
            if over <= 0 or self.plan.in_place:
                return
            logger.info("%.2f GiB too much: planning again", over / 2**30)
            facts = replace(facts, reserve=facts.reserve + over + SPARE)
            self._place(self._make_plan(facts))
            self._warm_up()

    def _place(self, plan: Plan) -> None:
        if not plan.in_place and self.assembly.host is None:
            self.assembly.fill_host(self._packs, self._options.identity, self._options.weights_cache)
        if self.weights is not None:
            self.weights.drop()
            self._device.trim()
        self.plan = plan
        self.weights = Weights(self._device, plan, self.assembly.blocks, self._options.poison)
        self._open_lot(plan)

    def _open_lot(self, plan: Plan) -> None:
        """Host memory for parked states; on the CPU only where the caller wants some parked."""
        if plan.in_place or not (self._device.is_cuda or self._options.places):
            return
        nbytes = max(plan.parked_bytes, SMALLEST_LOT)
        if self.lot is not None and (self.lot.nbytes >= nbytes or self.lot.is_used):
            self.lot.places = plan.places
            return
        if self.lot is not None:
            self.lot.close()
        self.lot = Lot(self._device, plan.places, nbytes, None if self._device.is_cuda else 1)

    def _warm_up(self) -> None:
        """Ride every size and caption length that was named, then a full house: nothing new happens afterwards."""
        if not self._device.is_cuda and self._forms is None:
            return
        for height, width in self._options.warm_up:
            for tokens in self._options.captions:
                self._ride([self._order(height, width, tokens)])
        self._ride([self._longest() for _ in range(self.plan.seats)])
        height, width = self._options.warm_up[0]
        lengths = [self._options.captions[at % len(self._options.captions)] for at in range(2 * self.plan.seats)]
        self._ride([self._order(height, width, tokens) for tokens in lengths])

    def _ride_unnamed(self) -> None:
        """Sizes and lengths that were not named compile their common form now; so does a prompt that is too long."""
        height, width = min(self._options.warm_up)
        odd = (height, max(width - 32, 32)) if height == width else (min(height, width), max(height, width))
        order = self._order(*odd, max(min(self._options.captions) - 64, 40))
        self._ride([order])
        for prompt in (order.prompt, "a"):  # longer than the empty second prompt, and as long
            self._ride([replace(order, prompt=prompt, guidance_scale=2.0)])
        self._ride([replace(order, prompt=f"{order.prompt} {OVERLONG}")])

    def _longest(self) -> Order:
        return self._order(*self._options.warm_up[0], max(self._options.captions))

    def _order(self, height: int, width: int, tokens: int) -> Order:
        """A picture whose text is not in the cache."""
        self._rides += 1
        prompt = prompt_of_length(self._pipe, f"{self._rides} ", tokens)
        return Order(prompt=prompt, height=height, width=width, seed=0, steps=WARM_UP_STEPS)

    @property
    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(
            packing=self._packs,
            ring_slots=options.ring_slots,
            residents=options.residents,
            seats=options.seats,
            places=options.places,
        )

    @property
    def _packs(self) -> bool:
        return self._device.is_cuda if self._options.packing is None else self._options.packing

    def _assumed_facts(self) -> Facts:
        if not self._device.is_cuda:
            return Facts(context=0, fixed=0, activations=0, decode=0, reserve=0, waiting=0)
        return Facts(fixed=self.assembly.fixed_bytes)

    def _make_plan(self, facts: Facts | None = None, *, budget: int = 0, residents: int | None = None) -> Plan:
        assembly = self.assembly
        return make_plan(
            assembly.strategy.name,
            assembly.facts(self._options.steps),
            [stage.name for stage in assembly.strategy.stages],
            budget or self.budget,
            facts or self._facts,
            self._wishes if residents is None else replace(self._wishes, residents=residents),
            assembly.never_loaded,
        )
