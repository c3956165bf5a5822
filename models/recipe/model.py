"""The starter model's parts, in the classes of Z-Image at a thousandth of its size, and a batched transformer pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3Model

#: diffusers' and transformers' classes carry no types that mypy could use.
Vae: TypeAlias = Any
Transformer: TypeAlias = Any
TextEncoder: TypeAlias = Any

LATENT_CHANNELS = 16
CAPTION_MULTIPLE = 32
IMAGE_MULTIPLE = 32
PATCH_KEY = "2-1"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of the three networks; the default makes 9.6 M parameters, 19.3 MB in bfloat16."""

    vae_channels: tuple[int, ...] = (32, 48, 80, 88)
    text_width: int = 192
    text_inner: int = 384
    text_layers: int = 4
    width: int = 192
    layers: int = 8


TINY_SHAPE = ModelShape(vae_channels=(8, 8, 16, 16), text_width=64, text_inner=64, text_layers=2, width=96, layers=1)


def build_vae(shape: ModelShape) -> Vae:
    """A VAE of 8 x 8 pixels per latent, few channels at full resolution so that a CPU decodes 512 x 512 quickly."""
    blocks = len(shape.vae_channels)
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=shape.vae_channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def build_text_encoder(shape: ModelShape, tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """A small Qwen3; the pipeline reads its last layer but one, so the last layer is dead weight and starts at zero."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.text_width,
        intermediate_size=shape.text_inner,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_width // 32,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    encoder: TextEncoder = Qwen3Model(config)
    for parameter in encoder.layers[-1].parameters():
        if parameter.ndim == 2:
            nn.init.zeros_(parameter)
    return encoder


def build_transformer(shape: ModelShape) -> Transformer:
    """A Z-Image transformer of 32-wide heads with positions for pictures up to 2048 pixels and 512 caption tokens."""
    heads = shape.width // 32
    transformer: Transformer = ZImageTransformer2DModel(  # type: ignore[no-untyped-call]
        dim=shape.width,
        n_layers=shape.layers,
        n_refiner_layers=1,
        n_heads=heads,
        n_kv_heads=heads,
        cap_feat_dim=shape.text_width,
        axes_dims=[8, 12, 12],
        axes_lens=[1024, 128, 128],
    )
    nn.init.normal_(transformer.x_pad_token, std=0.02)
    nn.init.normal_(transformer.cap_pad_token, std=0.02)
    _answer_with_the_question(transformer)
    return transformer


@torch.no_grad()
def _answer_with_the_question(transformer: Transformer) -> None:
    """Start as a model that takes its input for noise and says so, with blocks that add nothing yet.

    Most of a velocity is noise that only has to be handed through. Learning that from random weights took the first
    hundreds of steps. A constant beside the copied numbers keeps the last norm from changing their scale.
    """
    embed, last = transformer.all_x_embedder[PATCH_KEY], transformer.all_final_layer[PATCH_KEY]
    copied, beside = embed.in_features, embed.out_features - embed.in_features
    nn.init.eye_(embed.weight[:copied])
    nn.init.normal_(embed.weight[copied:], std=0.02)
    embed.bias.copy_(torch.cat([torch.zeros(copied), torch.tensor([1.0, -1.0]).repeat(beside // 2)]))
    nn.init.zeros_(last.linear.weight)
    nn.init.eye_(last.linear.weight[:, :copied]).neg_()
    nn.init.zeros_(last.linear.bias)
    modulations = [b.adaLN_modulation[0] for b in (*transformer.noise_refiner, *transformer.layers)]
    for modulation in (last.adaLN_modulation[1], *modulations):
        nn.init.zeros_(modulation.weight)
        nn.init.zeros_(modulation.bias)


def build_noise_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The noise scheduler of Z-Image-Turbo: 4 forwards stand at sigma 1, 0.9, 0.75 and 0.5."""
    return FlowMatchEulerDiscreteScheduler(  # type: ignore[no-untyped-call]
        num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False
    )


def inference_sigmas(forwards: int, shift: float = 3.0) -> list[float]:
    """The sigmas that the pipeline visits, with the closing 0."""
    line = [1 - i / forwards for i in range(forwards)]
    return [shift * s / (1 + (shift - 1) * s) for s in line] + [0.0]


class RealRotaryAttention:
    """Attention of ZSingleStreamAttnProcessor in real arithmetic (complex numbers defeat the compiler's fusion)."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        assert freqs_cis is not None
        query, key, value = (
            f(hidden_states).unflatten(-1, (attn.heads, -1)) for f in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = rotate(attn.norm_q(query), freqs_cis), rotate(attn.norm_k(key), freqs_cis)
        out = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.to(query.dtype).transpose(1, 2), value.to(query.dtype).transpose(1, 2)
        )
        projected: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2, 3))
        return projected


def rotate(x: Tensor, freqs: Tensor) -> Tensor:
    """Rotate pairs of x [B, N, heads, D] by freqs [N, D/2, 2] (cosine, sine), in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = freqs[None, :, None, :, 0], freqs[None, :, None, :, 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).type_as(x)


class BatchedDenoiser(nn.Module):
    """The transformer over a batch of equal shapes: what diffusers computes per list item, without lists or masks.

    `forward(latents [B,16,h,w], sigma [B], features [B,L,C], lengths [B])` returns the velocity noise - picture in
    float32, with h and w even and L a multiple of 32; rows of `features` past `lengths` become the learned pad token.
    It computes in the type of the transformer's weights.
    """

    def __init__(self, transformer: Transformer, compile_blocks: bool = False) -> None:
        super().__init__()
        self.transformer = transformer
        self.compiled = compile_blocks
        self._rope: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
        modulated = [*transformer.noise_refiner, *transformer.layers]
        for block in [*modulated, *transformer.context_refiner]:
            block.attention.set_processor(RealRotaryAttention())
        for block in modulated if compile_blocks else ():
            # One graph serves all of them: sizes are symbols, and weights are inputs.
            block.compile(dynamic=True)

    def _positions(self, caption: int, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (caption, rows, columns)
        if key in self._rope:
            return self._rope[key]
        with torch.inference_mode(False):  # whoever asks first: training can't use tensors of inference mode
            grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
            image = torch.cat([torch.full((len(grid), 1), caption + 1), grid], 1)
            image = torch.cat([image, image.new_zeros(-len(grid) % IMAGE_MULTIPLE, 3)])
            text = functional.pad(torch.arange(1, caption + 1)[:, None], (0, 2))
            rope = self.transformer.rope_embedder
            self._rope[key] = (torch.view_as_real(rope(text)).to(device), torch.view_as_real(rope(image)).to(device))
        return self._rope[key]

    def forward(self, latents: Tensor, sigma: Tensor, features: Tensor, lengths: Tensor) -> Tensor:
        t = self.transformer
        rows, columns = latents.shape[2] // 2, latents.shape[3] // 2
        tokens, caption = rows * columns, features.shape[1]
        text_rope, image_rope = self._positions(caption, rows, columns, latents.device)
        time = t.t_embedder((1 - sigma) * t.t_scale)
        image = self._embed_image(latents.to(t.x_pad_token.dtype), rows, columns)
        text = t.cap_embedder(features)
        real = torch.arange(caption, device=lengths.device)[None] < lengths[:, None]
        text = torch.where(real[..., None], text, t.cap_pad_token)
        for block in t.noise_refiner:
            image = block(image, None, image_rope, time)
        for block in t.context_refiner:
            text = block(text, None, text_rope)
        both, rope = torch.cat([image, text], 1), torch.cat([image_rope, text_rope])
        for block in t.layers:
            both = block(both, None, rope, time)
        out = t.all_final_layer[PATCH_KEY](both, c=time)[:, :tokens]
        folded = out.view(-1, rows, columns, 2, 2, LATENT_CHANNELS).permute(0, 5, 1, 3, 2, 4)
        # The model speaks Z-Image's language (picture - noise); the pipeline negates it, and so do we.
        velocity: Tensor = -folded.reshape(latents.shape).float()
        return velocity

    def _embed_image(self, latents: Tensor, rows: int, columns: int) -> Tensor:
        patches = latents.view(-1, LATENT_CHANNELS, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1)
        image: Tensor = self.transformer.all_x_embedder[PATCH_KEY](patches.reshape(len(latents), rows * columns, -1))
        missing = -image.shape[1] % IMAGE_MULTIPLE
        if missing == 0:
            return image
        pad = self.transformer.x_pad_token.expand(len(latents), missing, -1)
        return torch.cat([image, pad], 1)


def encode_text(encoder: TextEncoder, ids: Tensor) -> Tensor:
    """The features that the pipeline feeds the transformer: ids [B, L] padded right → [B, L, C].

    The encoder's own forward looks into the numbers to build its mask, which a CUDA graph can't; here none is needed:
    with causal attention and right padding, real tokens never see the padding. Words are looked up by a product
    with ones and zeros, whose gradient is a product too and no sort.
    """
    table = encoder.embed_tokens.weight
    hidden: Tensor = (ids[..., None] == torch.arange(len(table), device=ids.device)).to(table.dtype) @ table
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    rope = encoder.rotary_emb(hidden, positions)
    for layer in encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None, position_embeddings=rope)
    return hidden


def trained_parameters(encoder: TextEncoder, denoiser: BatchedDenoiser) -> list[nn.Parameter]:
    """Every parameter that a picture depends on: all but those behind the features that the pipeline reads."""
    read = [encoder.embed_tokens, *encoder.layers[:-1], denoiser]
    return [p for module in read for p in module.parameters()]


def cast_parameters(module: nn.Module, dtype: torch.dtype) -> None:
    """Parameters only: buffers (frequencies of rotary positions) keep their precision, as when a model is loaded."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
