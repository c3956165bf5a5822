"""Run as a process of its own, in which nobody has imported the compiler: loads a text as inductor generates them.

python -m tests.unit.offload.generated_once
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import torch

from worker.offload import generated

HEADER = """
from torch._inductor.codegen.memory_planning import _align as align
from torch._inductor.select_algorithm import extern_kernels
"""
COMPILER = "torch._inductor.lowering"


def load(text: str) -> Any:
    names: dict[str, Any] = {}
    exec(text, names)
    return types.SimpleNamespace(**names)


def main() -> None:
    tries: list[bool] = []

    def load_at_the_second_try() -> Any:
        tries.append(generated.KERNELS in sys.modules)
        if len(tries) == 1:
            raise RuntimeError("it wants a compiler")
        return load(HEADER)

    code = generated.load_generated(lambda: load(HEADER))
    matrix = torch.arange(4.0).view(2, 2)
    told = {
        "product": code.extern_kernels.mm(matrix, matrix).flatten().tolist(),
        "asleep": COMPILER not in sys.modules,
        "left behind": [name for name in generated._KNOWN if name in sys.modules],
    }
    generated.load_generated(load_at_the_second_try)
    told["tries"] = tries
    told["asleep till then"] = not tries[1]
    more = generated.load_generated(
        lambda: load(HEADER + "from torch._inductor.select_algorithm import TritonTemplate")
    )
    told["awake"] = COMPILER in sys.modules
    from torch._inductor import lowering, select_algorithm
    from torch._inductor.codegen import memory_planning

    real = select_algorithm.extern_kernels
    told["more"] = more.TritonTemplate is select_algorithm.TritonTemplate and lowering is not None
    told["others"] = [name for name in generated.TORCH_S_OWN if getattr(real, name) is not getattr(torch, name)]
    told["align"] = code.align is memory_planning._align
    told["rare"] = code.extern_kernels.bias_addmm is real.bias_addmm
    told["own afterwards"] = generated.load_generated(lambda: load(HEADER)).extern_kernels is real
    print(json.dumps(told))


if __name__ == "__main__":
    main()
