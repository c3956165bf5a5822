"""The decoder in strips at full size: the plain eager picture bit for bit, in much less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from tests.unit.offload.tiny import fill
from worker.offload.plan import Facts
from worker.offload.strips import can_decode, decode_in_strips

MIB = 1 << 20


@pytest.fixture(scope="module")
def decoder() -> Any:
    """Z-Image's decoder with random weights."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    fill(vae)
    return vae.decoder.to("cuda")


def own_peak(run: Any) -> tuple[torch.Tensor, int]:
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    picture = run()
    torch.cuda.synchronize()
    return picture, torch.cuda.max_memory_allocated() - before


#: Latents of the profile's three sizes and of two that are not named: those of the largest area.
SIZES = [(128, 128), (160, 96), (96, 160), (192, 80), (128, 124)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@torch.no_grad()
def test_strips_draw_the_plain_picture_in_half_of_its_memory(decoder: Any, size: tuple[int, int]) -> None:
    assert can_decode(decoder)
    latents = torch.randn(1, 16, *size, generator=torch.Generator().manual_seed(0)).to("cuda", torch.bfloat16)
    plain, most = own_peak(lambda: decoder(latents))
    parts, less = own_peak(lambda: decode_in_strips(decoder, latents))
    print(f"plain {most / MIB:.0f} MiB, strips {less / MIB:.0f} MiB")
    scale = 1 / plain.float().std()  # random weights: bring the picture to the spread of a real one
    pictures = [((one.float() * scale / 4 + 0.5).clamp(0, 1) * 255).round() for one in (plain, parts)]
    assert (pictures[0] - pictures[1]).abs().max() <= 1
    assert less < Facts().strips, "what the planner assumes until it has measured"
    assert less < most / 1.8


@torch.no_grad()
def test_strips_of_a_square_picture_are_the_plain_one_bit_for_bit(decoder: Any) -> None:
    latents = torch.randn(1, 16, 128, 128, generator=torch.Generator().manual_seed(0)).to("cuda", torch.bfloat16)
    assert torch.equal(decoder(latents), decode_in_strips(decoder, latents))
