"""torch.compile of blocks and decoder: once for every block of a class, weights being inputs at fixed addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from worker.offload.blocks import Block
from worker.offload.strategies import Strategy

if TYPE_CHECKING:
    from worker.offload.assembly import Assembly

#: Variants of one piece of code that may be compiled: kinds of block times shapes of the picture decoder.
VARIANTS = 64


def compiled_block(strategy: Strategy) -> Callable[[Block], Callable[..., Any] | None]:
    """For a block its compiled forward, or None where the strategy says that compiling does not pay."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)

    def compiled(block: Block) -> Callable[..., Any] | None:
        how = strategy.stages[block.stop.stage].compiled
        if block.unneeded or how == "no":
            return None
        return torch.compile(block.module.forward, dynamic=how == "any length")

    return compiled


def compile_decoder(assembly: Assembly) -> None:
    """Compile the picture decoder: less than half the time and half the memory of the eager one."""
    decoder = getattr(getattr(assembly.pipe, assembly.strategy.decoder), "decoder", None)
    if decoder is not None:
        assembly.gates.replace(decoder, "forward", torch.compile(decoder.forward, dynamic=False))
