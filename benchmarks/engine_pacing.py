"""Copies from the host held until they have taken as long as on a slower bus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

#: Cycles of the spin that is timed, of the one before it, and products of matrices beside both: some 0.4 s.
TIMED_CYCLES, BEFORE_CYCLES, PRODUCTS, SIDE = 100_000_000, 300_000_000, 2000, 4096


@contextmanager
def paced_copies(device: Any, bytes_per_second: float, own: float) -> Iterator[None]:
    """While inside each copy of weights is followed, on its stream, by a kernel that spins; `own`: this bus's speed.

    The kernel is one thread, so computing goes on beside it. On a CPU nothing is held.
    """
    if device.is_cuda:
        cycles_per_byte = (1 / bytes_per_second - 1 / own) * cycles_per_second(device)
        device.after_copy = lambda nbytes: torch.cuda._sleep(int(nbytes * cycles_per_byte))
    try:
        yield
    finally:
        device.after_copy = None


def cycles_per_second(device: Any) -> float:
    """The card's clock while it computes: an idle one's is slow, and a busy one's may be held down."""
    factor = torch.randn(SIDE, SIDE, device=device.where, dtype=torch.bfloat16)
    product = torch.empty_like(factor)
    for _ in range(PRODUCTS):
        torch.mm(factor, factor, out=product)
    with torch.cuda.stream(device.carry_in):
        torch.cuda._sleep(BEFORE_CYCLES)
        first = device.timed_mark()
        torch.cuda._sleep(TIMED_CYCLES)
        second = device.timed_mark()
    device.synchronize()
    return TIMED_CYCLES / float(device.seconds_between(first, second))
