"""Lossless 12-bit packing of bf16 weights: three quarters of the bytes, every bit kept.

A bf16 value is 1 sign, 8 exponent and 7 mantissa bits. Trained weights use few exponents, so sign and mantissa go into
one byte and the exponent into a 4-bit code relative to the busiest window of 15 exponents; the rare values outside the
window (zeros, outliers, NaN, infinities) are kept whole in a list of escapes. Layout of one packed block of n values:

    sign+mantissa: n bytes | codes: n/2 bytes | positions of escapes: int32 | values of escapes: int16

A byte of codes holds those of value o (low) and of value n/2+o (high), so that both halves unpack in long runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Values per step of the encoder, so that packing a block of any size needs a fixed amount of scratch memory.
CHUNK = 1 << 23
#: Escapes are padded to a multiple of this many, so that every part of a block starts aligned.
ESCAPE_MULTIPLE = 64
#: Exponents that a code can name; the sixteenth code marks an escape.
WINDOW = 15


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the parts of one packed block lie: `count` values, exponents `base`-14 to `base`, `escapes` exceptions."""

    count: int
    base: int
    escapes: int

    @property
    def listed(self) -> int:
        """Entries of the escape list, padding included."""
        return -(-self.escapes // ESCAPE_MULTIPLE) * ESCAPE_MULTIPLE

    @property
    def nbytes(self) -> int:
        return self.count + self.count // 2 + self.listed * 6


def encode(values: torch.Tensor) -> tuple[Packed, torch.Tensor]:
    """Pack a flat int16 view of bf16 values (a multiple of 256); returns the layout and its uint8 bytes."""
    if values.dtype != torch.int16 or values.ndim != 1 or values.numel() % 256:
        raise ValueError("encode() takes a flat int16 view whose length is a multiple of 256")
    count, half = values.numel(), values.numel() // 2
    base = _busiest_base(values)
    body = torch.empty(count + half, dtype=torch.uint8, device=values.device)
    escapes: list[torch.Tensor] = []
    for start in range(0, half, CHUNK):
        stop = min(start + CHUNK, half)
        low, low_escapes = _encode_part(values, start, stop, base, body)
        high, high_escapes = _encode_part(values, half + start, half + stop, base, body)
        body[count + start : count + stop] = low | (high << 4)
        escapes += [low_escapes, high_escapes]
    index = torch.cat(escapes).sort().values
    packed = Packed(count, base, index.numel())
    return packed, torch.cat([body, *_escape_list(values, index, packed)])


def decode(source: torch.Tensor, packed: Packed, target: torch.Tensor) -> None:
    """Unpack uint8 `source` into int16 `target` with torch operations (any device; the GPU has a kernel for it)."""
    count, half = packed.count, packed.count // 2
    codes = source[count : count + half]
    for start, code in ((0, codes & 15), (half, codes >> 4)):
        kept = source[start : start + half].to(torch.int32)
        exponent = packed.base - code.to(torch.int32)
        target[start : start + half] = ((kept & 128) << 8) | (exponent << 7) | (kept & 127)
    index, value = escapes_of(source, packed)
    if packed.escapes:
        target[index.long()] = value


def escapes_of(source: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    """The int32 positions and int16 values of a packed block's escapes, as views of its bytes."""
    start = packed.count + packed.count // 2
    middle = start + packed.listed * 4
    index = source[start:middle].view(torch.int32)[: packed.escapes]
    value = source[middle : middle + packed.listed * 2].view(torch.int16)[: packed.escapes]
    return index, value


def _busiest_base(values: torch.Tensor) -> int:
    """The highest exponent of the window of 15 that holds most values."""
    counts = torch.zeros(256, dtype=torch.int64, device=values.device)
    for part in values.split(CHUNK):
        counts += torch.bincount((part.to(torch.int32) >> 7) & 255, minlength=256)
    sums = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    tops = torch.arange(WINDOW - 1, 256, device=values.device)
    inside = sums[tops + 1] - sums[tops - (WINDOW - 1)]
    return int(inside.argmax()) + WINDOW - 1


def _encode_part(
    values: torch.Tensor, start: int, stop: int, base: int, body: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the sign+mantissa bytes of values[start:stop]; return their codes and the positions of escapes."""
    bits = values[start:stop].to(torch.int32)
    code = base - ((bits >> 7) & 255)
    outside = (code < 0) | (code >= WINDOW)
    body[start:stop] = (((bits >> 8) & 128) | (bits & 127)).to(torch.uint8)
    code[outside] = WINDOW
    return code.to(torch.uint8), outside.nonzero().flatten() + start


def _escape_list(values: torch.Tensor, index: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    positions = torch.zeros(packed.listed, dtype=torch.int32, device=values.device)
    kept = torch.zeros(packed.listed, dtype=torch.int16, device=values.device)
    positions[: packed.escapes] = index
    kept[: packed.escapes] = values[index]
    return positions.view(torch.uint8), kept.view(torch.uint8)
