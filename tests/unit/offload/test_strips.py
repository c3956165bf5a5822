"""The decoder in strips draws the whole decoder's picture, at most 1/255 beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.unit.offload.conftest import Studio
from tests.unit.offload.tiny import fill, small_vae
from worker.offload import strips


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("strip_bytes", [1, 3_000, 20_000])
def test_strips_of_any_height_give_the_whole_decoders_values(strip_bytes: int, dtype: torch.dtype) -> None:
    vae = small_vae(4, use_post_quant_conv=False)
    fill(vae, dtype=dtype)
    latents = torch.randn(2, 4, 10, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    whole = vae.decoder(latents)
    assert strips.can_decode(vae.decoder)
    parts = strips.decode_in_strips(vae.decoder, latents, strip_bytes)
    assert parts.shape == whole.shape
    assert whole.std() > 0.05, "a flat picture would prove nothing"
    scale = whole.float().abs().max()
    assert (parts - whole).abs().max() <= (1e-5 if dtype == torch.float32 else 2**-6) * scale


def test_a_picture_in_strips_is_at_most_one_step_of_255_beside_the_plain_one(
    open_studio: Callable[..., Studio],
) -> None:
    studio = open_studio(residents=1, ring_slots=2, packing=True, poison=True, decode="strips")
    ticket = studio.draw(seed=3, height=96, width=64)
    image = ticket.result(60)
    plain = torch.frombuffer(bytearray(studio.plain(seed=3, height=96, width=64)), dtype=torch.uint8).int()
    drawn = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int()
    assert (plain - drawn).abs().max() <= 1
    assert image.info["decode_mode"] == "strips"
    assert "decode strips" in str(studio.carousel.plan)


def test_a_decoder_of_other_layers_is_never_decoded_in_strips(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio("qwen-image")
    assert not strips.can_decode(studio.pipe.vae.decoder)
    image = studio.draw().result(60)
    assert "decode_mode" not in image.info
