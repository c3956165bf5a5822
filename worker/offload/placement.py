"""From a pipeline and a budget to weights in their places: assemble, measure, plan, place, check what came of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from worker.offload import strips
from worker.offload.assembly import Assembly
from worker.offload.compiling import CompiledForms
from worker.offload.device import Device
from worker.offload.gauge import Gauge
from worker.offload.parking import Lot
from worker.offload.plan import UNLIMITED, Facts, ImpossibleBudget, Plan, Wishes, bare_plan, fits_in_place, make_plan
from worker.offload.rider import current_rider
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
#: Plans tried until one keeps its word.
CORRECTIONS = 8
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
        self._rides = self._missed = 0  # pictures of warm-ups; bytes that plans turned out to lack
        self._decode = self._wished_decode()
        self._facts: Facts
        self.plan: Plan
        self.weights: Weights | None = None
        self.lot: Lot | None = None
        self._is_open = False

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
        if self._forms is not None:
            self._forms.freeze()
            self._ride_unnamed()
        if self._device.is_cuda and not in_place:
            self._place(self._make_plan())
        self._settle()
        self._is_open = True

    def shrink(self) -> None:
        """Free what is cached, and plan with a resident less, or with fewer riders; the way of decoding stays.

        Nothing more to give: the plan stays. While it is being set up it stays too.
        """
        self._device.trim()
        before, step = self.plan, max((block.carried_bytes for block in self.assembly.blocks), default=0)
        if not self._is_open or before.in_place:
            return
        self._decode = before.decode_mode
        for _ in range(CORRECTIONS):
            self._missed += step
            try:
                plan = self._make_plan()
                if (plan.resident_bytes, plan.seats) != (before.resident_bytes, before.seats):
                    logger.warning("out of memory: planned again with %d residents", len(plan.residents))
                    self._place(plan)
                    return
            except ImpossibleBudget:
                self._missed -= step
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise

    def rebudget(self, budget: int) -> None:
        """Plan and place anew; raises ImpossibleBudget and goes back to the old plan."""
        before = self.plan, self.budget, self._missed, self._decode
        self.budget, self._missed, self._decode = budget, 0, self._wished_decode()
        try:
            self._place(self._make_plan())
            self._settle()
        except ImpossibleBudget:
            plan, self.budget, self._missed, self._decode = before
            if self.plan is not plan:
                self._place(plan)
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
        self._close_decoder(self._forms)

    def _close_decoder(self, forms: CompiledForms | None) -> None:
        """Decode as planned; where decoders are compiled, sizes that were not named go in strips.

        A decoder compiled for any size took 0.8 GiB more than one compiled for its size (H100, 1024 x 1024).
        """
        decoder = getattr(getattr(self._pipe, self.assembly.strategy.decoder), "decoder", None)
        known = strips.can_decode(decoder)
        if decoder is None or not (forms is not None or known):
            return
        whole = forms.both(decoder.forward) if forms is not None else decoder.forward

        def decode(*args: Any, **kwargs: Any) -> torch.Tensor:
            unnamed = known and forms is not None and not forms.knows(*args, **kwargs)
            mode = "strips" if unnamed and self._decode == "auto" else self.plan.decode_mode
            current_rider("the decoder").decode_mode = mode
            if mode == "strips":
                has_room = self.plan.decode_mode == "plain"
                strip_bytes = strips.TALL_STRIP_BYTES if has_room else strips.STRIP_BYTES
                return strips.decode_in_strips(decoder, args[0], strip_bytes)
            picture: torch.Tensor = whole(*args, **kwargs)
            return picture

        self.assembly.gates.replace(decoder, "forward", decode)

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
        """Ride once with nothing resident."""
        bare = bare_plan(self._make_plan(budget=UNLIMITED, residents=0))
        self._place(replace(bare, decode_mode=mode))
        self._warm_up()
        assert self.weights is not None
        gauge = Gauge(self._device, self.weights.arena_bytes, self.weights.lent_bytes)
        gauge.begin()
        self.gauge = gauge
        self._ride([self._longest()])
        self.gauge = None
        sample = max(self.assembly.blocks, key=lambda block: block.carried_bytes).host
        assert sample is not None
        facts = gauge.facts(self._device.measure_bandwidth(sample))
        known = self._facts
        if mode == "strips":
            return replace(facts, strips=facts.decode, decode=known.decode)
        return replace(facts, strips=known.strips)

    def _settle(self) -> None:
        """Ride as many as will ride, compare the process with the budget, and plan again with what was missed.

        Only a plan that kept the process in the budget becomes ready; raises ImpossibleBudget if there is none.
        """
        if not self._device.tells_memory:
            return
        for _ in range(CORRECTIONS):
            self._warm_up()
            over = self._device.process_bytes() + GROWTH - self.budget
            if over <= 0:
                return
            logger.info("%.2f GiB too much: planning again", over / 2**30)
            self._place(self._corrected(over + SPARE))
        raise ImpossibleBudget(f"the process stays {over / 2**30:.2f} GiB over its budget, however little is resident")

    def _corrected(self, missed: int) -> Plan:
        """A plan with so much less; where that leaves no room for the plain decode's large pieces, strips."""
        try:
            plan = self._make_plan(missed=self._missed + missed)
        except ImpossibleBudget:
            if self.plan.decode_mode != "plain" or self._decode != "auto":
                raise
        else:
            if plan.decode_mode == self.plan.decode_mode:
                self._missed += missed
                return plan
        self._decode, self._missed = "strips", 0
        if self._device.is_cuda:
            self._facts = self._measured("strips")
        return self._make_plan()

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
        unnamed = [self._odd()] if self._forms is None or self._forms.is_frozen else []
        self._ride([self._order(height, width, tokens) for tokens in lengths] + unnamed)

    def _ride_unnamed(self) -> None:
        """Sizes and lengths that were not named compile their common form now; so does a prompt that is too long."""
        order = self._odd()
        self._ride([order])
        for prompt in (order.prompt, "a"):  # longer than the empty second prompt, and as long
            self._ride([replace(order, prompt=prompt, guidance_scale=2.0)])
        self._ride([replace(order, prompt=f"{order.prompt} {OVERLONG}")])

    def _odd(self) -> Order:
        """A picture of a size and a caption length that were not named."""
        height, width = min(self._options.warm_up)
        odd = (height, max(width - 32, 32)) if height == width else (min(height, width), max(height, width))
        return self._order(*odd, max(min(self._options.captions) - 64, 40))

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
            decode=self._decode,
        )

    @property
    def _packs(self) -> bool:
        return self._device.is_cuda if self._options.packing is None else self._options.packing

    def _assumed_facts(self) -> Facts:
        if not self._device.is_cuda:
            return Facts(context=0, fixed=0, activations=0, decode=0, pieces=0, strips=0, reserve=0, waiting=0)
        return Facts(fixed=self.assembly.fixed_bytes)

    def _make_plan(self, *, budget: int = 0, residents: int | None = None, missed: int | None = None) -> Plan:
        assembly, missed = self.assembly, self._missed if missed is None else missed
        return make_plan(
            assembly.strategy.name,
            assembly.facts(self._options.steps),
            [stage.name for stage in assembly.strategy.stages],
            budget or self.budget,
            replace(self._facts, reserve=self._facts.reserve + missed),
            self._wishes if residents is None else replace(self._wishes, residents=residents),
            assembly.never_loaded,
        )

    def _wished_decode(self) -> str:
        """As the caller wants; a decoder of layers that strips do not know is decoded plainly."""
        decoder = getattr(getattr(self._pipe, self.assembly.strategy.decoder), "decoder", None)
        return self._options.decode if strips.can_decode(decoder) else "plain"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card, or a library's own memory on it, was full."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)
