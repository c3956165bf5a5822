"""Z-Image-Turbo at its full shape with random bf16 weights: speed and memory do not depend on the weights' values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte: no download, caption lengths easy to set."""
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE(vocab={name: at for at, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        padding_side="right",
    )
    fast.chat_template = TEMPLATE
    return fast


def build_z_image(device: str, *, tiny: bool = False) -> Any:
    """A ZImagePipeline on `device`; `tiny` for trying a benchmark out on a CPU."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        transformer, encoder, vae = _tiny_parts() if tiny else _full_parts()
    torch.set_default_dtype(torch.float32)
    for seed, module in enumerate((transformer, encoder, vae)):
        module.to(torch.bfloat16)
        _fill(module, seed)
        module.eval().requires_grad_(False)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False)
    pipe = ZImagePipeline(
        scheduler=scheduler, vae=vae, text_encoder=encoder, tokenizer=byte_tokenizer(), transformer=transformer
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def saved_model(folder: Path, *, tiny: bool = False, float32: bool = False) -> Path:
    """The model as files in diffusers' format, written once: 20 GB at the full shape.

    With `float32` the denoiser is stored so, as the published one is: 33 GB.
    """
    if not (folder / "model_index.json").is_file():
        where = "cpu" if tiny or not torch.cuda.is_available() else "cuda"
        pipe = build_z_image(where, tiny=tiny)
        if float32:
            pipe.transformer.to(torch.float32)
        draft = folder.with_name(f"{folder.name}.part")
        pipe.save_pretrained(draft, max_shard_size="4GB")
        if tiny:
            sizes = {"square": [256, 256], "portrait": [256, 272], "landscape": [272, 256]}
            (draft / "zimg.json").write_text(json.dumps({"id": "random-tiny", "revision": "1", **sizes}))
        draft.rename(folder)
    return folder


def _full_parts() -> tuple[Any, Any, Any]:
    encoder = Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
    )
    with _no_init():
        return ZImageTransformer2DModel(), Qwen3Model(encoder), _vae((128, 256, 512, 512), 2, 32)


def _tiny_parts() -> tuple[Any, Any, Any]:
    encoder = Qwen3Config(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    transformer = ZImageTransformer2DModel(
        dim=64, n_layers=6, n_heads=2, n_kv_heads=2, cap_feat_dim=32, axes_dims=[8, 12, 12], axes_lens=[1024, 64, 64]
    )
    return transformer, Qwen3Model(encoder), _vae((8, 8, 16, 16), 1, 4)


def _vae(channels: tuple[int, ...], layers: int, groups: int) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=16,
        norm_num_groups=groups,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )


class _no_init:  # noqa: N801 - used like a function
    """Skip torch's own initialisation of linear layers and convolutions: _fill overwrites it."""

    def __enter__(self) -> None:
        self._kept = {kind: kind.reset_parameters for kind in (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding)}
        for kind in self._kept:
            kind.reset_parameters = lambda self: None  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        for kind, method in self._kept.items():
            kind.reset_parameters = method  # type: ignore[method-assign]


def _fill(module: torch.nn.Module, seed: int) -> None:
    """Random matrices scaled so that signals neither die nor explode; norms one, biases zero."""
    generator = torch.Generator(device=next(module.parameters()).device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
