"""The real worker on the real engine, over a model whose kernels can break: `python -m tests.faulty_worker`.

A file in FAULTS breaks the next forward of the transformer, once: `hang` (it never comes back), `sticky` (the error
that PyTorch raises when the CUDA context is lost), `oom`. Each picture that is begun leaves its prompt as a line in
FAULTS/drawn.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel

from worker import __main__ as worker_main
from worker.offload import Carousel

FAULTS = Path(os.environ["FAULTS"])
ERRORS = {
    "sticky": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "oom": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
}


def is_due(name: str) -> bool:
    """Whether somebody asked for this fault; whoever takes the file away has it."""
    try:
        (FAULTS / name).rename(FAULTS / f"{name}-happened")
    except FileNotFoundError:
        return False
    return True


forward, submit = ZImageTransformer2DModel.forward, Carousel.submit


def break_now_and_then(self: Any, *args: Any, **more: Any) -> Any:
    if is_due("hang"):
        time.sleep(3600)
    for name, error in ERRORS.items():
        if is_due(name):
            raise error
    return forward(self, *args, **more)


def note(self: Any, **order: Any) -> Any:
    with (FAULTS / "drawn").open("a") as file:
        file.write(order["prompt"] + "\n")
    return submit(self, **order)


ZImageTransformer2DModel.forward = break_now_and_then
Carousel.submit = note

if __name__ == "__main__":
    worker_main.main()
