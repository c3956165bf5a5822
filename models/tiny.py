"""The tiny model: a true ZImagePipeline with random weights from a seed, below 2 MB, for tests.

    python -m models.tiny [OUT_DIR]        (models/tiny)

It knows nothing of the world, but it obeys: prompt and seed decide the picture, and every part of the real pipeline
does its real work. The decoder's weights are scaled on random latents so that pictures are bright and not flat.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

SEED = 20_261_124
TEXT_WIDTH, WIDTH, LATENT_CHANNELS = 64, 64, 16
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
#: Qwen3's, as far as ZImagePipeline asks: `enable_thinking` is known, and an empty thought closes where it is off.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
PROFILE = {
    "id": "zimg-tiny",
    "revision": f"seed-{SEED}",
    "square": [512, 512],
    "portrait": [448, 576],
    "landscape": [576, 448],
}


def build_pipeline(seed: int = SEED) -> Any:
    """The pipeline in bfloat16; the same seed gives the same weights."""
    modules: tuple[Any, Any, Any] = (_transformer(), _text_encoder(), _vae())
    transformer, text_encoder, vae = modules
    for offset, module in enumerate(modules):
        _fill(module, torch.Generator().manual_seed(seed + offset))
        module.eval().requires_grad_(False)
    _raise_voice(transformer)
    _spread(vae, torch.Generator().manual_seed(seed))
    for module in modules:
        module.to(torch.bfloat16)
    kind: Any = ZImagePipeline
    noise_scheduler: Any = FlowMatchEulerDiscreteScheduler
    return kind(
        scheduler=noise_scheduler(num_train_timesteps=1000, shift=3.0, use_dynamic_shifting=False),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(),
        transformer=transformer,
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte: every text in every language encodes."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for word in SPECIAL:
        vocabulary[word] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    kind: Any = PreTrainedTokenizerFast
    fast: PreTrainedTokenizerFast = kind(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=list(SPECIAL[1:]),
        padding_side="right",
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save(folder: Path) -> None:
    """Write the model in diffusers' format, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tiny-") as scratch:
        fresh = Path(scratch) / "model"
        build_pipeline().save_pretrained(fresh, safe_serialization=True)
        (fresh / "zimg.json").write_text(json.dumps(PROFILE, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)


def _transformer() -> Any:
    kind: Any = ZImageTransformer2DModel
    return kind(
        dim=WIDTH,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[8, 12, 12],
        axes_lens=[1024, 128, 128],
    )


def _text_encoder() -> Qwen3Model:
    return Qwen3Model(
        Qwen3Config(
            vocab_size=256 + len(SPECIAL),
            hidden_size=TEXT_WIDTH,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=32,
            max_position_embeddings=2048,
        )
    )


def _vae() -> Any:
    """8 x 8 pixels per latent; few channels at full resolution, so that a CPU decodes quickly."""
    kind: Any = AutoencoderKL
    return kind(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 16, 24),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Matrices that keep the size of what passes, gains of one, no offsets."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5, generator=generator)
        elif name.endswith("weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.zeros_(parameter)


@torch.no_grad()
def _raise_voice(transformer: Any) -> None:
    """Let the transformer outweigh the noise, so that the prompt shows."""
    for name, parameter in transformer.named_parameters():
        if "final_layer" in name and name.endswith(".linear.weight"):
            parameter.mul_(4.0)


@torch.no_grad()
def _spread(vae: Any, generator: torch.Generator) -> None:
    """Scale the decoder's last layer so that its pictures use most of the range from -1 to 1."""
    latents = torch.randn(1, LATENT_CHANNELS, 32, 32, generator=generator)
    picture = vae.decode(latents).sample
    last = vae.decoder.conv_out
    last.weight.mul_(0.5 / picture.std())


def main() -> None:
    """Write the model to the folder named by the first argument."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "tiny")
    save(parser.parse_args().folder)


if __name__ == "__main__":
    main()
