"""Run as a process of its own: takes two forms of a small block from the folder, or compiles and keeps them.

python -m tests.unit.offload.keep_once FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch._dynamo.utils import counters

from tests.unit.offload.compile_once import Small
from worker.offload.compiling import CompiledForms, keep_compiled
from worker.offload.kept_forms import KeptForms
from worker.offload.strategies import Z_IMAGE


def main() -> None:
    keep_compiled(sys.argv[1])
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    kept = KeptForms(Path(sys.argv[1]) / "forms", "cpu", "inductor")
    forms = CompiledForms(Z_IMAGE, "inductor", kept=kept)
    forms.prepare([])  # as a start does
    forward = forms.both(Small().forward)
    outputs = [forward(torch.ones(1, 3, 8))]
    forms.freeze()
    outputs += [forward(torch.linspace(-1, 1, 8 * rows).view(1, rows, 8)) for rows in (5, 3, 9)]
    pixels = hashlib.sha256(b"".join(output.numpy().tobytes() for output in outputs)).hexdigest()
    traced, awake = counters["stats"]["unique_graphs"], "torch._inductor.lowering" in sys.modules
    print(json.dumps({**kept.counts, "traced": traced, "outputs": pixels, "compiler": awake}))


if __name__ == "__main__":
    main()
