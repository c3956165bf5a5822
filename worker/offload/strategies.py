"""Which parts of a pipeline are carried, as data: one Strategy per model structure.

A path names a module inside its component. A ModuleList's children become one block each, any other module is one
block; `*` stands for every child. Order is running order: it decides what is fetched ahead, never what is computed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

#: Not at all; once for the one length that the stage always has; once for all lengths.
Compiled = Literal["no", "fixed", "any length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One component's blocks; every pass through the component turns through all of them once."""

    name: str  # "text", "denoise", …: what the plan prints
    component: str  # the pipeline's attribute
    paths: tuple[str, ...]  # in running order
    once: tuple[str, ...] = ()  # of these: output depends on the prompt alone, so computed once per prompt
    unneeded_last: int = 0  # trailing blocks whose output the pipeline never looks at: passed by, never loaded
    unused: tuple[str, ...] = ()  # modules whose output text-to-image never looks at: passed by, never loaded
    host_tables: tuple[str, ...] = ()  # embedding tables gathered from host memory
    passes: int = 1  # passes per picture; 0: one per step
    compiled: Compiled = "no"  # how torch.compile takes its blocks, where the caller allows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How one family of pipelines is carried."""

    name: str
    pipelines: tuple[str, ...]  # class names
    stages: tuple[Stage, ...]
    decoder: str = "vae"
    decoder_unused: tuple[str, ...] = ("encoder", "quant_conv")


Z_IMAGE = Strategy(
    name="z-image",
    pipelines=("ZImagePipeline",),
    stages=(
        Stage(
            name="text",
            component="text_encoder",
            paths=("layers",),
            unneeded_last=1,
            unused=("norm",),
            host_tables=("embed_tokens",),
            compiled="fixed",
        ),
        Stage(
            name="denoise",
            component="transformer",
            paths=("noise_refiner", "context_refiner", "layers"),
            once=("context_refiner",),
            passes=0,
            compiled="any length",
        ),
    ),
)

SDXL = Strategy(
    name="sdxl",
    pipelines=("StableDiffusionXLPipeline",),
    stages=(
        Stage(name="text", component="text_encoder", paths=("encoder.layers",)),
        Stage(name="text_2", component="text_encoder_2", paths=("text_model.encoder.layers",)),
        Stage(
            name="denoise",
            component="unet",
            paths=("down_blocks", "mid_block", "up_blocks"),
            passes=0,
        ),
    ),
)

FLUX = Strategy(
    name="flux",
    pipelines=("FluxPipeline",),
    stages=(
        Stage(name="text", component="text_encoder", paths=("encoder.layers",)),
        Stage(name="text_2", component="text_encoder_2", paths=("encoder.block",)),
        Stage(
            name="denoise",
            component="transformer",
            paths=("transformer_blocks", "single_transformer_blocks"),
            passes=0,
            compiled="any length",
        ),
    ),
)

QWEN_IMAGE = Strategy(
    name="qwen-image",
    pipelines=("QwenImagePipeline",),
    stages=(
        Stage(
            name="text",
            component="text_encoder",
            paths=("model.language_model.layers",),
            unused=("model.visual", "lm_head"),
            host_tables=("model.language_model.embed_tokens",),
        ),
        Stage(name="denoise", component="transformer", paths=("transformer_blocks",), passes=0),
    ),
)

STRATEGIES: tuple[Strategy, ...] = (Z_IMAGE, SDXL, FLUX, QWEN_IMAGE)

#: Components that the automatic strategy looks into, in running order; the denoisers run once per step.
_TEXT_COMPONENTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_DENOISERS = ("transformer", "unet")


def find_strategy(pipe: Any, file: str | Path = "") -> Strategy:
    """The strategy for `pipe`: the user's file first, then the known ones, then its largest ModuleLists."""
    name = type(pipe).__name__
    own = load_strategies(file) if file else ()
    for strategy in (*own, *STRATEGIES):
        if name in strategy.pipelines:
            return strategy
    return automatic_strategy(pipe)


def load_strategies(file: str | Path) -> tuple[Strategy, ...]:
    """`STRATEGIES` of a Python file of the user's own; raises ValueError saying what is wrong with it."""
    spec = importlib.util.spec_from_file_location("zimg_offload_strategy", file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise ValueError(f"{file} is not a Python file with strategies")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "STRATEGIES", None)
    if not isinstance(found, Sequence) or not all(isinstance(item, Strategy) for item in found):
        raise ValueError(f"{file} must define STRATEGIES, a tuple of worker.offload.Strategy")
    return tuple(found)


def automatic_strategy(pipe: Any) -> Strategy:
    """Stream every large ModuleList found in the text encoders and in the denoiser."""
    stages = []
    for component in (*_TEXT_COMPONENTS, *_DENOISERS):
        module = getattr(pipe, component, None)
        paths = largest_lists(module) if isinstance(module, nn.Module) else ()
        if paths:
            denoises = component in _DENOISERS
            name = "denoise" if denoises else component.replace("text_encoder", "text")
            stages.append(Stage(name=name, component=component, paths=paths, passes=0 if denoises else 1))
    if not stages:
        raise ValueError(f"{type(pipe).__name__} has no ModuleList to stream; write a strategy (docs/adapt-a-model.md)")
    return Strategy(name="automatic", pipelines=(type(pipe).__name__,), stages=tuple(stages))


def largest_lists(module: nn.Module) -> tuple[str, ...]:
    """The outermost ModuleLists that hold at least a twentieth of the module's weights each, in order."""
    total = weight_bytes(module)
    found: list[str] = []
    for path, child in module.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if isinstance(child, nn.ModuleList) and not inside and weight_bytes(child) * 20 >= total:
            found.append(path)
    return tuple(found)


def weight_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def modules_at(root: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """The blocks that `path` names, with their full names; raises ValueError when it names none."""
    places = [("", root)]
    for step in path.split("."):
        places = [place for name, module in places for place in _children(name, module, step)]
    blocks: list[tuple[str, nn.Module]] = []
    for name, module in places:
        if isinstance(module, nn.ModuleList):
            blocks += [(f"{name}.{index}", child) for index, child in enumerate(module)]
        else:
            blocks.append((name, module))
    if not blocks:
        raise ValueError(f"{type(root).__name__} has nothing at {path!r}")
    return blocks


def _children(name: str, module: nn.Module, step: str) -> list[tuple[str, nn.Module]]:
    prefix = f"{name}." if name else ""
    if step == "*":
        return [(f"{prefix}{key}", child) for key, child in module.named_children()]
    child = getattr(module, step, None)
    return [(f"{prefix}{step}", child)] if isinstance(child, nn.Module) else []
