"""Triton kernels: unpack weights, gather embedding rows straight from pinned host memory."""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl

from worker.offload.packing import LANES, Packed, parts_of


@triton.jit
def _unpack_plane(  # type: ignore[no-untyped-def]  # noqa: PLR0917 - a kernel's arguments have no names
    kept_ptr, further_ptr, out_ptr, at, count, code, rank, top
):
    inside = at < count
    kept = tl.load(kept_ptr + at, mask=inside, other=0).to(tl.int32)
    pair = tl.load(further_ptr + (rank >> 1), mask=code == 3, other=0).to(tl.int32)
    nibble = (pair >> ((rank & 1) * 4)) & 15
    beyond = tl.where(nibble < 3, top + 3 - nibble, top - nibble)
    exponent = tl.where(code == 3, beyond, top - code) & 255
    bits = ((kept & 128) << 8) | (exponent << 7) | (kept & 127)
    tl.store(out_ptr + at, bits.to(tl.int16), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _unpack(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    kept_ptr, code_ptr, start_ptr, top_ptr, further_ptr, out_ptr, count, LANES: tl.constexpr
):
    group = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, LANES)
    codes = tl.load(code_ptr + group * LANES + lane).to(tl.int32)
    top = tl.load(top_ptr + group)
    first, second, third, fourth = codes & 3, (codes >> 2) & 3, (codes >> 4) & 3, codes >> 6
    has_first, has_second = (first == 3).to(tl.int32), (second == 3).to(tl.int32)
    has_third, has_fourth = (third == 3).to(tl.int32), (fourth == 3).to(tl.int32)
    each = has_first + has_second + has_third + has_fourth
    rank = tl.load(start_ptr + group) + tl.cumsum(each, 0) - each
    at = group * (4 * LANES) + lane
    _unpack_plane(kept_ptr, further_ptr, out_ptr, at, count, first, rank, top)
    rank += has_first
    _unpack_plane(kept_ptr, further_ptr, out_ptr, at + LANES, count, second, rank, top)
    rank += has_second
    _unpack_plane(kept_ptr, further_ptr, out_ptr, at + 2 * LANES, count, third, rank, top)
    rank += has_third
    _unpack_plane(kept_ptr, further_ptr, out_ptr, at + 3 * LANES, count, fourth, rank, top)


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


def wake() -> None:
    """Have Triton hash its own files, which it does once in each process before the first kernel (0.4 s)."""
    with contextlib.suppress(Exception):
        from triton.runtime.cache import triton_key

        triton_key()


def unpack(source: torch.Tensor, packed: Packed, target: torch.Tensor) -> None:
    """Unpack `source` (uint8) into `target` (int16), both on the GPU, on the current stream."""
    parts = parts_of(source, packed)
    _unpack[(packed.groups,)](
        parts.kept, parts.codes, parts.starts, parts.tops, parts.further, target, packed.count, LANES=LANES, num_warps=8
    )
    if packed.escapes:
        grid = (triton.cdiv(packed.escapes, 1024),)
        _patch[grid](parts.positions, parts.values, target, packed.escapes, BLOCK=1024)


def gather_rows(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Rows `ids` (GPU) of `table`, which lies in pinned host memory: read over the bus by the GPU, no host involved."""
    width = table.shape[1]
    out = torch.empty(*ids.shape, width, dtype=table.dtype, device=ids.device)
    _gather[(ids.numel(),)](table, ids, out, width, BLOCK=triton.next_power_of_2(width))
    return out
