"""How far a picture is from what no engine on this card and bus could beat: copies alone, and arithmetic alone."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.engine_bench import timed
from benchmarks.engine_forecast import (
    BLOCK_OPERATIONS,
    DECODE_OPERATIONS,
    DENOISE_BLOCKS,
    TEXT_BLOCKS,
    TEXT_OPERATIONS,
)

#: Rows and columns of the matrices whose product shows the card's rate: as large as a block's own, and square.
SIDE, TINY_SIDE = 8192, 64


def matmul_rate(where: str) -> float:
    """Measured bf16 operations per second of a large matrix product, 32-bit sums."""
    side = TINY_SIDE if where == "cpu" else SIDE
    left, right = (torch.randn(side, side, device=where, dtype=torch.bfloat16) for _ in range(2))
    with torch.no_grad():
        seconds = timed(lambda: [left @ right for _ in range(8)], repeats=5) / 8
    return 2.0 * side**3 / seconds


def operations(forwards: int) -> float:
    """Counted operations of one picture at 1024x1024: text, `forwards` of the denoiser, decode."""
    return TEXT_BLOCKS * TEXT_OPERATIONS + forwards * DENOISE_BLOCKS * BLOCK_OPERATIONS + DECODE_OPERATIONS


def distance(
    seconds: float, forwards: int, carried_bytes: float, bandwidth: float, rate: float
) -> dict[str, float | str]:
    """Seconds that copies alone and arithmetic alone would take, and how many times the longer one a picture took."""
    copies, arithmetic = carried_bytes / bandwidth, operations(forwards) / rate
    return {
        "carried_gb": round(carried_bytes / 1e9, 3),
        "copies_s": round(copies, 4),
        "arithmetic_s": round(arithmetic, 4),
        "times_limit": round(seconds / max(copies, arithmetic), 3),
        "bound": "bus" if copies > arithmetic else "arithmetic",
    }


def rates(bench: Any) -> float:
    """Measure and tell the card's rate; returns it."""
    rate = matmul_rate(bench.where)
    bench.say("matmul", tera_per_s=round(rate / 1e12, 1), side=TINY_SIDE if bench.where == "cpu" else SIDE)
    return rate
