"""The carousel: a diffusers pipeline whose weights turn past the jobs that ride it.

carousel = Carousel(pipe, vram_budget_gib=5.8)
ticket = carousel.submit(prompt="a red mug", height=1024, width=1024, seed=7, steps=4)
image = ticket.result(timeout=60)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from worker.offload.device import Unpack, open_device
from worker.offload.engine import Engine
from worker.offload.plan import GIB, Plan
from worker.offload.stopwatch import Stopwatch
from worker.offload.strategies import Strategy
from worker.offload.ticket import Lane, Order, Ticket

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may fix; the defaults are the planner's and the device's choice."""

    device: str = "auto"  # auto, cpu, cuda, cuda:1
    packing: bool | None = None  # packed weights; None: on the GPU
    ring_slots: int | None = None
    residents: int | None = None
    compile: str = "auto"  # auto, on, off: torch.compile of blocks and decoder (auto: on the GPU)
    compile_backend: str = "inductor"
    compile_cache: str | Path = ""  # a folder for compiled forms and what was measured with them; "": torch's own
    guided: bool = False  # compile for guidance, which draws two prompts at once, too; else such pictures ride eagerly
    seats: int = 4  # riders of one sweep; further tickets wait in line
    places: int | None = None  # of them with their state on the device, the others' in host memory; None: planned
    decode: str = "auto"  # plain, strips; auto: strips where the plain decode does not fit the budget
    strategy: Strategy | None = None
    strategy_file: str | Path = ""
    identity: str = ""  # what the weights are (see folder_identity); "": they are not shared between processes
    weights_cache: str | Path = ""  # a folder for packed weights on disk, so that they are packed once; "": none
    warm_up: tuple[tuple[int, int], ...] = ((1024, 1024),)  # (height, width), largest first: measured; compiled for
    captions: tuple[int, ...] = (128, 512)  # caption lengths in tokens, ridden at warm-up; the longest is measured
    cast: Mapping[str, torch.dtype] = field(default_factory=dict)  # parts that become another type on their way
    steps: int = 4  # steps of a usual picture, for the planner
    unpack: Unpack | None = None  # packed weights' way back on the device; None: the device's own. Either is checked
    puts_back: bool = True  # at the end the pipeline is as it was; False: it is used up, which takes no host memory
    poison: bool = False  # tests: overwrite every slot and the scratch with NaN after use


class Carousel:
    """Rides pipelines within a byte budget; made and used from any thread, turned by one of its own."""

    def __init__(self, pipe: Any, vram_budget_gib: float = 5.8, options: Options = Options(), **changes: Any) -> None:
        """Take `pipe` apart; raises ImpossibleBudget, TooLittleMemory, or ValueError for pipelines it can not carry.

        Tickets may be submitted at once; see `settle`.

        `changes` are Options by name: Carousel(pipe, device="cpu", residents=3).
        """
        options = Options(**{**{n: getattr(options, n) for n in Options.__dataclass_fields__}, **changes})
        where = options.device if options.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        watch = Stopwatch()
        with watch.part("device"):
            device = open_device(where, options.unpack)
        self._engine = Engine(pipe, int(vram_budget_gib * GIB), device, options, watch)
        self._engine.start()
        logger.info("carousel ready\n%s", self.plan)

    @property
    def plan(self) -> Plan:
        """What lies where; printable."""
        return self._engine.plan

    @property
    def report(self) -> dict[str, Any]:
        """Achieved figures since the start: peak bytes, bytes carried, turns, prompt-cache hits."""
        return self._engine.report()

    @property
    def progress_stamp(self) -> float:
        """time.monotonic() of the last progress: stands still while tickets ride only when the engine is stuck."""
        return self._engine.progress_stamp

    @property
    def in_flight(self) -> int:
        """Tickets that wait in line or ride."""
        return self._engine.in_flight

    @property
    def shortages(self) -> int:
        """Times that the card had no room since the start, where another try was made."""
        return int(self._engine.shortages)

    @property
    def has_drawn(self) -> bool:
        """Whether a picture was ever drawn whole: in this start, on a card, or in an earlier one just like it."""
        return self._engine.has_drawn

    @property
    def has_ended(self) -> bool:
        """Whether something ended it that no ticket caused: it draws nothing any more, and `submit` says why."""
        return self._engine.has_ended

    @property
    def is_settled(self) -> bool:
        """Whether all of the start's pictures have ridden; see `settle`."""
        return self._engine.is_settled

    def settle(self, timeout: float | None = 600.0) -> None:
        """Wait until the start's pictures have ridden: a restart takes tickets before, and rides its own behind them.

        From then on nothing is compiled or loaded at first use (but for what one of them that failed, as the log then
        says, did not come to). Raises TimeoutError, or CarouselEnded.
        """
        self._engine.settle(timeout)

    def submit(
        self,
        *,
        prompt: str,
        height: int,
        width: int,
        seed: int,
        steps: int = 4,
        guidance_scale: float = 0.0,
        lane: Lane = "interactive",
        alone: bool = False,
        on_step: Callable[[str, int, int], None] | None = None,
        **extra: Any,
    ) -> Ticket:
        """Let a picture ride; returns at once. `on_step(stage, step, steps)` is called from a thread of the carousel's;
        `stage` is encode, denoise or decode.

        `extra` are further arguments of the pipeline's own. Raises TicketCanceled after close().
        """
        order = Order(
            prompt=prompt,
            height=height,
            width=width,
            seed=seed,
            steps=steps,
            guidance_scale=guidance_scale,
            lane=lane,
            alone=alone,
            extra=tuple(extra.items()),
        )
        return self._engine.enter(Ticket(order, on_step))

    def refresh(self, timeout: float = 60.0) -> None:
        """Upload every resident weight again between two turns, and forget the prompts that were encoded.

        To be done before a clean retry of a spoilt picture.
        """
        self._engine.refresh(timeout)

    def rebudget(self, vram_budget_gib: float, timeout: float = 600.0) -> None:
        """Plan anew for another budget, as soon as nobody rides; raises ImpossibleBudget and then changes nothing."""
        self._engine.rebudget(int(vram_budget_gib * GIB), timeout)

    def close(self, timeout: float = 60.0) -> None:
        """Cancel what rides, stop, and leave the pipeline exactly as it was, unless `puts_back` is off.

        A second call does nothing. Raises TimeoutError, or why the pipeline could not be put together: then it is of no
        use any more.
        """
        self._engine.stop(timeout)

    def __enter__(self) -> Carousel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
