"""What a compiled form depends on: the call, the module, the process; and what its trace took for granted."""

from __future__ import annotations

import ast
import contextlib
import enum
import functools
import hashlib
import os
import platform
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

SIMPLE = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.memory_format)
#: Names of what a form is called with: the module, and arguments, which torch's own guards check.
MODULE, ARGUMENTS = "module", frozenset({"args", "kwargs"})
#: Where torch puts Python's own functions; nobody replaces these.
BUILTINS = "__builtins_dict__"
#: Hooks have numbers of their own in every module; which there are is in the key.
HOOKS = "._forward_hooks"


#: What torch looks at where code asks for a variable: all there are, of which most have to do with nothing here.
ENVIRONMENT = ".environ._data"
#: By what names code asks for one, and Python's own modules that answer.
ASKED, ANSWERERS = (
    frozenset({"environ", "environb", "getenv"}),
    frozenset({"os", "collections.abc", "_collections_abc"}),
)

#: transformers' recorder of hidden states and attentions: hooks that ask a context variable, which torch can not trace.
RECORDER, RECORDING_HOOK = "transformers.utils.output_capturing", "output_capturing_hook"


class NotKeepable(Exception):
    """A form that no later process could take as it is; says why."""


def describe_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything about a call that may be compiled in: layouts, values, who is the same tensor, what torch is set to.

    Raises NotKeepable for arguments that are neither tensors nor plain values.
    """
    if recorded := set(_recorder_of(RECORDER).get() or ()) - {"hidden_states"}:
        raise NotKeepable(f"{', '.join(sorted(recorded))} of inner modules are recorded")
    tensors: list[int] = []
    described = _describe(tuple(args), tensors), _describe(dict(kwargs), tensors)
    same = tuple(map(tensors.index, tensors))
    where = "cuda" if torch.cuda.is_available() else "cpu"
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled(where)
    return (*described, same, modes)


def _describe(value: Any, tensors: list[int]) -> Any:
    if type(value) is torch.Tensor:
        tensors.append(id(value))
        layout = tuple(value.shape), value.stride(), value.dtype, value.device.type
        return ("tensor", *layout, value.requires_grad, value.is_conj(), value.is_neg(), value.is_inference())
    if type(value) in (tuple, list):
        return (type(value).__name__, *(_describe(inner, tensors) for inner in value))
    if type(value) is dict:
        return ("dict", *(("item", name, _describe(inner, tensors)) for name, inner in value.items()))
    if type(value) in SIMPLE:
        return type(value).__name__, value
    raise NotKeepable(f"an argument is a {type(value).__qualname__}")


class _NoRecorder:
    compiling, global_var = False, None

    def get(self) -> None:
        return None


def _recorder_of(module: str) -> Any:
    return getattr(sys.modules.get(module), "_active_collector", _NoRecorder())


@contextlib.contextmanager
def recorder_at_rest(module: nn.Module) -> Iterator[None]:
    """While `module` is traced, let hooks inside it see that nothing is recorded, in a way that torch can follow.

    Raises NotKeepable if there are some that record hidden states, which pipelines do look at.
    """
    for path, inner in module.named_modules():
        for hook in inner._forward_hooks.values():
            cells = zip(hook.__code__.co_freevars, hook.__closure__ or (), strict=False)
            known = hook.__code__.co_name == RECORDING_HOOK and {name: cell.cell_contents for name, cell in cells}
            if path and not (known and known.get("key", "hidden_states") != "hidden_states"):
                raise NotKeepable(f"{path} has a hook")
    recorder = _recorder_of(RECORDER)
    before = recorder.compiling, recorder.global_var
    recorder.compiling, recorder.global_var = True, None
    try:
        yield
    finally:
        recorder.compiling, recorder.global_var = before


def outline(call: Any) -> Any:
    """The same call for a form of any shape: of sizes only whether they are 0, 1 or more, of strides the usual ones."""
    if not isinstance(call, tuple):
        return call
    if call and call[0] == "tensor":
        shape, stride = call[1], call[2]
        usual, expected = [], 1
        for size, step in zip(reversed(shape), reversed(stride), strict=True):
            usual.append(step == expected)
            expected *= size
        return ("tensor", tuple(min(size, 2) for size in shape), tuple(usual), *call[3:])
    return tuple(outline(inner) for inner in call)


def describe_module(module: nn.Module) -> str:
    """Classes, parameters and buffers of a module whose weights are in place; its constants are among the facts."""
    lines = [_name_of(type(module).forward)]
    for path, inner in module.named_modules():
        own = sorted(name for name, value in vars(inner).items() if callable(value) and name[0] != "_")
        hooks = [_name_of(hook) for hook in inner._forward_hooks.values()]
        lines.append(f"{path} {_name_of(type(inner))} {inner.training} {(own, hooks) if path else ''}")
        for kind in (inner._parameters, inner._buffers):
            lines += [f"{name} {_describe_weight(tensor)}" for name, tensor in kind.items()]
    return "\n".join(lines)


def _describe_weight(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "-"
    kind = type(tensor).__name__
    return f"{kind} {tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {tensor.device.type} {tensor.requires_grad}"


def describe_process(device: str, backend: str) -> str:
    """Versions, machine and settings; `device` tells the card and its driver."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    settings = {
        "torch": (torch.__version__, torch.version.git_version, torch.version.cuda),
        "python": (sys.version, platform.machine(), torch.backends.cpu.get_cpu_capability()),
        "device": (device, _capability(), _triton_version()),
        "threads": torch.get_num_threads() if "cuda" not in device and not torch.cuda.is_available() else 0,
        "types": (torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "matmul": [getattr(matmul, name, None) for name in _MATMUL],
        "cudnn": [getattr(cudnn, name) for name in ("enabled", "allow_tf32", "benchmark", "deterministic")],
        "attention": [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in _ATTENTION],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backend": backend,
        "inductor": torch._inductor.config.save_config_portable(),
        "autograd": torch._functorch.config.save_config_portable(),
    }
    return "\n".join(f"{name} {_sorted(value)}" for name, value in settings.items())


_MATMUL = ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")


def _sorted(value: Any) -> str:
    return repr(sorted(value.items(), key=lambda pair: str(pair[0])) if isinstance(value, dict) else value)


def _capability() -> Any:
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else None


def _triton_version() -> Any:
    from torch.utils._triton import get_triton_version

    return get_triton_version((0, 0))


def key_of(*parts: str) -> str:
    """A file's name for everything described."""
    return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:32]


def source_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Hashes of the files of Python modules, by name; torch itself is known by its version."""
    return {name: _source_hash(name) for name in sorted(set(modules)) if name.partition(".")[0] != "torch"}


def _source_hash(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        raise NotKeepable(f"the code of {name} has no file")
    return _file_hash(Path(file), Path(file).stat().st_mtime_ns)


def variables_asked_for(sources: Iterable[Any], module: nn.Module) -> list[str]:
    """The environment variables that the Python modules of traced code (torch's InlinedSource) ask for by name.

    An empty list where there are none, or where any may be asked for in another way.
    """
    texts = {source.module: source.content for source in sources if source.module not in ANSWERERS}
    if _knows_environment_otherwise(texts, module):
        return []
    asked = [_variables_in(text) for text in texts.values()]
    return sorted({name for names in asked for name in names or ()}) if None not in asked else []


def _knows_environment_otherwise(python_modules: Iterable[str], module: nn.Module) -> bool:
    """Whether it has another name than its own in one of these Python modules or in `module`."""
    kept = [vars(sys.modules[name]) for name in python_modules if name in sys.modules]
    kept += [vars(owner) for inner in module.modules() for owner in (inner, *type(inner).__mro__[:-1])]
    answers = (os.environ, os.environb, os.getenv, os.getenvb)
    values = (value for names in kept for name, value in names.items() if name not in ASKED)
    owners = (value.__self__ if isinstance(value, types.MethodType) else value for value in values)
    return any(owner is answer for owner in owners for answer in answers)


@functools.cache
def _variables_in(text: str) -> frozenset[str] | None:
    """Names that a Python module's code asks for; None where it does something else with the environment."""
    if not any(name in text for name in ASKED):
        return frozenset()
    nodes = list(ast.walk(ast.parse(text)))
    names = [name for node in nodes if (name := _variable_of(node))]
    return frozenset(names) if len(names) == sum(map(_is_environment, nodes)) else None


def _variable_of(node: ast.AST) -> str:
    """X of environ["X"], environ.get("X") and getenv("X"); "" of anything else."""
    asked: ast.AST | None = None
    if isinstance(node, ast.Subscript) and _is_environment(node.value):
        asked = node.slice
    elif isinstance(node, ast.Call) and node.args:
        function: ast.AST = node.func
        if isinstance(function, ast.Attribute) and function.attr == "get":
            function = function.value
        asked = node.args[0] if _is_environment(function) else None
    return asked.value if isinstance(asked, ast.Constant) and isinstance(asked.value, str) else ""


def _is_environment(node: ast.AST) -> bool:
    return getattr(node, "id", getattr(node, "attr", "")) in ASKED


@functools.cache
def _file_hash(file: Path, _: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class Facts:
    """What a trace took for granted of the module and of the globals that it read, as expressions and descriptions."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.known = dict(known)
        self._all = compile(f"({''.join(f'{fact}, ' for fact in self.known)})", "facts", "eval")

    @classmethod
    def of(
        cls, names: Iterable[str], module: nn.Module, names_read: Mapping[str, Any], variables: Sequence[str] = ()
    ) -> Facts:
        """Those of these that are not about arguments, as they are now; raises NotKeepable if one can not be read.

        Of the environment the `variables` that the code asks for.
        """
        facts_of = (fact for name in dict.fromkeys(names) if _is_fact(name) for fact in _narrowed(name, variables))
        expressions = list(dict.fromkeys(facts_of))
        facts = cls(dict.fromkeys(expressions, ""))
        try:
            return cls(dict(zip(expressions, facts._read(module, names_read), strict=True)))
        except Exception as error:
            raise NotKeepable(f"what the trace took for granted can not be read ({error!r})") from error

    def changed(self, module: nn.Module, names_read: Mapping[str, Any]) -> str:
        """The first that does not hold for this module, now; "": all do."""
        try:
            now = self._read(module, names_read)
        except Exception as error:
            return repr(error)
        pairs = zip(self.known.items(), now, strict=True)
        return next((f"{fact}: {before} → {value}" for (fact, before), value in pairs if before != value), "")

    def _read(self, module: nn.Module, names_read: Mapping[str, Any]) -> list[str]:
        names = {MODULE: module, "L": {MODULE: module}, "G": names_read}
        found = eval(self._all, names)  # noqa: S307 - expressions of torch's own guards
        return [_describe_value(value) for value in found]


def _narrowed(name: str, variables: Sequence[str]) -> list[str]:
    """A fact about the whole environment as facts about these variables of it; it stays where none are known."""
    if not name.endswith(ENVIRONMENT) or not variables:
        return [name]
    return [f"{name}.get({os.fsencode(variable)!r})" for variable in variables]


def _is_fact(name: str) -> bool:
    if not name or BUILTINS in name or HOOKS in name:
        return False
    names = {node.id for node in ast.walk(ast.parse(name, mode="eval")) if isinstance(node, ast.Name)}
    return not names & ARGUMENTS and not any(f"L['{argument}']" in name for argument in ARGUMENTS)


def _describe_value(value: Any) -> str:
    """The same in every process where the same would be compiled."""
    if isinstance(value, (*SIMPLE, enum.Enum)):
        return str(value) if isinstance(value, enum.Enum) else repr(value)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.MethodType)):
        return _name_of(value)
    if isinstance(value, (tuple, list)):
        return f"{_name_of(type(value))} [{', '.join(map(_describe_value, value))}]"
    if isinstance(value, (dict, types.MappingProxyType)):
        return f"{_name_of(type(value))} {{{', '.join(map(_describe_value, value))}}}"
    if isinstance(value, (set, frozenset)):
        return f"{_name_of(type(value))} {{{', '.join(sorted(map(_describe_value, value)))}}}"
    return _name_of(type(value))


def _name_of(value: type | types.ModuleType | Callable[..., Any]) -> str:
    name = getattr(value, "__qualname__", getattr(value, "__name__", "?"))
    return f"{getattr(value, '__module__', '')}.{name}"
