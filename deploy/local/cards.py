"""Which NVIDIA cards the local service has a worker for, without loading torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.errors import ConfigurationError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_cards(environ: Mapping[str, str], list_cards: Callable[[], Sequence[str]] | None = None) -> list[str]:
    """A value of CUDA_VISIBLE_DEVICES for each card that gets a worker; empty where there is none or no choice.

    ZIMG_GPUS says how many of the visible ones; a ZIMG_DEVICE that names the CPU or one card leaves no choice. Raises
    ConfigurationError for a ZIMG_GPUS that can't be.
    """
    wanted = environ.get("ZIMG_GPUS", "")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise ConfigurationError(f"ZIMG_GPUS={wanted!r} is not a number of cards")
    if environ.get("ZIMG_DEVICE", "auto") not in ("", "auto", "cuda"):
        return []
    cards = _named(environ[VISIBLE]) if environ.get(VISIBLE) else list((list_cards or _by_nvml)())
    if wanted and int(wanted) > len(cards) and int(wanted) > 1:
        raise ConfigurationError(f"ZIMG_GPUS={wanted}, but {len(cards)} cards can be seen here (nvidia-smi lists them)")
    return cards[: int(wanted)] if wanted else cards


def _named(visible: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names: up to the first that is none, as CUDA reads it."""
    cards: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-"):
            break
        cards.append(name)
    return cards


def _by_nvml() -> list[str]:
    """UUIDs, since NVML and CUDA may number cards differently; none without a driver."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver
        return []
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return [str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        nvml.nvmlShutdown()
