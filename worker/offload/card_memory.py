"""What NVML says of a card's memory, and how torch is to take it."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import torch

logger = logging.getLogger(__name__)

#: What errors for want of memory say that are not torch's own.
FULL_WORDS = ("ALLOC_FAILED", "out of memory")
#: What a driver may come to hold for a process without booking it on it; more is a neighbour's.
UNBOOKED_GROWTH = 64 << 20
#: Bytes in use on each card, by its UUID, before this process started CUDA.
_BEFORE: dict[str, int] = {}


def used_bytes(where: torch.device) -> int:
    """Bytes in use on the card, by anybody; 0 when NVML can not be asked."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(_handle(where)).used)
    except Exception:
        return 0


def own_bytes(where: torch.device) -> int:
    """Bytes NVML books on this process; 0 when it can not tell (containers often hide process ids)."""
    try:
        import pynvml

        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(_handle(where)):
            if process.pid == os.getpid() and process.usedGpuMemory:
                return int(process.usedGpuMemory)
    except Exception:
        return 0
    return 0


def driver_version() -> str:
    """The driver's version; "" when NVML can not be asked."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:
        return ""


def card_of(where: str | torch.device) -> torch.device:
    """The card by its number: "cuda" is the first one that this process sees."""
    device = torch.device(where)
    return torch.device(device.type, device.index or 0)


def note_memory_before() -> None:
    """Remember each card's memory in use; call it before anything else touches a card, if anything else does.

    Of all cards, since CUDA and the driver's library number them differently, and only CUDA says which is which.
    """
    if _BEFORE:
        return
    try:
        import pynvml

        pynvml.nvmlInit()
        for handle in map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount())):
            _BEFORE[_text(pynvml.nvmlDeviceGetUUID(handle))] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:
        return


def bytes_since(where: torch.device) -> int:
    """Bytes in use on the card beyond what was then; beyond what is now for one that NVML did not list (MIG)."""
    try:
        uuid = _uuid_of(where)
    except Exception:
        return 0
    used = used_bytes(where)
    return used - _BEFORE.setdefault(uuid, used)


class Books:
    """What of a card's memory is this process's, whoever else takes some of it or gives it back."""

    def __init__(self) -> None:
        self._beside: int | None = None
        self._lock = threading.Lock()

    def bytes_of(self, own: int, since: int) -> int:
        """Bytes, of what NVML books on this process (0: it does not tell) and of what the whole card took since.

        The driver may take some for it that is booked on nobody: the least that was ever seen beside its own. More than
        that and UNBOOKED_GROWTH is somebody else's.
        """
        if own == 0:
            return max(since, 0)
        if since < own:  # somebody else gave memory back: it says nothing about what lies beside
            return own
        with self._lock:
            self._beside = since - own if self._beside is None else min(self._beside, since - own)
            return own + min(since - own, self._beside + UNBOOKED_GROWTH)


def use_expandable_segments() -> None:
    """Ask the allocator for growable segments, so that lent memory comes back whole; only before CUDA starts."""
    if "expandable_segments" in os.environ.get("PYTORCH_ALLOC_CONF", "") + os.environ.get(
        "PYTORCH_CUDA_ALLOC_CONF", ""
    ):
        return
    try:
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    except Exception as error:
        logger.warning("expandable segments could not be switched on (%s): the memory peak may be higher", error)


def give_back_pinned() -> None:
    """Empty torch's cache of pinned host memory, where this torch knows how (pytorch pull requests 134919, 171270)."""
    for name in ("_host_emptyCache", "_accelerator_emptyHostCache"):
        if (empty := getattr(torch._C, name, None)) is not None:
            empty()
            return


def _uuid_of(where: torch.device) -> str:
    """As the driver's library has it; starts CUDA."""
    return f"GPU-{torch.cuda.get_device_properties(where).uuid}"


def _text(name: str | bytes) -> str:
    """NVML's older bindings tell bytes."""
    return name.decode() if isinstance(name, bytes) else name


def _handle(where: torch.device) -> Any:
    """The card's NVML handle, found without starting CUDA (which would itself take memory)."""
    import pynvml

    if torch.cuda.is_initialized():
        return pynvml.nvmlDeviceGetHandleByUUID(_uuid_of(where))
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    chosen = visible[where.index or 0] if visible else str(where.index or 0)
    if chosen.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(chosen))
    return pynvml.nvmlDeviceGetHandleByUUID(chosen)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the card, or a library's own memory on it, was full, as torch, Triton or the driver say it."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in FULL_WORDS)
