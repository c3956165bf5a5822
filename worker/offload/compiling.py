"""torch.compile of blocks and decoder: once for every block of a class, weights being inputs at fixed addresses.

The shapes ridden at warm-up get a form of their own (some 5 % faster on an H100); every other shape runs the form for
any shape, which is compiled at warm-up too. So which form a shape runs depends on the shape and the settings, never on
what came before, and nothing is compiled while jobs ride.
"""

from __future__ import annotations

import contextlib
import functools
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch._inductor import config as inductor_config
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from worker.offload.blocks import Block
from worker.offload.experience import Layout
from worker.offload.generated import wake_compiler, wake_loader
from worker.offload.kept_forms import BY_RULE, KeptForms
from worker.offload.strategies import Strategy

if TYPE_CHECKING:
    from worker.offload.carousel import Options

#: torch's and Triton's names for the folders where they keep what they compiled.
FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
#: Beside them, whole forms that later processes need not even trace.
FORMS = "forms"
#: Z-Image's rotary embedding switches autocast off; torch does not know that these two are safe to keep (they are in
#: the key, arguments included), and would take every such graph apart anew in each process: half of what a form costs.
KEEPABLE = ("torch.amp.autocast_mode._enter_autocast", "torch.amp.autocast_mode._exit_autocast")
#: Variants of one piece of code that may be compiled: kinds of block times shapes.
VARIANTS = 256


def keep_compiled(folder: str | Path) -> None:
    """Have compiled forms kept in `folder`, where a later process finds them; folders that the user named stay."""
    if folder:
        for name, inner in FOLDERS.items():
            if os.environ.get(name) in (None, default_cache_dir()):  # torch names its own in the temporary folder
                os.environ[name] = str(Path(folder).absolute() / inner)


def _mark_keepable() -> None:
    """Let whole compiled forms be found by later processes; a torch that can not be told so finds them in part."""
    marked = getattr(inductor_config, "unsafe_marked_cacheable_functions", None)
    if isinstance(marked, dict):
        marked.update(dict.fromkeys(KEEPABLE, "1"))


def open_forms(strategy: Strategy, options: Options, device: str) -> CompiledForms:
    """A pipeline's compiled forms, kept where the caller named a folder; `device` tells the card and its driver."""
    kept, backend = None, options.compile_backend
    if options.compile_cache:
        kept = KeptForms(Path(options.compile_cache) / FORMS, device, backend, options.identity)
    return CompiledForms(strategy, backend, guided=options.guided, kept=kept)


class CompiledForms:
    """The compiled forms of a pipeline's blocks and decoder; learns shapes until `freeze`."""

    def __init__(
        self, strategy: Strategy, backend: str, *, guided: bool = False, kept: KeptForms | None = None
    ) -> None:
        self._strategy, self._backend, self._guided, self._kept = strategy, backend, guided, kept
        self._known: set[Layout] = set()
        self.is_frozen = False
        _mark_keepable()
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, VARIANTS)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 4 * VARIANTS)

    def recall(self, layouts: Iterable[Layout]) -> None:
        """Take over what an earlier start's warm-up rode, and learn no more."""
        self._known.update(layouts)
        self.freeze()

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """What the warm-up rode."""
        return tuple(sorted(self._known))

    def freeze(self) -> None:
        """Shapes not seen so far run the form for any shape."""
        self.is_frozen = True

    def prepare(self, modules: Iterable[Any], is_enough: Callable[[], bool] = lambda: False) -> None:
        """Import what is needed and load what the last start used, until `is_enough`: the rest is loaded when called.

        What goes wrong is told then, too.
        """
        if self._backend == "inductor":
            (wake_compiler if self._kept is None else wake_loader)()
        if self._kept is not None:
            with contextlib.suppress(Exception):
                forwards = (module.forward.__func__ for module in modules if _has_method(module))
                self._kept.load_ahead(forwards, is_enough)

    def are_there(self, receipt: tuple[str, ...]) -> bool:
        """Whether all that another start called can be had, so that nothing is compiled; see `receipt`."""
        return self._kept is not None and self._kept.honours(receipt)

    @property
    def receipt(self) -> tuple[str, ...]:
        """What was called so far, for a later start's `are_there`; nothing where not all of it is kept."""
        return () if self._kept is None else self._kept.receipt()

    def note_used(self, *, is_all: bool = True) -> None:
        """What a start needs has been called, or only some of it: the next one may load it ahead."""
        if self._kept is not None:
            self._kept.note_used(is_all=is_all)

    def of(self, block: Block) -> Callable[..., Any] | None:
        """The block's compiled forward, or None where the strategy says that compiling does not pay."""
        how = self._strategy.stages[block.stop.stage].compiled
        if block.unneeded or how == "no":
            return None
        if how == "fixed":
            return self._form(block.module.forward, block.module.forward, dynamic=False)
        return self.both(block.module.forward)

    def both(self, method: Any) -> Callable[..., Any]:
        """`method` in its two forms (as it is for batches, where guidance was not named); tensors' shapes say which."""
        fixed = self._form(method, method, dynamic=False)
        twin: Any = types.MethodType(_twin_function(method.__func__), method.__self__)
        any_shape = self._form(method, twin, dynamic=True)

        def forward(*args: Any, **kwargs: Any) -> Any:
            if not self._guided and _is_batch(args, kwargs):
                return method(*args, **kwargs)
            return fixed(*args, **kwargs) if self.knows(*args, **kwargs) else any_shape(*args, **kwargs)

        return forward

    def _form(self, method: Any, traced: Any, *, dynamic: bool) -> Callable[..., Any]:
        """`method` as a kept form where these are kept and it can be; else torch compiles `traced`, its equal."""
        if self._kept is None or not isinstance(method, types.MethodType):
            return self._by_torch(traced, dynamic=dynamic)

        @functools.cache
        def by_torch() -> Callable[..., Any]:
            return self._by_torch(traced, dynamic=dynamic)  # imports the whole compiler, which kept forms do not need

        def usual(*args: Any, **kwargs: Any) -> Any:
            return by_torch()(*args, **kwargs)

        return self._kept.around(method, usual, dynamic=dynamic)

    def _by_torch(self, traced: Any, *, dynamic: bool) -> Callable[..., Any]:
        options: Any = dict(BY_RULE) if self._backend == "inductor" else None
        compiled: Callable[..., Any] = torch.compile(traced, dynamic=dynamic, backend=self._backend, options=options)
        return compiled

    @property
    def counts(self) -> dict[str, int]:
        """How many forms were loaded, compiled, kept, or left to torch; nothing where none are kept."""
        return {} if self._kept is None else dict(self._kept.counts)

    def knows(self, *args: Any, **kwargs: Any) -> bool:
        """Whether these tensors' shapes were ridden at warm-up; until `freeze` they are learned."""
        shape = _layout_of(args, kwargs)
        if not self.is_frozen:
            self._known.add(shape)
        return shape in self._known


def _has_method(module: Any) -> bool:
    """Whether its forward is its class's, which kept forms are made of."""
    return isinstance(getattr(module, "forward", None), types.MethodType)


def _layout_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Layout:
    """Shapes and strides of all tensors: what a form compiled for one shape insists on."""
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    return tuple((tuple(tensor.shape), tensor.stride()) for tensor in tensors)


def _is_batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether there are several pictures or prompts in it."""
    first = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
    return first is not None and first.ndim > 1 and first.shape[0] > 1


@functools.cache
def _twin_function(function: Any) -> Callable[..., Any]:
    """The same function with a code object of its own: compiled forms are kept per code object and must not mix."""
    code = function.__code__.replace(co_name=f"{function.__name__}_any_shape")
    known = (function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    twin = types.FunctionType(code, *known)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
