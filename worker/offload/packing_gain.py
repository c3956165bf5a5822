"""Does packing a block pay on this machine? The time that the bus saves against the time that the device unpacks.

On PCIe it does, by far: a bus of 25 to 55 GB/s saves 11 to 24 ps a value, since 11 of 16 bits travel, and an H200
unpacks one in some 3 (0.07 s a picture, docs/engine.md). Where host memory is nearly as near as the card's own
(NVLink-C2C), it need not; and how well a part packs is a matter of its weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from worker.offload import packing
from worker.offload.device import Device

logger = logging.getLogger(__name__)

#: Values of the sample: of a large block.
VALUES = 1 << 25
#: Different ones among them; the others repeat them.
DRAWN = 1 << 20
#: Unpacked so often between two marks.
RUNS = 4
#: Of normally distributed weights one in so many has a further code.
USUAL_FURTHER = 4
#: The best of so many is what the device can do; others may use it as well.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured of a device."""

    bus_bytes_per_second: float
    unpacked_values_per_second: float

    def pays(self, packed: packing.Packed, raw_bytes: int) -> bool:
        """Whether a block of `raw_bytes` arrives sooner packed."""
        saved_seconds = (raw_bytes - packed.nbytes) / self.bus_bytes_per_second
        return saved_seconds > packed.count / self.unpacked_values_per_second

    def __str__(self) -> str:
        return (
            f"bus {self.bus_bytes_per_second / 1e9:.1f} GB/s, "
            f"unpacking {self.unpacked_values_per_second / 1e9:.0f} thousand million values/s"
        )


def expected_bytes(counts: Iterable[int], pays: Callable[[packing.Packed, int], bool]) -> int:
    """Host memory for blocks of so many usual values each."""
    usual = [packing.Packed(count, count // USUAL_FURTHER, 0) for count in counts]
    return sum(packed.nbytes if pays(packed, 2 * packed.count) else 2 * packed.count for packed in usual)


def is_smaller(packed: packing.Packed, raw_bytes: int) -> bool:
    """Whether packing saves bytes at all, where time is nobody's concern."""
    return packed.nbytes < raw_bytes


def measure_rates(device: Device) -> Rates:
    """Copy and unpack a sample of weights' usual values; takes 0.2 GiB of the device for a moment."""
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(DRAWN, generator=generator) * 0.02).to(torch.bfloat16).view(torch.int16)
    values = drawn.to(device.where).repeat(VALUES // DRAWN)
    packed, data = packing.encode(values)
    rates = Rates(_bus_rate(device, data.numel()), _unpacking_rate(device, packed, data, values))
    del values, data
    device.trim()
    logger.info("measured: %s", rates)
    return rates


def _bus_rate(device: Device, nbytes: int) -> float:
    host = torch.zeros(nbytes, dtype=torch.uint8)
    is_pinned = device.pin(host)
    try:
        return max(device.measure_bandwidth(host) for _ in range(TRIES))
    finally:
        if is_pinned:
            device.unpin(host)


def _unpacking_rate(device: Device, packed: packing.Packed, data: torch.Tensor, target: torch.Tensor) -> float:
    device.unpack(data, packed, target)  # the kernel is loaded
    seconds = []
    for _ in range(TRIES):
        device.hold()  # else the time between the marks would be the host's
        first = device.timed_mark()
        for _ in range(RUNS):
            device.unpack(data, packed, target)
        last = device.timed_mark()
        device.synchronize()
        seconds.append(device.seconds_between(first, last) / RUNS)
    return packed.count / min(seconds)
