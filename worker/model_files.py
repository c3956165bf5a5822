"""Where a model's files lie on this machine, whether it is named by a folder or by its id on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined, unused-ignore]
from safetensors import SafetensorError, safe_open

#: Every model in diffusers' format has it.
INDEX = "model_index.json"
#: Smaller parts are cast when they are loaded, which takes no time or memory to speak of.
LARGE_BYTES = 1 << 30


def folder_of(model: str) -> Path | None:
    """The folder itself, or the revision in the hub's cache that is loaded for this id; None where nothing is here yet.

    It is looked up without the network.
    """
    if Path(model).is_dir():
        return Path(model)
    try:
        found = try_to_load_from_cache(model, INDEX)
    except HFValidationError:  # a path that does not exist
        return None
    return Path(found).parent if isinstance(found, str) else None


def fetch(kind: Any, model: str) -> Path | None:
    """The folder itself, or the hub's newest revision, downloaded by the pipeline's `kind`; None: it can be neither."""
    if Path(model).is_dir():
        return Path(model)
    try:
        validate_repo_id(model)
    except HFValidationError:
        return None
    return Path(kind.download(model))


def stored_in_float32(folder: Path, least_bytes: int = LARGE_BYTES) -> list[str]:
    """Large parts of diffusers' own classes whose files hold nothing but float32.

    Z-Image-Turbo's denoiser is one: 24.6 GB in its files, 12.3 as it is used. Loaded as it is stored it takes no memory
    but pages of its files, and a start that finds it packed reads none of them.
    """
    try:
        parts = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError):
        return []
    names = [name for name, kind in parts.items() if isinstance(kind, list) and kind[:1] == ["diffusers"]]
    return [name for name in names if _is_float32(sorted((folder / name).glob("*.safetensors")), least_bytes)]


def _is_float32(files: list[Path], least_bytes: int) -> bool:
    """False for damaged or missing files as well: whoever loads them says what is wrong."""
    try:
        is_large = sum(file.stat().st_size for file in files) >= least_bytes
        return is_large and all(_types(file) == {"F32"} for file in files)
    except (OSError, SafetensorError):
        return False


def _types(file: Path) -> set[str]:
    """What its header says of its tensors."""
    with safe_open(file, "pt") as tensors:  # type: ignore[no-untyped-call, unused-ignore]
        return {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - it is no dict


def can_be_cast_later(part: Any) -> bool:
    """Whether its parameters are all that a load in another type makes different."""
    keeps = getattr(part, "_keep_in_fp32_modules", None)
    return not keeps and not any(buffer.is_floating_point() for buffer in part.buffers())


def loaded_from(pipe: Any, model: str) -> Path | None:
    """The folder that `pipe` was loaded from, as its parts say: the hub's newest revision may be another by now."""
    if Path(model).is_dir():
        return Path(model)
    names = [getattr(getattr(part, "config", None), "_name_or_path", "") for part in pipe.components.values()]
    folders = {Path(name).parent for name in names if name}
    found = [folder for folder in folders if (folder / INDEX).is_file()]
    return found[0] if len(folders) == len(found) == 1 else None
