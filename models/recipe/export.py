"""Write the trained parts as a plain ZImagePipeline folder, with the profile that the api reads."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline
from transformers import PreTrainedTokenizerFast

from models.recipe.model import TextEncoder, Transformer, Vae, build_noise_scheduler

SHARD = "8MB"
PROFILE = {
    "id": "zimg-starter",
    "square": [512, 512],
    "portrait": [448, 576],
    "landscape": [576, 448],
}


def export_pipeline(
    tokenizer: PreTrainedTokenizerFast,
    encoder: TextEncoder,
    transformer: Transformer,
    vae: Vae,
    folder: Path,
) -> int:
    """Save everything in bfloat16 under `folder` and return its size in bytes; the networks given stay as they are."""
    parts = [copy.deepcopy(m).to("cpu", torch.bfloat16).eval() for m in (encoder, transformer, vae)]
    pipeline: Any = ZImagePipeline(  # type: ignore[no-untyped-call]
        scheduler=build_noise_scheduler(),
        vae=parts[2].to(memory_format=torch.contiguous_format),
        text_encoder=parts[0],
        tokenizer=tokenizer,
        transformer=parts[1],
    )
    pipeline.save_pretrained(folder, max_shard_size=SHARD)
    _forget_origin(folder)
    (folder / "zimg.json").write_text(json.dumps({**PROFILE, "revision": revision_of(folder)}, indent=2) + "\n")
    return folder_size(folder)


def _forget_origin(folder: Path) -> None:
    """The folder that a trained model was loaded from is no part of the one that is written."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def revision_of(folder: Path) -> str:
    """Of all files that determine a pixel: other weights or another tokenizer are another revision."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.name != "zimg.json":
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def folder_size(folder: Path) -> int:
    """Bytes of all files below the folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
