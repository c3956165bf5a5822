"""Loading what inductor generated without inductor: its code asks for two names of the whole compiler.

Those modules take 0.5 to 1 s to import, of a restart that compiles nothing. While a form is loaded stand-ins lie in
their places; they answer the code that is loaded, and everybody else, in any thread, has the real module imported.
The one for `torch._inductor.debug`, of which each call of a form asks a flag, stays until that module is imported.
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
#: Held while a form is loaded; and, never during an import, while stand-ins come and go.
_ONE_LOAD, _CHANGE = threading.Lock(), threading.Lock()


class _StandIn(types.ModuleType):
    """A module of the compiler that answers the modules that `asked_by` names, by a prefix, for what it knows."""

    def __init__(self, name: str, asked_by: str, known: dict[str, Any]) -> None:
        super().__init__(name)
        self._asked_by, self._known = asked_by, known

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        asking = str(sys._getframe(1).f_globals.get("__name__", ""))
        if name in self._known and asking.startswith(self._asked_by):
            return self._known[name]
        return getattr(_real(self.__name__), name)


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


#: Who asks: code that inductor generated, the module that loads it, and the one that calls it.
GENERATED, LOADER, CALLER = (
    "torch._inductor.runtime.compile_tasks",
    "torch._inductor.codecache",
    "torch._inductor.output_code",
)
_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    MEMORY: (GENERATED, {"_align": torch._inductor.utils._align}),
    KERNELS: (GENERATED, {"extern_kernels": _Kernels()}),
    GRAPH: (LOADER, {"GraphLowering": _GraphLowering}),
}


def wake_loader() -> None:
    """Import all that loading and running forms needs; trouble is told by whoever loads or compiles first."""
    for name in NEEDED:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if DEBUG not in sys.modules and not hasattr(torch._inductor, "debug"):
        torch._inductor.debug = _StandIn(DEBUG, CALLER, {"RECORD_GRAPH_EXECUTION": False})


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
    """Let stand-ins lie where modules that are not imported yet would."""
    with _ONE_LOAD:
        with _CHANGE:
            for name, (asked_by, known) in _KNOWN.items():
                sys.modules.setdefault(name, _StandIn(name, asked_by, known))
        try:
            yield
        finally:
            _dismiss()


def _dismiss() -> None:
    with _CHANGE:
        for name in _KNOWN:
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]


def _real(name: str) -> Any:
    """The module itself, imported now if need be."""
    _dismiss()
    return importlib.import_module(name)
