"""Loading what inductor generated without inductor: its code asks for two names of the whole compiler.

Those modules take 0.5 to 1 s to import, of a restart that compiles nothing. While a form is loaded stand-ins answer for
them; whoever asks a stand-in for more has the real module imported.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch._inductor.utils

#: What generated code calls by these names are torch's own functions.
TORCH_S_OWN = frozenset({"mm", "addmm", "bmm", "baddbmm", "convolution"})
MEMORY, KERNELS, GRAPH, DEBUG = (
    "torch._inductor.codegen.memory_planning",
    "torch._inductor.select_algorithm",
    "torch._inductor.graph",
    "torch._inductor.debug",
)
#: What loading takes of torch and no stand-in answers for.
NEEDED = (
    "torch._functorch._aot_autograd.aot_autograd_result",
    "torch._inductor.async_compile",
    "torch._inductor.hooks",
    "torch._inductor.runtime.triton_heuristics",
)
_ONE_AT_A_TIME = threading.Lock()


class _StandIn(types.ModuleType):
    """A module of the compiler of which a few names are known."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _stand_in(name: str, known: dict[str, Any]) -> _StandIn:
    module = _StandIn(name)
    vars(module).update(known)
    return module


class _Kernels:
    """The functions that generated code calls."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(torch if name in TORCH_S_OWN else _real(KERNELS).extern_kernels, name)
        setattr(self, name, found)
        return found


class _GraphLowering:
    """Told of the code that is loaded; torch's own tests listen."""

    @staticmethod
    def save_output_code(code: str) -> None:
        """Nobody does here."""


_KNOWN: dict[str, dict[str, Any]] = {
    MEMORY: {"_align": torch._inductor.utils._align},
    KERNELS: {"extern_kernels": _Kernels()},
    GRAPH: {"GraphLowering": _GraphLowering},
}


def wake_loader() -> None:
    """Import all that loading and running forms needs; trouble is told by whoever loads or compiles first."""
    for name in NEEDED:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if DEBUG not in sys.modules and not hasattr(torch._inductor, "debug"):
        torch._inductor.debug = _stand_in(DEBUG, {"RECORD_GRAPH_EXECUTION": False})  # each call of a form looks at it


def hash_code() -> None:
    """Read what torch tells its kernels apart by, 0.25 s that mostly leave Python to others; trouble as above."""
    with contextlib.suppress(Exception):
        from torch._inductor.codecache import torch_key

        torch_key()


def wake_compiler() -> None:
    """Import all of inductor that compiling needs; trouble is told by whoever compiles first."""
    with contextlib.suppress(Exception):
        import torch._inductor.compile_fx  # noqa: F401


def load_generated(load: Callable[[], Any]) -> Any:
    """What `load` returns, done without the compiler; once more with it where that fails. Raises what `load` raises."""
    with contextlib.suppress(Exception), _compiler_asleep():
        return load()
    return load()


@contextlib.contextmanager
def _compiler_asleep() -> Iterator[None]:
    """Let stand-ins answer for those modules that are not imported yet."""
    with _ONE_AT_A_TIME:
        for name in _KNOWN.keys() - sys.modules.keys():
            sys.modules[name] = _stand_in(name, _KNOWN[name])
        try:
            yield
        finally:
            _dismiss()


def _dismiss() -> None:
    for name in _KNOWN:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _real(name: str) -> Any:
    """The module itself, imported now if need be."""
    _dismiss()
    return importlib.import_module(name)
