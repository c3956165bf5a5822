"""Compiled forms on disk, which a later process takes as they are: it traces and compiles nothing.

torch's own caches find the kernels of a form again, but only after tracing it, a few hundred milliseconds each. Here
the whole compiled function is kept (torch's AOT compilation). One form serves every block of its class: the module is
its first argument, so weights are read anew at each call. What can not be kept or read again is compiled as usual.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import logging
import os
import pickle
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worker.offload.apart import elsewhere
from worker.offload.card_memory import is_out_of_memory
from worker.offload.form_body import function_of
from worker.offload.form_key import (
    Facts,
    NotKeepable,
    describe_call,
    describe_module,
    describe_process,
    key_of,
    outline,
    recorder_at_rest,
    source_hashes,
    variables_asked_for,
)
from worker.offload.generated import load_generated, wake_compiler

logger = logging.getLogger(__name__)

#: Counted up when files come to mean something else.
FORMAT = 2
#: Inductor chooses kernels whose order of summing matters by rule, not by timing: every start draws the same bits.
BY_RULE = {"deterministic": True}
#: Forms of one key, whose traces took different things for granted.
SLOTS = 4
#: Calls whose form is remembered for each block; then they are looked up anew.
REMEMBERED = 1024
SUFFIX = ".form"
LIST_SUFFIX = ".used.json"
#: Guards that torch checks itself: the arguments' layouts, and what it found out about sizes.
CHECKED_BY_TORCH = ("SHAPE_ENV", "TENSOR_MATCH")


class Form:
    """A compiled function of a module and its arguments, and for which modules it holds."""

    def __init__(self, compiled: Any, facts: Facts, sources: dict[str, str]) -> None:
        self._compiled, self.facts, self.sources = compiled, facts, sources
        self._run = compiled.fn
        self._serves: dict[int, str] = {}
        self.is_proven = False

    def refuses(self, module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        """Why it is none for this call; "": it is one."""
        changed = self._serves.get(id(module))
        if changed is None:
            with recorder_at_rest(module):
                changed = self._serves[id(module)] = self.facts.changed(module, self._run.__globals__)
        if changed:
            return changed
        return "" if self._compiled.guard_check(module, *args, **kwargs) else "it was made for other sizes"

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._run(module, *args, **kwargs)
        except (AttributeError, ImportError):
            if self.is_proven:
                raise
        wake_compiler()  # it may look for more of it than loading did
        return self._run(module, *args, **kwargs)

    def pack(self) -> bytes:
        """As bytes for a file, which say whether they are whole."""
        packed = type(self._compiled).serialize(self._compiled)
        known = self.sources, self.facts.known, getattr(packed, "serialized_data", packed)
        body = pickle.dumps((FORMAT, *known))
        return hashlib.sha256(body).digest() + body

    @classmethod
    def unpack(cls, data: bytes, forward: Callable[..., Any]) -> Form:
        """From a file's bytes, a tenth of a second; raises NotKeepable as `_checked` does."""
        from torch._dynamo.aot_compile import AOTCompiledFunction

        sources, facts, packed = _checked(data)
        names = dict(function_of(forward).__globals__)
        compiled = load_generated(lambda: AOTCompiledFunction.deserialize(packed, names))
        return cls(compiled, Facts(facts), sources)

    @classmethod
    def compile(
        cls, forward: Callable[..., Any], module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], how: _How
    ) -> Form:
        """Trace and compile for these arguments, or for any sizes; raises what torch raises, or NotKeepable."""
        from torch._dynamo.aot_compile import aot_compile_fullgraph
        from torch._dynamo.eval_frame import set_enable_dynamic
        from torch._dynamo.hooks import Hooks

        seen: list[Any] = []

        def choose(guards: Sequence[Any]) -> list[bool]:
            seen.extend(guards)
            return [guard.guard_type in CHECKED_BY_TORCH and not _is_of_module(guard) for guard in guards]

        function, hooks = function_of(forward), Hooks(guard_filter_fn=choose)
        with (
            recorder_at_rest(module),
            set_enable_dynamic(how.dynamic),
            torch._dynamo.config.patch(specialize_float=True),
        ):
            compiled = aot_compile_fullgraph(function, ((module, *args), kwargs), hooks, how.compiler())
            traced = compiled.source_info().inlined_sources
            asked = variables_asked_for(traced, module)
            facts = Facts.of([guard.name for guard in seen], module, function.__globals__, asked)
        if any(guard.guard_type == "DUPLICATE_INPUT" and isinstance(guard.value, torch.Tensor) for guard in seen):
            raise NotKeepable("two inputs are one tensor")
        return cls(compiled, facts, source_hashes(source.module for source in traced))


def _checked(data: bytes) -> tuple[dict[str, str], dict[str, str], Any]:
    """What is in a file; raises NotKeepable if it is damaged, or made from code that changed since."""
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        raise NotKeepable("the file is damaged")
    _, sources, facts, packed = pickle.loads(body)  # noqa: S301 - our own folder, as torch's own caches are
    for name in sources:
        importlib.import_module(name)
    if source_hashes(sources) != sources:
        raise NotKeepable("its code changed")
    return sources, facts, packed


def _name_of(forward: Callable[..., Any]) -> str:
    return f"{forward.__module__}.{forward.__qualname__}"


def _is_of_module(guard: Any) -> bool:
    """Whether it is about a weight: these are in the key."""
    return guard.guard_type == "TENSOR_MATCH" and not guard.name.startswith(("args", "kwargs", "L['args", "L['kwargs"))


class _How:
    """By which backend, and whether for any sizes."""

    def __init__(self, backend: str, dynamic: bool) -> None:
        self.backend, self.dynamic = backend, dynamic

    def compiler(self) -> Any:
        """As torch.compile makes it."""
        if self.backend == "inductor":
            return torch._TorchCompileInductorWrapper("default", dict(BY_RULE), self.dynamic)
        return torch._TorchCompileWrapper(self.backend, "default", None, self.dynamic)


class KeptForms:
    """The forms in `folder`, for one device and backend; several processes may share it.

    `user` says for which model; its next start may load ahead what this one used.
    """

    def __init__(self, folder: str | Path, device: str, backend: str, user: str = "") -> None:
        self._folder, self._device, self._backend, self._user = Path(folder), device, backend, user
        self._forms: dict[str, dict[int, Form]] = {}
        self._used: dict[str, str] = {}  # keys, and whose forward each was compiled from
        self._listed: dict[str, str] = {}  # what the last start used, in the order of first use
        self._called: set[str] = set()  # names of files without suffix
        self._sound: set[str] = set()  # of those, what was seen to be whole
        self._told: set[str] = set()
        self.counts: Counter[str] = Counter({"loaded": 0, "compiled": 0, "kept": 0, "left to torch": 0})

    @functools.cached_property
    def _process(self) -> str:
        return describe_process(self._device, self._backend)

    def load_ahead(self, forwards: Iterable[Callable[..., Any]], is_enough: Callable[[], bool] = lambda: False) -> None:
        """Load what the last start used, until `is_enough`; who calls sees whether it still fits, and loads the rest.

        In any thread before the first call. The usual picture comes first: it was the first that was ever ridden.
        """
        by_name = {_name_of(forward): forward for forward in forwards}
        try:
            self._listed = dict(json.loads(self._list_of_used.read_text()))
        except (OSError, ValueError, TypeError):
            return
        for key in self._listed:
            self._is_there(f"{key}-0")  # now, while pinning takes its time
        for key, name in self._listed.items():
            if is_enough():
                break
            if name in by_name and key not in self._forms:
                self._forms[key] = self._load(key, by_name[name])

    def receipt(self) -> tuple[str, ...]:
        """What was called so far, and for which process; nothing where some of it was left to torch."""
        return () if self.counts["left to torch"] else (key_of(self._process), *sorted(self._called))

    def honours(self, receipt: tuple[str, ...]) -> bool:
        """Whether all of a `receipt` of such a process can be had without compiling, as far as is seen unloaded."""
        return receipt[:1] == (key_of(self._process),) and all(map(self._is_there, receipt[1:]))

    def note_used(self, *, is_all: bool = True) -> None:
        """Let the next start know what this one used; a folder that refuses costs it some time.

        Unless that `is_all`, what the last one used counts as well.
        """
        known = [key for key in self._listed if key in self._used or not is_all]
        used = {key: self._used.get(key) or self._listed[key] for key in (*known, *self._used)}
        try:
            self._write(self._list_of_used, json.dumps(used).encode())
        except OSError as error:
            self._tell(repr(error))

    @property
    def _list_of_used(self) -> Path:
        return self._folder / f"{key_of(self._process, self._user)}{LIST_SUFFIX}"

    def around(self, method: Any, usual: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        """A module's `method` in kept forms, one for each layout or for any sizes; `usual` where there is none."""
        module = method.__self__
        chosen: dict[Any, Form | None] = {}

        def run(*args: Any, **kwargs: Any) -> Any:
            call = self._describe(args, kwargs)
            if call not in chosen:
                if len(chosen) >= REMEMBERED:
                    chosen.clear()
                chosen[call] = self._choose(method, call, args, kwargs, dynamic=dynamic)
            form = chosen[call]
            if form is None:
                return usual(*args, **kwargs)
            try:
                output = form(module, *args, **kwargs)
            except Exception as error:
                if form.is_proven or is_out_of_memory(error):
                    raise
                self._tell(f"it does not run: {error!r}")
                chosen[call] = None
                self.counts["left to torch"] += 1
                return usual(*args, **kwargs)
            form.is_proven = True
            return output

        return run

    def _choose(
        self, method: Any, call: Any, args: Sequence[Any], kwargs: dict[str, Any], *, dynamic: bool
    ) -> Form | None:
        """A form that fits, or None: whatever goes wrong with keeping forms stops nobody."""
        form = None
        try:
            form = None if call is None else self._find(method, call, args, kwargs, dynamic=dynamic)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self._tell(repr(error))
        self.counts["left to torch"] += form is None
        return form

    def _describe(self, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return describe_call(args, kwargs)
        except Exception as error:
            self._tell(str(error) if isinstance(error, NotKeepable) else repr(error))
            return None

    def _find(
        self, method: Any, call: Any, args: Sequence[Any], kwargs: dict[str, Any], *, dynamic: bool
    ) -> Form | None:
        """A form that fits: known, from its file, or compiled now and kept."""
        module, forward = method.__self__, method.__func__
        shape = outline(call) if dynamic else call
        key = key_of(str(FORMAT), self._process, describe_module(module), f"{dynamic} {shape!r}")
        self._used[key] = _name_of(forward)
        if key not in self._forms:
            self._forms[key] = elsewhere(lambda: self._load(key, forward))
        forms, refusal = self._forms[key], ""
        for slot, form in forms.items():
            refusal = form.refuses(module, args, kwargs)
            if not refusal:
                self._called.add(f"{key}-{slot}")
                return form
        free = next((slot for slot in range(SLOTS) if slot not in forms), None)
        if free is None:
            self._tell(f"none of {SLOTS} forms fits ({refusal})")
            return None
        return self._make(key, free, lambda: Form.compile(forward, module, args, kwargs, _How(self._backend, dynamic)))

    def _make(self, key: str, slot: int, compile_now: Callable[[], Form]) -> Form:
        """Compile a form and keep it."""
        form = compile_now()
        self._forms[key][slot] = form
        self._called.add(f"{key}-{slot}")
        self.counts["compiled"] += 1
        try:
            self._write(self._file(key, slot), form.pack())
            self.counts["kept"] += 1
        except Exception as error:  # it serves this process all the same
            self._tell(repr(error))
        return form

    def _load(self, key: str, forward: Callable[..., Any]) -> dict[int, Form]:
        """The forms in this key's files; one that can not be read is as if it were not there.

        Nothing is compiled meanwhile, so inductor need not start processes for that: 1.1 s of a restart (H200).
        """
        found = {}
        for slot in range(SLOTS):
            try:
                data = self._file(key, slot).read_bytes()
            except OSError:
                continue
            try:
                with torch._inductor.config.patch(compile_threads=1):
                    found[slot] = Form.unpack(data, forward)
                self.counts["loaded"] += 1
            except Exception as error:
                logger.warning("a kept form is compiled anew: %s (%s)", error, self._file(key, slot).name)
        return found

    def _is_there(self, name: str) -> bool:
        """Whether a form can be loaded, as far as that is seen without doing it; loaded ones were."""
        key, _, slot = name.rpartition("-")
        if key in self._forms:
            return int(slot) in self._forms[key]
        if name not in self._sound:
            try:
                _checked(self._file(key, int(slot)).read_bytes())
            except Exception as error:
                logger.warning("a kept form can not be used: %s", error)
                return False
            self._sound.add(name)
        return True

    def _file(self, key: str, slot: int) -> Path:
        return self._folder / f"{key}-{slot}{SUFFIX}"

    @staticmethod
    def _write(file: Path, data: bytes) -> None:
        """Whole or not at all."""
        draft = file.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}")  # containers share folders, and pids
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(data)
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)

    def _tell(self, reason: str) -> None:
        """Once for each reason."""
        if reason not in self._told:
            self._told.add(reason)
            logger.warning("a compiled form is not kept, the next start traces it again: %.300s", reason)
