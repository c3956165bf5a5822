"""What is placed: a pipeline's blocks, packed in host memory, and the compiled forms that draw with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from worker.offload.apart import Pool, apart
from worker.offload.assembly import Assembly
from worker.offload.beside import beside
from worker.offload.compiling import CompiledForms, keep_compiled, open_forms
from worker.offload.device import Device
from worker.offload.kernel_check import PackingChoice
from worker.offload.stopwatch import Stopwatch
from worker.offload.strategies import find_strategy

if TYPE_CHECKING:
    from worker.offload.carousel import Options


class Stock:
    """Takes a pipeline apart and brings its weights into host memory; what of them lies on the device is not its."""

    def __init__(self, pipe: Any, device: Device, options: Options, watch: Stopwatch) -> None:
        self._device, self._options, self._watch = device, options, watch
        strategy = options.strategy or find_strategy(pipe, options.strategy_file)
        self.assembly = Assembly(pipe, strategy, device, options.cast)
        self.packing = PackingChoice(options.packing, device, Path(options.compile_cache or default_cache_dir()))
        self.forms: CompiledForms | None = None

    def open_forms(self) -> None:
        """Find what earlier starts compiled, where this one compiles at all."""
        choice, options = self._options.compile, self._options
        if choice == "on" or (choice == "auto" and self._device.is_cuda):
            keep_compiled(options.compile_cache)  # before anything is: the unpacking kernel is checked first
            self.forms = open_forms(self.assembly.strategy, options, self._device.description)

    def move_fixed_parts(self) -> None:
        """What always stays on the device goes there."""
        with self._watch.part("fixed parts"):
            self.assembly.move_fixed_parts(self._options.identity)

    def fill(self, *, in_place: bool) -> None:
        """Blocks into host memory, unless they all stay in place on the device.

        Forms are loaded beside reading and pinning, which leave Python to them; many small steps would not.
        """
        if not in_place:
            self._check_packing()
        is_filled = threading.Event()
        with beside(lambda: self._prepare_forms(is_filled.is_set)):
            try:
                if not in_place:
                    self._fill_host()  # the plan needs the packed sizes
            finally:
                is_filled.set()

    def fill_late(self) -> bool:
        """Blocks into host memory after all, where a first plan had them in place; whether that was to be done."""
        if self.assembly.host is not None:
            return False
        self._check_packing()
        self._fill_host(is_late=True)
        return True

    def close_gates(self, pool: Callable[[], Pool | None]) -> None:
        """Have each block stop its rider before it runs, compiled where there is a form, in a pool of its own."""
        forms = self.forms
        self.assembly.close_gates(
            lambda block: apart((forms.of(block) if forms else None) or block.module.forward, pool)
        )

    def _check_packing(self) -> None:
        with self._watch.part("kernel check"):
            self.packing.settle(block.raw_bytes // 2 for block in self.assembly.blocks if block.is_bf16)

    def _fill_host(self, *, is_late: bool = False) -> None:
        """Packed if the device can unpack; else disk need not hold them twice."""
        options, packing = self._options, self.packing
        with self._watch.part("host weights"):
            cache = "" if packing.fault else options.weights_cache
            self.assembly.fill_host(packing.is_on, options.identity, cache, self._watch, packing.pays, is_late=is_late)

    def _prepare_forms(self, is_enough: Callable[[], bool]) -> None:
        if self.forms is not None:
            self._device.enter_thread()
            self.forms.prepare([*(block.module for block in self.assembly.blocks), self.assembly.decoder], is_enough)
