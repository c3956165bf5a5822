"""The decoder in strips at full size: at most 1/255 beside the plain one, in much less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from tests.unit.offload.tiny import fill
from worker.offload.strips import TALL_STRIP_BYTES, can_decode, decode_in_strips

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


@torch.no_grad()
def test_strips_draw_the_plain_picture_in_half_of_its_memory(decoder: Any) -> None:
    assert can_decode(decoder)
    latents = torch.randn(1, 16, 128, 128, generator=torch.Generator().manual_seed(0)).to("cuda", torch.bfloat16)
    plain, most = own_peak(lambda: decoder(latents))
    parts, less = own_peak(lambda: decode_in_strips(decoder, latents))
    print(f"plain {most / MIB:.0f} MiB, strips {less / MIB:.0f} MiB")
    scale = 1 / plain.float().std()  # random weights: bring the picture to the spread of a real one
    pictures = [((one.float() * scale / 4 + 0.5).clamp(0, 1) * 255).round() for one in (plain, parts)]
    assert (pictures[0] - pictures[1]).abs().max() <= 1
    assert less < 660 * MIB
    assert less < most / 1.8


@torch.no_grad()
def test_tall_strips_are_the_plain_picture_bit_for_bit_in_less_memory(decoder: Any) -> None:
    latents = torch.randn(1, 16, 128, 128, generator=torch.Generator().manual_seed(0)).to("cuda", torch.bfloat16)
    plain, most = own_peak(lambda: decoder(latents))
    tall, less = own_peak(lambda: decode_in_strips(decoder, latents, TALL_STRIP_BYTES))
    assert torch.equal(plain, tall)
    assert less < most
