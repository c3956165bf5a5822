"""How far a picture is from what no engine on this card and bus could beat: copies alone, and arithmetic alone."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.engine_bench import sync
from benchmarks.engine_forecast import (
    BLOCK_OPERATIONS,
    DECODE_OPERATIONS,
    DENOISE_BLOCKS,
    TEXT_BLOCKS,
    TEXT_OPERATIONS,
)

#: Rows and columns of the matrices whose product shows the card's rate: as large as a block's own, and square.
SIDE, TINY_SIDE = 8192, 64
#: Half a second or more: an idle card's clock is slow.
WARM_PRODUCTS = 400


def matmul_rate(where: str) -> float:
    """Measured bf16 operations per second of a large matrix product, 32-bit sums: the fastest of some, once warm."""
    side, warm = (TINY_SIDE, 1) if where == "cpu" else (SIDE, WARM_PRODUCTS)
    left, right, product = (torch.randn(side, side, device=where, dtype=torch.bfloat16) for _ in range(3))

    def multiply(times: int) -> float:
        sync()
        start = time.perf_counter()
        for _ in range(times):
            torch.mm(left, right, out=product)
        sync()
        return (time.perf_counter() - start) / times

    multiply(warm)
    return 2.0 * side**3 / min(multiply(8) for _ in range(8))


def operations(forwards: int) -> float:
    """Counted operations of one picture at 1024x1024: text, `forwards` of the denoiser, decode."""
    return TEXT_BLOCKS * TEXT_OPERATIONS + forwards * DENOISE_BLOCKS * BLOCK_OPERATIONS + DECODE_OPERATIONS


def distance(
    seconds: float, forwards: int, carried_bytes: float, bandwidth: float, rate: float
) -> dict[str, float | str]:
    """Seconds that copies alone and arithmetic alone would take, and how many times the longer one a picture took.

    `carried_bytes`: weights, and states of riders in and out if some are parked.
    """
    copies, arithmetic = carried_bytes / bandwidth, operations(forwards) / rate
    return {
        "carried_gb": round(carried_bytes / 1e9, 3),
        "copies_s": round(copies, 4),
        "arithmetic_s": round(arithmetic, 4),
        "times_limit": round(seconds / max(copies, arithmetic), 3),
        "bound": "bus" if copies > arithmetic else "arithmetic",
    }


def probe_rate(bench: Any) -> None:
    """Measure the card's rate, tell it and keep it."""
    bench.rate = matmul_rate(bench.where)
    if bench.where != "cpu":
        torch.cuda.empty_cache()  # else the anchor would be said to hold it
    bench.say("matmul", tera_per_s=round(bench.rate / 1e12, 1), side=TINY_SIDE if bench.where == "cpu" else SIDE)
