"""How a picture's decode goes: the plan's way, and in strips for sizes that have no compiled form of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from worker.offload import strips
from worker.offload.assembly import Assembly
from worker.offload.compiling import CompiledForms
from worker.offload.rider import current_rider


def unnamed_mode(forms: CompiledForms | None, planned: str, wished: str) -> str:
    """How sizes without a compiled form of their own are decoded, where that is not the plan's way."""
    return "strips" if forms is not None and wished == "auto" and planned != "strips" else ""


def close_decoder(assembly: Assembly, forms: CompiledForms | None, planned: Callable[[], str], wished: str) -> None:
    """Decode as `planned` says, and note so with the rider; where any way is `wished`, unnamed sizes go in strips.

    A decoder compiled for any size took 0.8 GiB more than one compiled for its size (H100, 1024 x 1024).
    """
    decoder = assembly.decoder
    known = strips.can_decode(decoder)
    if decoder is None or not (forms is not None or known):
        return
    whole = forms.both(decoder.forward) if forms is not None else decoder.forward

    def decode(*args: Any, **kwargs: Any) -> torch.Tensor:
        unnamed = known and forms is not None and not forms.knows(*args, **kwargs)
        mode = "strips" if unnamed and wished == "auto" else planned()
        current_rider("the decoder").decode_mode = mode
        if mode == "strips":
            return strips.decode_in_strips(decoder, args[0])
        picture: torch.Tensor = whole(*args, **kwargs)
        return picture

    assembly.gates.replace(decoder, "forward", decode)
