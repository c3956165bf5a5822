"""cuBLAS, cuDNN and attention load themselves and their kernels with the first call: here, in place of in a picture."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch.nn import functional


def wake_libraries(where: torch.device) -> None:
    """Call each of them once, in any thread; what goes wrong is told by whoever needs them. Nothing stays taken."""
    with contextlib.suppress(Exception), torch.cuda.device(where), torch.no_grad():
        _compute_once(where)
        torch.cuda.current_stream().synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def _compute_once(where: torch.device) -> None:
    """What pictures are made of, in sizes for which large kernels are chosen; takes some 100 MB for a moment."""
    like: dict[str, Any] = {"dtype": torch.bfloat16, "device": where}
    functional.linear(torch.zeros(1024, 4096, **like), torch.zeros(4096, 4096, **like))
    heads = torch.zeros(1, 32, 1024, 128, **like)
    functional.scaled_dot_product_attention(heads, heads, heads)
    functional.conv2d(torch.zeros(1, 512, 128, 128, **like), torch.zeros(512, 512, 3, 3, **like), padding=1)
