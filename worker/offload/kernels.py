"""Triton kernels: unpack 12-bit weights, gather embedding rows straight from pinned host memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from worker.offload.packing import Packed, escapes_of

VALUES_PER_PROGRAM = 2048


@triton.jit  # type: ignore[untyped-decorator]
def _unpack(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - a kernel's arguments have no names
    kept_ptr, code_ptr, out_ptr, half, base, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < half
    code = tl.load(code_ptr + at, mask=inside, other=0).to(tl.int32)
    low = tl.load(kept_ptr + at, mask=inside, other=0).to(tl.int32)
    high = tl.load(kept_ptr + half + at, mask=inside, other=0).to(tl.int32)
    low_bits = ((low & 128) << 8) | ((base - (code & 15)) << 7) | (low & 127)
    high_bits = ((high & 128) << 8) | ((base - (code >> 4)) << 7) | (high & 127)
    tl.store(out_ptr + at, low_bits.to(tl.int16), mask=inside)
    tl.store(out_ptr + half + at, high_bits.to(tl.int16), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _patch(index_ptr, value_ptr, out_ptr, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    index = tl.load(index_ptr + at, mask=inside, other=0).to(tl.int64)
    tl.store(out_ptr + index, tl.load(value_ptr + at, mask=inside, other=0), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gather(table_ptr, ids_ptr, out_ptr, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    source = tl.load(ids_ptr + row).to(tl.int64) * width
    values = tl.load(table_ptr + source + at, mask=at < width, other=0)
    tl.store(out_ptr + row.to(tl.int64) * width + at, values, mask=at < width)


def unpack(source: torch.Tensor, packed: Packed, target: torch.Tensor) -> None:
    """Unpack `source` (uint8) into `target` (int16), both on the GPU, on the current stream."""
    count, half = packed.count, packed.count // 2
    grid = (triton.cdiv(half, VALUES_PER_PROGRAM),)
    _unpack[grid](source, source[count:], target, half, packed.base, BLOCK=VALUES_PER_PROGRAM, num_warps=8)
    if packed.escapes:
        index, value = escapes_of(source, packed)
        _patch[(triton.cdiv(packed.escapes, 1024),)](index, value, target, packed.escapes, BLOCK=1024)


def gather_rows(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Rows `ids` (GPU) of `table`, which lies in pinned host memory: read over the bus by the GPU, no host involved."""
    width = table.shape[1]
    out = torch.empty(*ids.shape, width, dtype=table.dtype, device=ids.device)
    _gather[(ids.numel(),)](table, ids, out, width, BLOCK=triton.next_power_of_2(width))
    return out
