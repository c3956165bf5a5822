"""Lossless packing of bf16 weights to about 11 bits a value, every bit kept.

A bf16 value is 1 sign, 8 exponent and 7 mantissa bits. Sign and mantissa look random and stay as they are, a byte. The
exponents of weights crowd together (Hershcovitch et al., "ZipNN"; Zhang et al., "70 % Size, 100 % Accuracy", measure
2.6 bits of entropy), so they are coded in two levels. In each group of 4,096 values the three exponents below and at
`top` take 2 bits; the fourth code says that a further code of 4 bits follows in a stream, in order: it names one of 15
exponents around those three, or that the value is kept whole in a list of escapes (zeros, NaN, infinities, outliers).
For normally distributed weights a quarter of the values have a further code: 8 + 2 + 4 / 4 bits.

Layout of one packed block of n values in g groups, each part padded to 64 bytes:

    sign+mantissa: n bytes | codes: 1024 g bytes | starts: int32 x g | tops: int32 x g | further codes: 4 bits each |
    positions of escapes: int32 | values of escapes: int16

Byte `lane` of a group's codes holds, from its low bits on, those of its values lane, 1024+lane, 2048+lane, 3072+lane,
and that is also the order in which its further codes follow from `start` on: so a group unpacks in four long runs, and
where a lane's further codes begin is the sum over the lanes before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LANES, PLANES = 1024, 4
GROUP = LANES * PLANES
#: Values per step of encoder and decoder, so that a block of any size needs a fixed amount of scratch memory.
CHUNK = 1 << 21
#: Parts of a packed block start at a multiple of so many bytes.
ALIGNMENT = 64
#: Exponents with a code of their own, and the code of all others.
NEAR, FURTHER = 3, 3
#: Further codes that name exponents above the near ones, and the one that marks an escape.
ABOVE, ESCAPE = 3, 15


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the parts of a packed block lie: `count` values, `further` of them with further codes, `escapes` whole."""

    count: int
    further: int
    escapes: int

    @property
    def groups(self) -> int:
        return -(-self.count // GROUP)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of the seven parts, padding included."""
        parts = (self.count, self.groups * LANES, self.groups * 4, self.groups * 4, -(-self.further // 2))
        return tuple(_padded(size) for size in (*parts, self.escapes * 4, self.escapes * 2))

    @property
    def nbytes(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a packed block as views of its bytes."""

    kept: torch.Tensor
    codes: torch.Tensor
    starts: torch.Tensor
    tops: torch.Tensor
    further: torch.Tensor
    positions: torch.Tensor
    values: torch.Tensor


def parts_of(source: torch.Tensor, packed: Packed) -> Parts:
    """Views of the uint8 bytes of a packed block; padding is left out of the lists of escapes only."""
    kept, codes, starts, tops, further, positions, values = source[: packed.nbytes].split(packed.sizes)
    escapes = positions.view(torch.int32)[: packed.escapes], values.view(torch.int16)[: packed.escapes]
    return Parts(kept, codes, starts.view(torch.int32), tops.view(torch.int32), further, *escapes)


def encode(values: torch.Tensor) -> tuple[Packed, torch.Tensor]:
    """Pack a flat int16 view of bf16 values (a multiple of 256); returns the layout and its uint8 bytes."""
    if values.dtype != torch.int16 or values.ndim != 1 or values.numel() % 256:
        raise ValueError("encode() takes a flat int16 view whose length is a multiple of 256")
    coded = [_encode_part(part) for part in values.split(CHUNK)]
    position = torch.cat([c.escapes + at * CHUNK for at, c in enumerate(coded)])
    further = torch.cat([c.further for c in coded])
    counts = torch.cat([c.counts for c in coded])
    packed = Packed(values.numel(), further.numel(), position.numel())
    parts = (
        torch.cat([c.codes for c in coded]),
        (counts.cumsum(0) - counts).to(torch.int32),
        torch.cat([c.tops for c in coded]).to(torch.int32),
        _pairs(further),
        position.to(torch.int32),
        values[position],
    )
    body = torch.zeros(packed.nbytes, dtype=torch.uint8, device=values.device)
    kept, *places = body.split(packed.sizes)
    for into, part in zip(kept.split(CHUNK), values.split(CHUNK), strict=False):
        into[: len(part)] = _kept(part)
    for place, part in zip(places, parts, strict=True):
        raw = part.view(torch.uint8)
        place[: raw.numel()] = raw
    return packed, body


def decode(source: torch.Tensor, packed: Packed, target: torch.Tensor) -> None:
    """Unpack uint8 `source` into int16 `target` with torch operations (any device; the GPU has a kernel for it)."""
    parts, step = parts_of(source, packed), CHUNK // GROUP
    for first in range(0, packed.groups, step):
        groups = slice(first, min(first + step, packed.groups))
        exponents = _exponents(parts, groups).flatten()
        place = slice(first * GROUP, min(groups.stop * GROUP, packed.count))
        kept = parts.kept[place].to(torch.int32)
        exponents = exponents[: len(kept)] & 255
        target[place] = ((kept & 128) << 8 | exponents << 7 | kept & 127).to(torch.int16)
    target[parts.positions.long()] = parts.values


@dataclass(frozen=True, slots=True)
class _Coded:
    codes: torch.Tensor
    tops: torch.Tensor
    further: torch.Tensor
    counts: torch.Tensor
    escapes: torch.Tensor


def _kept(values: torch.Tensor) -> torch.Tensor:
    """Sign and mantissa, a byte each."""
    return ((values >> 8) & 128 | values & 127).to(torch.uint8)


def _encode_part(values: torch.Tensor) -> _Coded:
    """Code whole groups (the last one may be shorter); positions of escapes count from the part's start."""
    groups = -(-len(values) // GROUP)
    exponents = (values.to(torch.int32) >> 7) & 255
    tops = _busiest_tops(exponents, groups)
    missing = groups * GROUP - len(values)
    if missing:
        exponents = torch.cat([exponents, tops[-1:].expand(missing)])
    below = tops[:, None] - exponents.view(groups, GROUP)
    near = (below >= 0) & (below < NEAR)
    nibble = torch.where(below < 0, ABOVE + below, below)
    named = torch.where(below < 0, below >= -ABOVE, below < ESCAPE)
    nibble = torch.where(named, nibble, ESCAPE)
    codes = torch.where(near, below, FURTHER).view(groups, PLANES, LANES)
    shifts = torch.arange(0, 2 * PLANES, 2, device=values.device)[:, None]
    in_order = _in_order(~near)
    return _Coded(
        (codes << shifts).sum(1).to(torch.uint8).flatten(),
        tops,
        _in_order(nibble)[in_order].to(torch.uint8),
        in_order.sum(1),
        (~near & ~named).flatten()[: len(values)].nonzero().flatten(),
    )


def _busiest_tops(exponents: torch.Tensor, groups: int) -> torch.Tensor:
    """For each group the highest exponent of the window of three that holds most of its values."""
    rows = torch.arange(len(exponents), device=exponents.device) // GROUP
    counts = torch.bincount(rows * 256 + exponents, minlength=groups * 256).view(groups, 256)
    inside = counts[:, :-2] + counts[:, 1:-1] + counts[:, 2:]
    return (inside.argmax(1) + NEAR - 1).to(torch.int32)


def _exponents(parts: Parts, groups: slice) -> torch.Tensor:
    """Exponents [groups, 4096] of a run of groups; those of escapes mean nothing."""
    codes = parts.codes[: len(parts.codes) // LANES * LANES].view(-1, LANES)[groups].to(torch.int32)
    shifts = torch.arange(0, 2 * PLANES, 2, device=codes.device)[:, None]
    codes = ((codes[:, None] >> shifts) & 3).view(-1, GROUP)
    top, start = parts.tops[groups][:, None], parts.starts[groups][:, None]
    has_further = codes == FURTHER
    ordered = _in_order(has_further).to(torch.int32)
    rank = _in_planes(start + ordered.cumsum(1) - ordered).clamp(max=max(0, 2 * len(parts.further) - 1))
    if not len(parts.further):
        return top - codes
    nibble = (parts.further[rank // 2].to(torch.int32) >> (rank % 2 * 4)) & 15
    beyond = torch.where(nibble < ABOVE, top + ABOVE - nibble, top - nibble)
    return torch.where(has_further, beyond, top - codes)


def _in_order(groups: torch.Tensor) -> torch.Tensor:
    """[g, 4096] in the order of values → in the order of further codes: lane by lane, in each plane by plane."""
    return groups.view(-1, PLANES, LANES).transpose(1, 2).reshape(-1, GROUP)


def _in_planes(groups: torch.Tensor) -> torch.Tensor:
    """The inverse of `_in_order`."""
    return groups.view(-1, LANES, PLANES).transpose(1, 2).reshape(-1, GROUP)


def _pairs(nibbles: torch.Tensor) -> torch.Tensor:
    """Two codes of 4 bits a byte, the first one in the low bits."""
    if len(nibbles) % 2:
        nibbles = torch.cat([nibbles, nibbles.new_zeros(1)])
    return nibbles[::2] | nibbles[1::2] << 4


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
