"""Layerwise offloaders of two servers, each a single file of theirs, put around the diffusers model.

The files are not ours and not here; take them from the projects' wheels into one folder and name it with `--files`:

- sglang 0.5.8: multimodal_gen/runtime/utils/layerwise_offload.py as `sglang_layerwise_offload.py`. Needed of the rest:
  a logger and the name of a type. (Later versions spread over ten modules of the server.)
- vllm-omni 0.30.0: diffusion/offloader/{layerwise_backend,tensor_utils}.py and diffusion/hooks/base.py as
  `vllm_omni/{layerwise_backend,tensor_utils,hooks_base}.py`. Needed of the rest: a logger, torch.cuda as the platform,
  and names of types. Their planning of what to stream is left out: the stacks of layers are named here.

Both run their own copies, events and hooks unchanged; what is outside the stacks lies on the card.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

#: Stacks of layers per component; both servers stream only `layers` of Z-Image, and their refiners stay on the card.
STACKS = (("transformer", "layers"), ("text_encoder", "layers"))


def sglang(pipe: Any, files: Path) -> None:
    """SGLang's layerwise manager: one flat pinned buffer a layer, one layer ahead."""
    _stand_in("sglang.multimodal_gen.runtime.server_args", ServerArgs=object)
    _stand_in("sglang.multimodal_gen.runtime.utils.logging_utils", init_logger=logging.getLogger)
    module = _load("zimg_peer_sglang", files / "sglang_layerwise_offload.py")
    for component, stack in _stacks(pipe):
        count = len(component.get_submodule(stack))
        component.offload_manager = module.LayerwiseOffloadManager(
            component, layers_attr_str=stack, num_layers=count, enabled=True
        )
        if not component.offload_manager.enabled:
            raise RuntimeError("SGLang's manager runs on CUDA only")


def vllm_omni(pipe: Any, files: Path) -> None:
    """vLLM-Omni's layerwise backend: a ring of hooks, each block fetches the next."""
    folder = files / "vllm_omni"
    _stand_in("vllm.logger", init_logger=logging.getLogger)
    _stand_in("vllm_omni.platforms", current_omni_platform=torch.cuda)
    hooks = _load("vllm_omni.diffusion.hooks.base", folder / "hooks_base.py")
    _stand_in("vllm_omni.diffusion.hooks", HookRegistry=hooks.HookRegistry, ModelHook=hooks.ModelHook)
    here = "vllm_omni.diffusion.offloader"
    _stand_in(f"{here}.base", OffloadBackend=object, OffloadConfig=object, run_cleanup_steps=_clean_up)
    _stand_in(f"{here}.plan_resolver", ResolvedComponent=object, resolve_offload_plan=None)
    names = ("clear_encoder_layerwise_state", "iter_streamable_dits", "move_non_block_state_to_device")
    more = ("prepare_pipeline_components", "set_encoder_layerwise_state")
    _stand_in(f"{here}.component_utils", **dict.fromkeys((*names, *more)))
    _load(f"{here}.tensor_utils", folder / "tensor_utils.py")
    backend = _load(f"{here}.layerwise_backend", folder / "layerwise_backend.py")
    stream = torch.cuda.Stream()
    for component, stack in _stacks(pipe):
        blocks = list(component.get_submodule(stack))
        installed = backend._install_layerwise_hook_group(blocks, torch.device("cuda"), stream, True)
        installed[0].prefetch_layer(non_blocking=False)


def _stacks(pipe: Any) -> Iterator[tuple[Any, str]]:
    return ((getattr(pipe, component), stack) for component, stack in STACKS)


def _clean_up(steps: Any) -> None:
    for _, step in steps:
        step()


def _stand_in(name: str, **names: Any) -> None:
    """A module of the server that its file imports names from; packages above it are made too."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        if path not in sys.modules:
            module = ModuleType(path)
            module.__path__ = []  # a package, so that what lies below may be imported
            sys.modules[path] = module
    for key, value in names.items():
        setattr(sys.modules[name], key, value)


def _load(name: str, path: Path) -> ModuleType:
    """A single file as module `name`; raises FileNotFoundError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: take it from the project's wheel (see benchmarks/engine_peer_files.py)")
    if "." in name:
        _stand_in(name.rpartition(".")[0])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
