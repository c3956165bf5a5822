"""Batched sampling: the arithmetic of ZImagePipeline at guidance 0, many prompts at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.recipe.batches import tokenize
from models.recipe.model import (
    CAPTION_MULTIPLE,
    LATENT_CHANNELS,
    BatchedDenoiser,
    TextEncoder,
    Vae,
    encode_text,
    inference_sigmas,
)
from models.recipe.tokenizer import chat


@dataclass(frozen=True, slots=True)
class Painter:
    """A trained model, ready to draw."""

    tokenizer: PreTrainedTokenizerFast
    encoder: TextEncoder
    denoiser: BatchedDenoiser
    vae: Vae
    device: torch.device

    @torch.inference_mode()
    def paint(self, texts: Sequence[str], seeds: Sequence[int], height: int, width: int, forwards: int = 4) -> Tensor:
        """Pictures [N, 3, height, width] in 0..1 on the CPU; a seed gives the pipeline's picture of a CPU generator."""
        # Compiled blocks would compile anew for float32; a few pictures aren't worth it.
        with torch.compiler.set_stance("force_eager"):
            return self._paint(texts, seeds, height, width, forwards)

    def _paint(self, texts: Sequence[str], seeds: Sequence[int], height: int, width: int, forwards: int) -> Tensor:
        out = torch.empty(len(texts), 3, height, width)
        per_pass = max(1, 64 * 65536 // (height * width))
        for length, rows in self._by_length(texts).items():
            for start in range(0, len(rows), per_pass):
                part = rows[start : start + per_pass]
                latents = self._denoise(
                    [texts[r] for r in part], [seeds[r] for r in part], length, (height, width), forwards
                )
                scaled = latents / self.vae.config.scaling_factor + self.vae.config.shift_factor
                out[part] = (self.vae.decode(scaled).sample / 2 + 0.5).clamp(0, 1).cpu()
        return out

    def _by_length(self, texts: Sequence[str]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, ids in enumerate(self.tokenizer([chat(t) for t in texts]).input_ids):
            length = min(512, -(-len(ids) // CAPTION_MULTIPLE) * CAPTION_MULTIPLE)
            found.setdefault(length, []).append(row)
        return found

    def _denoise(self, texts: list[str], seeds: list[int], length: int, size: tuple[int, int], forwards: int) -> Tensor:
        ids, lengths = (t.long().to(self.device) for t in tokenize(self.tokenizer, texts, length))
        features = encode_text(self.encoder, ids)
        shape = (1, LATENT_CHANNELS, size[0] // 8, size[1] // 8)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
        x = torch.cat(noise).to(self.device)
        sigmas = inference_sigmas(forwards)
        for here, there in itertools.pairwise(sigmas):
            x = x + (there - here) * self.denoiser(x, x.new_full((len(x),), here), features, lengths)
        return x
