"""torch.compile of blocks and decoder: once for every block of a class, weights being inputs at fixed addresses.

The shapes ridden at warm-up get a form of their own (some 5 % faster on an H100); every other shape runs the form for
any length. So which form a shape runs depends on the shape and the settings, never on what came before.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from worker.offload.blocks import Block
from worker.offload.strategies import Strategy

if TYPE_CHECKING:
    from worker.offload.assembly import Assembly

#: Variants of one piece of code that may be compiled: kinds of block times shapes.
VARIANTS = 256


class CompiledForms:
    """The compiled forms of a strategy's blocks; learns shapes until `freeze`."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._known: set[tuple[int, ...]] = set()
        self._is_frozen = False
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, VARIANTS)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 4 * VARIANTS)

    def freeze(self) -> None:
        """Warm-up is over: shapes not seen so far run the form for any length."""
        self._is_frozen = True

    def of(self, block: Block) -> Callable[..., Any] | None:
        """The block's compiled forward, or None where the strategy says that compiling does not pay."""
        how = self._strategy.stages[block.stop.stage].compiled
        if block.unneeded or how == "no":
            return None
        fixed = torch.compile(block.module.forward, dynamic=False)
        if how == "fixed":
            return fixed
        any_length = torch.compile(_twin(block.module.forward), dynamic=True)

        def forward(*args: Any, **kwargs: Any) -> Any:
            shape = tuple(args[0].shape)
            if not self._is_frozen:
                self._known.add(shape)
            return fixed(*args, **kwargs) if shape in self._known else any_length(*args, **kwargs)

        return forward


@functools.cache
def _twin_function(function: Any) -> Any:
    """The same function with a code object of its own: compiled forms are kept per code object and must not mix."""
    code = function.__code__.replace(co_name=f"{function.__name__}_any_length")
    twin = types.FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


def _twin(method: Any) -> Callable[..., Any]:
    return types.MethodType(_twin_function(method.__func__), method.__self__)


def compile_decoder(assembly: Assembly) -> None:
    """Compile the picture decoder: less than half the time and half the memory of the eager one."""
    decoder = getattr(getattr(assembly.pipe, assembly.strategy.decoder), "decoder", None)
    if decoder is not None:
        assembly.gates.replace(decoder, "forward", torch.compile(decoder.forward, dynamic=False))
