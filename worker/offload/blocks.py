"""Blocks: the pieces of a pipeline that are carried, where their weights lie, and the gates before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from worker.offload.packing import Packed, encode
from worker.offload.strategies import Stage, Strategy, modules_at

#: Every tensor of a block starts at a multiple of this many bytes, as the allocator's own blocks do.
ALIGNMENT = 512
#: Whether a block packed like this is better off than with so many bytes as they are.
Pays = Callable[[Packed, int], bool]
#: Names of components whose floating-point weights become something else on their way, and what.
Cast = Mapping[str, torch.dtype]


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter of a block and its place in the block's flat bytes."""

    parameter: nn.Parameter
    offset: int
    shape: torch.Size
    dtype: torch.dtype
    home: torch.device  # where close() puts it back

    @property
    def nbytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Stop:
    """A place where riders wait: the `position`th block of the `stage`th stage, or the decode (no block)."""

    stage: int
    position: int
    block: Block | None = None


class Block:
    """One carried module. `packed` is None while its bytes are kept as they are."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        stage: int,
        position: int,
        *,
        once: bool,
        unneeded: bool,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`dtype`: what its floating-point weights become on their way; None: they stay as they are."""
        self.name, self.module, self.once, self.unneeded = name, module, once, unneeded
        self.stop = Stop(stage, position, self)
        self.parts = _lay_out(module, dtype)
        last = self.parts[-1] if self.parts else None
        self.raw_bytes = _round_up(last.offset + last.nbytes) if last else 0
        self.packed: Packed | None = None
        self.host: torch.Tensor | None = None  # its bytes in host memory, as they travel
        self.is_bound = False  # its parameters look at memory of the engine's

    @property
    def is_bf16(self) -> bool:
        return all(part.dtype == torch.bfloat16 for part in self.parts)

    @property
    def carried_bytes(self) -> int:
        """Bytes that cross the bus."""
        return self.packed.nbytes if self.packed else self.raw_bytes

    def flatten(self, where: torch.device) -> torch.Tensor:
        """Its weights as one flat uint8 tensor on `where`; padding is zero."""
        flat = torch.zeros(self.raw_bytes, dtype=torch.uint8, device=where)
        self.write(flat)
        return flat

    def write(self, flat: torch.Tensor) -> None:
        """Its weights into `flat`, which holds zeros."""
        for part in self.parts:
            _view(flat, part).copy_(part.parameter.data)

    def bind(self, flat: torch.Tensor) -> None:
        """Let the module's parameters be views of `flat`."""
        self.is_bound = True
        for part in self.parts:
            part.parameter.data = _view(flat, part)

    def let_go(self) -> None:
        """Free the memory of the parameters until weights are placed for them."""
        for part in self.parts:
            part.parameter.data = torch.empty(0, dtype=part.dtype)

    def carry_form(self, where: torch.device, pays: Pays | None) -> torch.Tensor:
        """Its bytes as they will travel, on `where`: packed when that `pays`; None: never."""
        flat = self.flatten(where)
        if pays is None or not (self.is_bf16 and self.raw_bytes):
            return flat
        packed, data = encode(flat.view(torch.int16))
        if not pays(packed, self.raw_bytes):
            return flat
        self.packed = packed
        return data

    def go_home(self) -> None:
        """Give every parameter that was moved to the device for good a tensor of its own again, where it was."""
        for part in self.parts if self.is_bound else ():
            part.parameter.data = part.parameter.data.to(part.home, copy=True)

    def restore(self, unpacked: torch.Tensor) -> None:
        """Give every parameter a tensor of its own again, where it was."""
        for part in self.parts:
            part.parameter.data = _view(unpacked, part).to(part.home, copy=True)


def pass_by(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """In place of a module whose output nobody looks at: hands on its input."""
    return hidden_states


def is_passed_by(module: nn.Module) -> bool:
    """Whether `pass_by` stands in its place."""
    return vars(module).get("forward") is pass_by


def collect_blocks(pipe: Any, strategy: Strategy, cast: Cast = MappingProxyType({})) -> list[list[Block]]:
    """The blocks of every stage, in order; raises ValueError when one lies inside another or shares a weight."""
    stages = [_stage_blocks(pipe, stage, index, cast) for index, stage in enumerate(strategy.stages)]
    owner: dict[int, str] = {}
    for block in (block for blocks in stages for block in blocks):
        for part in block.parts:
            other = owner.setdefault(id(part.parameter), block.name)
            if other != block.name:
                raise ValueError(f"{block.name} and {other} share a weight, so they can not be carried separately")
    return stages


def _stage_blocks(pipe: Any, stage: Stage, index: int, cast: Cast) -> list[Block]:
    component = getattr(pipe, stage.component)
    found = [(path, name, module) for path in stage.paths for name, module in modules_at(component, path)]
    needed = len(found) - stage.unneeded_last
    return [
        Block(
            f"{stage.component}.{name}",
            module,
            index,
            position,
            once=path in stage.once,
            unneeded=position >= needed,
            dtype=cast.get(stage.component),
        )
        for position, (path, name, module) in enumerate(found)
    ]


def rest_of(component: nn.Module, carried: list[Block], unused: tuple[str, ...]) -> Iterator[nn.Module]:
    """Every module of `component` that holds weights of its own and is neither in a block nor unused."""
    skipped = {id(module) for block in carried for module in block.module.modules()}
    for path in unused:
        for name, module in component.named_modules():
            if name == path:
                skipped |= {id(inner) for inner in module.modules()}
    for module in component.modules():
        if id(module) not in skipped:
            yield module


def cast_of(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """What a weight becomes on its way."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _lay_out(module: nn.Module, dtype: torch.dtype | None) -> list[Part]:
    parts, offset = [], 0
    for parameter in module.parameters():
        part = Part(parameter, offset, parameter.shape, cast_of(parameter, dtype), parameter.device)
        parts.append(part)
        offset = _round_up(offset + part.nbytes)
    return parts


def _view(flat: torch.Tensor, part: Part) -> torch.Tensor:
    return flat[part.offset : part.offset + part.nbytes].view(part.dtype).view(part.shape)


def _round_up(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
