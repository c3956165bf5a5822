"""Run as a process of its own, in which nobody has imported the compiler: loads a text as inductor generates them.

python -m tests.unit.offload.generated_once loads|more|meanwhile
"""

from __future__ import annotations

import json
import sys
import threading
import time
import types
from typing import Any

import torch

from worker.offload import generated

HEADER = """
from torch._inductor.codegen.memory_planning import _align as align
from torch._inductor.select_algorithm import extern_kernels
"""
LOADER = """
def told(code):
    from torch._inductor.graph import GraphLowering
    return GraphLowering.save_output_code and GraphLowering.save_output_code(code)
told("code")
"""
COMPILER = "torch._inductor.lowering"


def load(text: str = HEADER, module: str = f"{generated.GENERATED}.some_key") -> Any:
    names: dict[str, Any] = {"__name__": module}
    exec(text, names)  # as torch does with what inductor generated
    return types.SimpleNamespace(**names)


def is_awake() -> bool:
    return COMPILER in sys.modules


def loads() -> dict[str, Any]:
    """Generated code without the compiler, then with it."""
    tries: list[bool] = []

    def load_at_the_second_try() -> Any:
        tries.append(generated.KERNELS in sys.modules)
        if len(tries) == 1:
            raise RuntimeError("it wants a compiler")
        return load()

    code = generated.load_generated(load)
    generated.load_generated(lambda: load(LOADER, generated.LOADER))
    matrix = torch.arange(4.0).view(2, 2)
    told = {
        "product": code.extern_kernels.mm(matrix, matrix).flatten().tolist(),
        "awake": is_awake(),
        "left behind": [name for name in generated._KNOWN if name in sys.modules],
    }
    generated.load_generated(load_at_the_second_try)
    from torch._inductor import lowering, select_algorithm
    from torch._inductor.codegen import memory_planning

    real = select_algorithm.extern_kernels
    return {
        **told,
        "tries": tries,
        "others": [name for name in generated.TORCH_S_OWN if getattr(real, name) is not getattr(torch, name)],
        "align": code.align is memory_planning._align,
        "rare": code.extern_kernels.bias_addmm is real.bias_addmm and lowering is not None,
        "own afterwards": generated.load_generated(load).extern_kernels is real,
    }


def more() -> dict[str, Any]:
    """Someone else asks while stand-ins lie there; and someone asks the one that stays."""
    generated.wake_loader()
    debug = torch._inductor.debug
    before, first = isinstance(debug, generated._StandIn), is_awake()
    other = generated.load_generated(lambda: load(module="torch._inductor.graph"))
    code = generated.load_generated(
        lambda: load(HEADER + "from torch._inductor.select_algorithm import TritonTemplate")
    )
    from torch._inductor import select_algorithm

    return {
        "awake": [first, is_awake()],
        "other": other.extern_kernels is select_algorithm.extern_kernels,
        "more": code.TritonTemplate is select_algorithm.TritonTemplate,
        "debug": [before, debug.DebugContext is sys.modules[generated.DEBUG].DebugContext],
        "debug is": torch._inductor.debug is sys.modules[generated.DEBUG],
    }


def meanwhile() -> dict[str, Any]:
    """One thread loads form after form while another imports the compiler."""
    is_over = threading.Event()

    def load_on() -> None:
        while not is_over.is_set():
            generated.load_generated(lambda: time.sleep(0.02))

    thread = threading.Thread(target=load_on)
    thread.start()
    from torch._inductor import compile_fx, distributed_autotune

    is_over.set()
    thread.join()
    forwards = distributed_autotune.select_algorithm.extern_kernels
    return {
        "graph": compile_fx.GraphLowering is sys.modules[generated.GRAPH].GraphLowering,
        "stand-ins": [
            f"{module}.{name}"
            for module, names in list(sys.modules.items())
            if module.startswith("torch._inductor")
            for name, value in list(vars(names).items())
            if isinstance(value, generated._Kernels) or value is generated._GraphLowering
        ],
        "forwards": forwards is sys.modules[generated.KERNELS].extern_kernels,
    }


if __name__ == "__main__":
    print(json.dumps({"loads": loads, "more": more, "meanwhile": meanwhile}[sys.argv[1]]()))
