"""What is known of a pipeline on a device, from an earlier start too, and the plans that are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from worker.offload import allowance, decoding, strips
from worker.offload.device import Device
from worker.offload.experience import Experience, Notebook, choices_of
from worker.offload.plan import NO_FACTS, Facts, ImpossibleBudget, Plan, Wishes
from worker.offload.planner import make_plan
from worker.offload.stock import Stock

if TYPE_CHECKING:
    from worker.offload.carousel import Options


class Planning:
    """Asks the planner, with what is measured, corrected and wished by now; moves and rides nothing."""

    def __init__(self, stock: Stock, budget: int, device: Device, options: Options) -> None:
        self.budget, self._device, self._options = budget, device, options
        self.stock, self.assembly = stock, stock.assembly
        self._facts: Facts
        self._has_figures = not device.is_cuda  # measured by this start or an earlier one, where that is to be done
        self._missed = 0  # bytes that plans turned out to lack
        self._decode, self._seats = self._wished_decode(), options.seats
        self._relied: Notebook | None = None  # where this start found what an earlier one had found out
        self._trusted: Experience | None = None  # of a start just like this one: tickets need not wait for the rides

    @property
    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(
            packing=self.stock.packing.is_on,
            ring_slots=options.ring_slots,
            residents=options.residents,
            seats=self._seats,
            places=options.places,
            decode=self._decode,
        )

    def _assumed_facts(self) -> Facts:
        return Facts(fixed=self.assembly.fixed_bytes) if self._device.is_cuda else NO_FACTS

    def _make_plan(
        self, *, budget: int = 0, residents: int | None = None, missed: int | None = None, seats: int = 0
    ) -> Plan:
        assembly, missed = self.assembly, self._missed if missed is None else missed
        wishes = replace(self._wishes, seats=seats or self._seats)
        plan = make_plan(
            assembly.strategy.name,
            assembly.facts(self._options.steps),
            [stage.name for stage in assembly.strategy.stages],
            budget or self.budget,
            replace(self._facts, reserve=self._facts.reserve + missed),
            wishes if residents is None else replace(wishes, residents=residents),
            assembly.never_loaded,
        )
        if self._device.tells_memory and not plan.in_place:
            least = plan.least_budget + self._owed_by_the_least(missed, plan.seats) - missed
            plan = replace(plan, least_budget=min(least, plan.budget))
        unnamed = decoding.unnamed_mode(self.stock.forms, plan.decode_mode, self._wished_decode())
        return replace(plan, packing_fault=self.stock.packing.fault, unnamed_decode=unnamed)

    @staticmethod
    def _owed_by_the_least(missed: int, seats: int) -> int:
        """What of the `missed` bytes a lone rider would miss too; at least what an untried plan may ask for."""
        return max(missed - allowance.growth(seats) + allowance.growth(1), allowance.untried())

    def _plan_or_refuse(self, asked_beyond: Callable[[], int]) -> Plan:
        """A plan; a refusal also counts the bytes that would be asked for beyond it, so what it names is accepted."""
        try:
            return self._make_plan()
        except ImpossibleBudget:
            return self._make_plan(missed=self._missed + asked_beyond())

    def _wished_decode(self) -> str:
        """As the caller wants; a decoder of layers that strips do not know is decoded plainly."""
        return self._options.decode if strips.can_decode(self.assembly.decoder) else "plain"

    def _remember(self) -> bool:
        """Take over what an earlier start found out in the same circumstances, if a plan can be made of it."""
        known = self._notebook.read() if self._device.tells_memory else None
        if known is None:
            return False
        before = self._facts, self._missed, self._decode, self._seats
        self._facts, self._missed, self._decode, self._seats = known.facts, known.missed, known.decode, known.seats
        try:
            self._make_plan()
        except ImpossibleBudget:
            self._facts, self._missed, self._decode, self._seats = before
            return False
        forms = self.stock.forms
        if forms is not None:
            forms.recall(known.layouts)
        self._relied, self._has_figures = self._notebook, True
        are_kept = forms is not None and forms.are_there(known.forms)
        is_like_then = allowance.outside_bytes(self._device) <= known.outside_bytes
        self._trusted = known if are_kept and is_like_then else None
        return True

    def _forget_relied(self) -> None:
        """What an earlier start found out did not hold."""
        if self._relied is not None:
            self._relied.forget()

    @property
    def _notebook(self) -> Notebook:
        """Kept with the compiled forms: where these are gone, compiling takes memory that only a bare plan leaves."""
        options, blocks = self._options, self.assembly.facts(self._options.steps)
        folder = options.compile_cache if options.identity else ""
        return Notebook(folder, self._device.description, torch.__version__, self.budget, choices_of(options), blocks)
