"""Gates: what stands before every carried block and before the decode, and how all of it is taken away again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import nn

from worker.offload.blocks import Block, Stop, pass_by
from worker.offload.device import Device
from worker.offload.rider import Rider, current_rider
from worker.offload.text import PromptCache


class Gates:
    """Replaced methods of modules; `remove` puts every one back."""

    def __init__(self, device: Device, cache: PromptCache) -> None:
        self._device, self._cache = device, cache
        self._replaced: list[tuple[Any, str]] = []

    def replace(self, owner: Any, name: str, method: Callable[..., Any]) -> None:
        """Shadow a method of `owner` by an instance attribute."""
        object.__setattr__(owner, name, method)
        self._replaced.append((owner, name))

    def remove(self) -> None:
        for owner, name in reversed(self._replaced):
            owner.__dict__.pop(name, None)
        self._replaced.clear()

    def guard_block(self, block: Block, run: Callable[..., Any]) -> None:
        """Let `run` (the block's forward, or its compiled form) happen only at the block's turn."""
        if block.unneeded:
            self.pass_by(block.module)
        elif block.once:
            self.replace(block.module, "forward", self._once(block, run))
        else:
            self.replace(block.module, "forward", _at_turn(block, run))

    def pass_by(self, module: nn.Module) -> None:
        """Let a module whose output nobody looks at hand on its input."""
        self.replace(module, "forward", pass_by)

    def guard_decode(self, decoder: nn.Module, stop: Stop) -> None:
        """Let the decode happen only at its turn; notes whether the latents are finite."""
        original: Callable[..., Any] = getattr(decoder, "decode")  # noqa: B009 - nn.Module hides its type

        def decode(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            rider = current_rider("the decoder")
            rider.wait_at(stop)
            rider.finite = torch.isfinite(latents).all()
            rider.passes_left = 0
            return original(latents, *args, **kwargs)

        self.replace(decoder, "decode", decode)

    def _once(self, block: Block, run: Callable[..., Any]) -> Callable[..., Any]:
        """Runs once per prompt (and batch shape); later passes and later jobs with the prompt get the kept output."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            rider = current_rider(block.name)
            key = (block.name, tuple(args[0].shape))
            output = self._recall(rider, key)
            if output is None:
                rider.wait_at(block.stop)
                output = run(*args, **kwargs)
                self._remember(rider, key, output)
            rider.refined = True
            return output

        return forward

    def _recall(self, rider: Rider, key: Hashable) -> torch.Tensor | None:
        if key not in rider.memo and rider.prompt_key is not None:
            known = self._cache.get((rider.prompt_key, key))
            if known is not None:
                rider.memo[key] = known
        return rider.memo.get(key)

    def _remember(self, rider: Rider, key: Hashable, output: torch.Tensor) -> None:
        rider.memo[key] = output
        if rider.prompt_key is not None:
            self._cache.put((rider.prompt_key, key), output, rider.since)


def _at_turn(block: Block, run: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        current_rider(block.name).wait_at(block.stop)
        return run(*args, **kwargs)

    return forward
