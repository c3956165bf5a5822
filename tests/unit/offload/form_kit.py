"""Small modules whose compiled forms are kept, and what a process does with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._dynamo.aot_compile_types import GraphModuleSerializableCallable
from torch._dynamo.utils import counters

from worker.offload.compiling import CompiledForms
from worker.offload.kept_forms import SUFFIX, KeptForms
from worker.offload.strategies import Z_IMAGE

#: The cheapest backend whose forms can be kept.
BACKEND = "aot_eager"


class Small(nn.Module):
    def __init__(self, scale: float = 2.0, position: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8, dtype=torch.bfloat16)
        self.scale, self.position = scale, position

    def forward(self, x: torch.Tensor, twice: bool = False) -> torch.Tensor:
        out = nn.functional.silu(self.inner(x)) * self.scale
        return out + out if twice else out


class Start:
    """What a process does with kept forms: a new one knows nothing but the folder."""

    def __init__(self, folder: Path, device: str = "cpu", backend: str = BACKEND) -> None:
        torch._dynamo.reset()
        counters.clear()
        self.kept = KeptForms(folder, device, backend)
        self.forms = CompiledForms(Z_IMAGE, backend, kept=self.kept)
        self._forwards: dict[int, Callable[..., Any]] = {}

    def run(self, block: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        forward = self._forwards.setdefault(id(block), self.forms.both(block.forward))
        with torch.no_grad():
            output: torch.Tensor = forward(*args, **kwargs)
        return output

    def freeze(self) -> None:
        self.forms.freeze()

    @property
    def traced(self) -> int:
        return int(counters["stats"]["unique_graphs"])

    def saw(self, **expected: int) -> bool:
        return {name: self.kept.counts[name] for name in expected} == expected


@torch._dynamo.register_backend
def keepable_eager(graph: Any, _: Any) -> Any:
    """Traces alone, which is what a start is about, and can be kept."""
    return GraphModuleSerializableCallable(graph)


def rows(count: int) -> torch.Tensor:
    return torch.linspace(-1, 1, count * 8, dtype=torch.bfloat16).view(1, count, 8)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))
