"""The decoder in strips draws the whole decoder's picture, at most 1/255 beside it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.offload.conftest import Studio
from tests.unit.offload.tiny import fill, small_vae
from worker.offload import strips


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("strip_bytes", [1, 3_000, 20_000])
def test_strips_of_any_height_give_the_whole_decoders_values(
    strip_bytes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "PIECE_BYTES", 700)
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


def test_strips_at_full_size_need_less_than_half_of_the_whole_decoders_memory() -> None:
    with torch.device("meta"):
        vae = small_vae(16, blocks=(128, 256, 512, 512), groups=32, layers=2)
    decoder = vae.decoder.to(torch.bfloat16).requires_grad_(False)
    decoder.mid_block.attentions = torch.nn.ModuleList()  # on a card it is fused and small
    latents = torch.empty(1, 16, 128, 128, dtype=torch.bfloat16, device="meta")
    with LiveBytes() as whole:
        decoder(latents)
    with LiveBytes() as parts:
        strips.decode_in_strips(decoder, latents)
    assert parts.peak < 660 << 20
    assert parts.peak < whole.peak / 2


class LiveBytes(TorchDispatchMode):
    """Most bytes of tensors alive at the same time while inside."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, which: int) -> None:
        self._now -= self._known.pop(which, 0)


def test_a_decoder_of_other_layers_is_never_decoded_in_strips(open_studio: Callable[..., Studio]) -> None:
    studio = open_studio("qwen-image")
    assert not strips.can_decode(studio.pipe.vae.decoder)
    image = studio.draw().result(60)
    assert "decode_mode" not in image.info
