"""What is compiled for a kept form: a file of its own, since forms are kept for as long as the code that they are
made of does not change, and an upgrade of zimg need not compile every form anew.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch import nn


def _call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What is compiled: `forward`, a class's own function, for any module of that class."""
    return forward(module, *args, **kwargs)  # type: ignore[name-defined]  # noqa: F821 - a global of the copy's own


def function_of(forward: Callable[..., Any]) -> types.FunctionType:
    """`_call` with `forward` among its globals, where torch neither keeps it nor asks whether it is the same object."""
    return types.FunctionType(_call.__code__, {"forward": forward, "__name__": __name__, "__builtins__": __builtins__})
