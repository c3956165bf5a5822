"""The GPU as NVML sees it, all processes included; on a machine without one, nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class CardMemory:
    """Bytes in use on the card by all processes, and in all."""

    used: int
    total: int

    @property
    def share(self) -> float:
        return self.used / self.total


class Card:
    """One card, found in NVML by torch's own identity of it (the two number cards differently)."""

    def __init__(self, device: str) -> None:
        import pynvml

        pynvml.nvmlInit()
        self._nvml: Any = pynvml
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        self._handle = pynvml.nvmlDeviceGetHandleByUUID(name)

    def memory(self) -> CardMemory:
        """A reading of now."""
        info = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        return CardMemory(int(info.used), int(info.total))


def open_card(device: str) -> Card | None:
    """The card of a CUDA device, None on a CPU or where NVML does not answer."""
    if not device.startswith("cuda"):
        return None
    try:
        return Card(device)
    except Exception:  # NVML is a help, not a need: containers and MIG slices may hide it
        return None
