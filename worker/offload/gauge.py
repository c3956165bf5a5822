"""Measures a ride: memory and time of each stage, so that the planner works from facts of this machine and model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from worker.offload.blocks import Stop
from worker.offload.device import Device
from worker.offload.marks import Mark
from worker.offload.plan import MIB, Facts

#: For the allocator's rounding and for kernels loaded later.
RESERVE = 96 * MIB


@dataclass
class Gauge:
    """Watches the turns between `begin` and `facts`; of the weights' memory `arena`, the decode borrows `lent`."""

    device: Device
    arena: int
    lent: int
    base: int = 0
    activations: int = 0
    decode: int = 0
    waiting: int = 0
    _spans: dict[int, list[tuple[Mark, Mark]]] = field(default_factory=dict)
    _start: Mark = field(default_factory=Mark)

    def begin(self) -> None:
        self.device.synchronize()
        self.base = self.device.allocated_bytes()
        self.device.peak_bytes(reset=True)

    def before(self, stop: Stop) -> None:
        """A turn's weights are ready; its riders run next."""
        if stop.block is not None:
            self.waiting = max(self.waiting, self.device.allocated_bytes() - self.base)
            self.activations = max(self.activations, self.device.peak_bytes(reset=True) - self.base)
        self._start = self.device.timed_mark()

    def after(self, stop: Stop) -> None:
        peak = self.device.peak_bytes(reset=True)
        if stop.block is None:
            self.decode = max(self.decode, peak - (self.base - self.lent))
        else:
            self.activations = max(self.activations, peak - self.base)
            self._spans.setdefault(stop.stage, []).append((self._start, self.device.timed_mark()))

    def forget_times(self) -> None:
        """Only rides from now on say how long a turn takes."""
        self._spans.clear()

    def facts(self, bandwidth: float, unpacking: Mapping[int, float]) -> Facts:
        """What was measured; `unpacking`: seconds that a block of each stage takes before its riders ride."""
        self.device.synchronize()
        context = max(self.device.process_bytes() - self.device.reserved_bytes(), 0)
        seconds = {
            stage: median(self.device.seconds_between(*span) for span in spans) for stage, spans in self._spans.items()
        }
        return Facts(
            context=context,
            fixed=self.base - self.arena,
            activations=self.activations,
            decode=self.decode,
            reserve=RESERVE,
            waiting=self.waiting,
            bandwidth=bandwidth,
            block_seconds=tuple(
                seconds.get(stage, 0.0) + unpacking.get(stage, 0.0) for stage in range(max(seconds, default=-1) + 1)
            ),
        )
