"""Where two ways to draw one picture part: digests of what passes between the pipeline's parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Trail = list[tuple[str, str]]


@contextmanager
def trail_of(pipe: Any) -> Iterator[Trail]:
    """Collects, while inside, digests of the denoiser's inputs and outputs at each step and of the decoder's input.

    One picture at a time: riders in company would write into one another's trail. Each entry makes the host wait.
    """
    found: Trail = []

    def note(name: str, value: Any) -> None:
        found.extend((f"{name} {at}", _digest(tensor)) for at, tensor in enumerate(_tensors(value)))

    hooks = [
        pipe.transformer.register_forward_pre_hook(
            lambda _, args, kwargs: note("denoiser's input", (args, kwargs)), with_kwargs=True
        ),
        pipe.transformer.register_forward_hook(lambda _, __, output: note("denoiser's output", output)),
        pipe.vae.decoder.register_forward_pre_hook(lambda _, args: note("decoder's input", args)),
        pipe.vae.decoder.register_forward_hook(lambda _, __, output: note("decoder's output", output)),
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def where_they_part(one: Trail, other: Trail) -> str:
    """The first entry that differs, or "" where the shorter trail is the beginning of the longer one."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return f"entry {at} of {len(one)}: {left[0]}" + ("" if left[0] == right[0] else f" beside {right[0]}")
    return ""


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []


def _digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(plain.numpy().tobytes()).hexdigest()[:16]
