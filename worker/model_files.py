"""Where a model's files lie on this machine, whether it is named by a folder or by its id on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

#: Every model in diffusers' format has it.
INDEX = "model_index.json"


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


def loaded_from(pipe: Any, model: str) -> Path | None:
    """The folder that `pipe` was loaded from, as its parts say: the hub's newest revision may be another by now."""
    if Path(model).is_dir():
        return Path(model)
    names = [getattr(getattr(part, "config", None), "_name_or_path", "") for part in pipe.components.values()]
    folders = {Path(name).parent for name in names if name}
    found = [folder for folder in folders if (folder / INDEX).is_file()]
    return found[0] if len(folders) == len(found) == 1 else None
