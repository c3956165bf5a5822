"""A KL decoder in horizontal strips: the same layers with half the memory, at most 1/255 from the whole picture.

Group norms need whole pictures, so their statistics are gathered piece by piece first and joined; upsampled pictures
are never whole in memory but made again for each strip; a residual block writes over what is no longer read.

Convolutions see tall strips, because for low ones cuDNN chooses kernels that add in another order, and a decoder of
random weights makes up to 5 of 255 of that. What is done value by value is done in small pieces: no bit depends on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import nn

#: Bytes of one strip of one layer: cuDNN computed such as it computes whole pictures, bit for bit (H100, 1024 x 1024).
STRIP_BYTES = 64 << 20
#: Bytes of what is done value by value at a time; in float32 it takes several times as many.
PIECE_BYTES = 8 << 20


def can_decode(decoder: Any) -> bool:
    """Whether `decoder` is made of the layers that this module knows (diffusers' AutoencoderKL)."""
    blocks = getattr(decoder, "up_blocks", None)
    if type(decoder).__name__ != "Decoder" or blocks is None or type(decoder.conv_norm_out) is not nn.GroupNorm:
        return False
    return all(type(block).__name__ == "UpDecoderBlock2D" and _knows(block) for block in blocks)


def _knows(block: Any) -> bool:
    resnets = all(
        resnet.time_embedding_norm in {"default", "group"}
        and resnet.time_emb_proj is None
        and not (resnet.up or resnet.down)
        for resnet in block.resnets
    )
    upsamplers = all(
        type(up).__name__ == "Upsample2D" and up.use_conv and up.name == "conv" and up.norm is None and up.interpolate
        for up in block.upsamplers or ()
    )
    return resnets and upsamplers and len(block.upsamplers or ()) <= 1


def decode_in_strips(decoder: Any, latents: torch.Tensor, strip_bytes: int = STRIP_BYTES) -> torch.Tensor:
    """What `decoder(latents)` gives, one picture of the batch after another."""
    return torch.cat([_decode(decoder, one[None], strip_bytes) for one in latents])


def _decode(decoder: Any, latents: torch.Tensor, strip_bytes: int) -> torch.Tensor:
    picture = Rows(decoder.mid_block(decoder.conv_in(latents), None), strip_bytes)
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            picture = _residual(resnet, picture)
        for upsampler in block.upsamplers or ():
            picture = Rows(picture.get(0, picture.height), strip_bytes, upsampler.conv)
    normal = _normal(decoder.conv_norm_out, picture, decoder.conv_act)
    parts = [_convolve(decoder.conv_out, normal, first, last, picture.height) for first, last in picture.strips()]
    return torch.cat(parts, dim=2)


@dataclass(slots=True)
class Rows:
    """A picture (1, C, H, W) by rows; with `upsampled`, twice that size and convolved, made when asked."""

    whole: torch.Tensor
    strip_bytes: int
    upsampled: Any = None

    @property
    def height(self) -> int:
        return self.whole.shape[2] * (2 if self.upsampled is not None else 1)

    def get(self, first: int, last: int) -> torch.Tensor:
        """Rows `first` to `last`, the latter not included; many upsampled ones are convolved a strip at a time."""
        if self.upsampled is None:
            return self.whole[:, :, first:last]
        count = max(round((last - first) / self.strip_rows), 1)
        if count == 1:
            return self._made(first, last)
        bounds = [first + (last - first) * at // count for at in range(count + 1)]
        parts = (self._made(start, stop) for start, stop in itertools.pairwise(bounds))
        return _gather(parts, last - first)

    def _made(self, first: int, last: int) -> torch.Tensor:
        """Rows of the upsampled picture."""

        def doubled(first: int, last: int) -> torch.Tensor:
            start = first // 2
            strip = F.interpolate(self.whole[:, :, start : (last + 1) // 2], scale_factor=2.0, mode="nearest")
            return strip[:, :, first - 2 * start : last - 2 * start]

        return _convolve(self.upsampled, doubled, first, last, self.height)

    def strips(self) -> Iterator[tuple[int, int]]:
        """Spans of rows that make up the picture."""
        rows = self.strip_rows
        return ((first, min(first + rows, self.height)) for first in range(0, self.height, rows))

    @property
    def strip_rows(self) -> int:
        twice = 2 if self.upsampled is not None else 1
        row_bytes = self.whole.shape[1] * self.whole.shape[3] * twice * self.whole.element_size()
        return max(self.strip_bytes // row_bytes, 1)


Getter = Callable[[int, int], torch.Tensor]


def _gather(parts: Iterable[torch.Tensor], height: int) -> torch.Tensor:
    """Parts one below another, each let go as soon as it is copied."""
    whole, first = None, 0
    for part in parts:
        if whole is None:
            whole = part.new_empty(*part.shape[:2], height, part.shape[3])
        whole[:, :, first : first + part.shape[2]] = part
        first += part.shape[2]
        del part
    assert whole is not None
    return whole


def _pieces(rows: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Spans of a few of these rows."""
    step = max(PIECE_BYTES // (rows[:, :, :1].numel() * rows.element_size()), 1)
    return ((first, min(first + step, rows.shape[2])) for first in range(0, rows.shape[2], step))


def _residual(resnet: Any, source: Rows) -> Rows:
    """One ResnetBlock2D; a source that is whole and keeps its channels is overwritten."""
    normal, height = _normal(resnet.norm1, source, resnet.nonlinearity), source.height
    inner = _gather((_convolve(resnet.conv1, normal, first, last, height) for first, last in source.strips()), height)
    hidden = Rows(inner, source.strip_bytes)
    normal = _normal(resnet.norm2, hidden, resnet.nonlinearity)
    above: torch.Tensor | None = None  # the row above the strip, as it was before it was overwritten
    for first, last in hidden.strips():
        entry = source.get(first, last)
        if resnet.conv_shortcut is not None:
            entry = resnet.conv_shortcut(entry)
        strip = _convolve(resnet.conv2, _with_row_above(normal, above, first), first, last, height)
        above = inner[:, :, last - 1 : last].clone()
        for start, stop in _pieces(strip):
            part = (entry[:, :, start:stop] + strip[:, :, start:stop]) / resnet.output_scale_factor
            inner[:, :, first + start : first + stop] = part
        del entry, strip
    return hidden


def _with_row_above(normal: Normal, above: torch.Tensor | None, first: int) -> Getter:
    def rows(start: int, last: int) -> torch.Tensor:
        if start >= first or above is None:
            return normal(start, last)
        return torch.cat([normal.apply(above), normal(first, last)], dim=2)

    return rows


def _normal(norm: nn.GroupNorm, source: Rows, activation: Callable[[torch.Tensor], torch.Tensor]) -> Normal:
    """Rows of `activation(norm(source))`, with statistics of the whole picture."""
    counts, means, variances = [], [], []
    for first, last in source.strips():
        strip = source.get(first, last)
        for start, stop in _pieces(strip):
            values = strip[:, :, start:stop].reshape(norm.num_groups, -1).float()
            variance, mean = torch.var_mean(values, dim=1, correction=0)
            counts.append(values.shape[1])
            means.append(mean)
            variances.append(variance)
    total = sum(counts)
    mean = torch.stack([m.double() * (n / total) for m, n in zip(means, counts, strict=True)]).sum(0)
    spread = [(v.double() + (m - mean) ** 2) * (n / total) for v, m, n in zip(variances, means, counts, strict=True)]
    rstd = (torch.stack(spread).sum(0) + norm.eps).rsqrt()
    return Normal(source, *_scale_and_shift(norm, mean.float(), rstd.float()), activation)


def _scale_and_shift(norm: nn.GroupNorm, mean: torch.Tensor, rstd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, from statistics rounded to the weights' type as torch's CUDA kernel rounds them."""
    if norm.weight.is_cuda:
        mean, rstd = mean.to(norm.weight.dtype).float(), rstd.to(norm.weight.dtype).float()
    each = norm.num_channels // norm.num_groups
    scale = rstd.repeat_interleave(each, output_size=norm.num_channels) * norm.weight.float()
    shift = norm.bias.float() - mean.repeat_interleave(each, output_size=norm.num_channels) * scale
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


@dataclass(slots=True)
class Normal:
    """A normed and activated picture by rows."""

    source: Rows
    scale: torch.Tensor
    shift: torch.Tensor
    activation: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, first: int, last: int) -> torch.Tensor:
        return self.apply(self.source.get(first, last))

    def apply(self, rows: torch.Tensor) -> torch.Tensor:
        return _gather((self._of(rows[:, :, first:last]) for first, last in _pieces(rows)), rows.shape[2])

    def _of(self, rows: torch.Tensor) -> torch.Tensor:
        return self.activation(torch.addcmul(self.shift, rows.float(), self.scale).to(rows.dtype))


def _convolve(conv: Any, rows: Getter, first: int, last: int, height: int) -> torch.Tensor:
    """Rows `first` to `last` of a 3x3 convolution over the picture of which `rows` gives rows."""
    above, below = int(first > 0), int(last < height)
    strip = rows(first - above, last + below)
    if not (above and below):
        strip = F.pad(strip, (0, 0, 1 - above, 1 - below))
    return F.conv2d(strip, conv.weight, conv.bias, padding=(0, 1))
