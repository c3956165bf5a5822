"""Settings that torch keeps for each thread: riders share one thread, and each goes on with its own.

Grad mode, inference mode and autocast lie in torch's own thread-local memory, the default dtype in the process; none of
them follows a coroutine. A pipeline that stops inside `torch.autocast(…)` would leave it to whoever rides next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

KINDS = ("cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Modes:
    """What was in force in a thread."""

    grad: bool
    inference: bool
    dtype: torch.dtype
    cache: bool
    autocast: tuple[tuple[bool, torch.dtype], ...]  # of KINDS


def modes_now() -> Modes:
    """Of this thread."""
    return Modes(
        grad=torch.is_grad_enabled(),
        inference=torch.is_inference_mode_enabled(),
        dtype=torch.get_default_dtype(),
        cache=torch.is_autocast_cache_enabled(),
        autocast=tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in KINDS),
    )


class OwnModes:
    """One coroutine's settings while it does not run; those of `outside` are in force meanwhile."""

    def __init__(self, outside: Modes) -> None:
        self._outside, self._own = outside, outside
        self._guard: Any = None  # keeps inference mode as it is outside, until it is let go of

    def enter(self) -> None:
        """The coroutine goes on."""
        self._guard = None
        if self._own != self._outside:
            _put_in_force(self._own)

    def leave(self) -> None:
        """It stopped, or came to its end."""
        self._own = modes_now()
        if self._own == self._outside:
            return
        if self._own.inference != self._outside.inference:
            self._guard = torch._C._InferenceMode(self._outside.inference)
        _put_in_force(self._outside)


def _put_in_force(modes: Modes) -> None:
    """All but inference mode, which only a guard can change; it changes grad mode too, so that comes after it."""
    torch.set_grad_enabled(modes.grad)
    torch.set_default_dtype(modes.dtype)
    torch.set_autocast_cache_enabled(modes.cache)
    for kind, (is_on, dtype) in zip(KINDS, modes.autocast, strict=True):
        torch.set_autocast_enabled(kind, is_on)
        torch.set_autocast_dtype(kind, dtype)
