"""Run as a process of its own: compiles two forms of a small block, then prints what of them came from the folder.

python -m tests.unit.offload.compile_once FOLDER
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn
from torch._dynamo.utils import counters

from worker.offload.compiling import CompiledForms, keep_compiled
from worker.offload.strategies import Z_IMAGE


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.amp.autocast("cuda", enabled=False):  # as Z-Image's blocks do
            return nn.functional.silu(self.inner(x)) * 2


def main() -> None:
    keep_compiled(sys.argv[1])
    torch.set_grad_enabled(False)
    forms = CompiledForms(Z_IMAGE, "inductor")
    forward = forms.both(Small().forward)
    forward(torch.ones(1, 3, 8))
    forms.freeze()
    forward(torch.ones(1, 5, 8))
    graphs = counters["stats"]["unique_graphs"]
    for shape in ((1, 3, 8), (1, 6, 8), (1, 9, 8), (2, 7, 8)):
        forward(torch.ones(shape))
    found, whole = counters["inductor"], counters["aot_autograd"]
    print(
        json.dumps(
            {
                "forms": graphs,
                "later": counters["stats"]["unique_graphs"] - graphs,
                "compiled": found["fxgraph_cache_miss"],
                "found": found["fxgraph_cache_hit"],
                "whole": whole["autograd_cache_hit"],
            }
        )
    )


if __name__ == "__main__":
    main()
