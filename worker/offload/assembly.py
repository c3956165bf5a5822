"""Taking a pipeline apart for the carousel, and putting it together again exactly as it was."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from worker.offload.beside import beside
from worker.offload.blocks import Block, Cast, Pays, Stop, cast_of, collect_blocks, rest_of
from worker.offload.device import Device
from worker.offload.gates import Gates
from worker.offload.host_memory import give_back_freed
from worker.offload.host_tables import HostTables
from worker.offload.host_weights import HostWeights, store_key
from worker.offload.packing_gain import expected_bytes, is_smaller
from worker.offload.plan import BlockFacts
from worker.offload.stopwatch import Stopwatch
from worker.offload.strategies import Strategy
from worker.offload.text import PromptCache, gather_from_host
from worker.offload.turn import Route

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Moved:
    """A parameter or buffer that changed its place; `before` is kept while it lies in host memory."""

    owner: nn.Module
    name: str
    is_parameter: bool
    home: torch.device
    before: torch.Tensor | None
    dtype: torch.dtype  # in which it goes home


class Assembly:
    """A pipeline whose blocks are carried: its stages, gates, fixed parts and host weights."""

    def __init__(self, pipe: Any, strategy: Strategy, device: Device, cast: Cast = MappingProxyType({})) -> None:
        """`cast`: components of `pipe` whose weights become another type on their way, and stay so."""
        self.pipe, self.strategy, self.device = pipe, strategy, device
        if all(stage.passes != 0 for stage in strategy.stages):
            raise ValueError(
                f"strategy {strategy.name} names no stage that loops (`passes=0`): no denoiser of "
                f"{type(pipe).__name__} has its layers in a list"
            )
        _require_whole_precision(pipe)
        carried = {stage.component for stage in strategy.stages} if device.is_cuda else set()
        for name in cast.keys() - carried:
            _cast_now(getattr(pipe, name), cast[name])
        self._cast = {name: dtype for name, dtype in cast.items() if name in carried}
        self.stages = collect_blocks(pipe, strategy, self._cast)
        self.blocks = [block for blocks in self.stages for block in blocks if not block.unneeded]
        self.cache = PromptCache(device)
        self.gates = Gates(device, self.cache)
        self.host: HostWeights | None = None
        self.fixed_bytes = 0
        self._moved: list[Moved] = []
        self.tables = HostTables(device)

    @property
    def route(self) -> Route:
        stages = tuple(tuple(block.stop for block in blocks) for blocks in self.stages)
        looping = next(index for index, stage in enumerate(self.strategy.stages) if stage.passes == 0)
        return Route(stages, looping, self.decode_stop)

    @property
    def decode_stop(self) -> Stop:
        return Stop(len(self.stages), 0)

    @property
    def decoder(self) -> Any:
        """The decoder's layers, or None where the pipeline's has another form."""
        return getattr(self._decoder(), "decoder", None)

    @property
    def host_bytes(self) -> int:
        """Host memory of carried weights and tables, shared by all workers of a host."""
        return (self.host.nbytes if self.host is not None else 0) + self.tables.nbytes

    @property
    def never_loaded(self) -> list[str]:
        skipped = [block.name for blocks in self.stages for block in blocks if block.unneeded]
        unused = [f"{stage.component}.{path}" for stage in self.strategy.stages for path in stage.unused]
        return [*skipped, *unused, *[f"{self.strategy.decoder}.{path}" for path in self.strategy.decoder_unused]]

    def close_gates(self, run: Callable[[Block], Callable[..., Any]]) -> None:
        """Put a gate before every block, which then does what `run` says, and before the decode."""
        for block in (block for blocks in self.stages for block in blocks):
            self.gates.guard_block(block, run(block))
        self.gates.guard_decode(self._decoder(), self.decode_stop)
        for stage in self.strategy.stages:
            for path in stage.unused:
                self.gates.pass_by(getattr(self.pipe, stage.component).get_submodule(path))

    def move_fixed_parts(self, identity: str = "") -> None:
        """Bring everything that is neither carried nor unused to the device; tables are gathered from host memory."""
        stays = self.device.is_cuda and self._keep_tables(identity)
        for index, stage in enumerate(self.strategy.stages):
            component, dtype = getattr(self.pipe, stage.component), self._cast.get(stage.component)
            for module in rest_of(
                component, self.stages[index], (*stage.unused, *(stage.host_tables if stays else ()))
            ):
                self._move(module, dtype)
            for block in self.stages[index]:
                for module in block.module.modules():
                    self._move(module, buffers_only=True)
        for module in rest_of(self._decoder(), [], self.strategy.decoder_unused):
            self._move(module)
        for module, dtype in self._left_behind():
            self._leave(module, dtype)

    def _left_behind(self) -> Iterator[tuple[nn.Module, torch.dtype | None]]:
        """Modules that nothing will ever run, and what their component becomes."""
        for stage, blocks in zip(self.strategy.stages, self.stages, strict=True):
            for block in blocks:
                if block.unneeded:
                    yield from ((module, self._cast.get(stage.component)) for module in block.module.modules())
        roots = [(stage.component, stage.unused) for stage in self.strategy.stages]
        for component, paths in (*roots, (self.strategy.decoder, self.strategy.decoder_unused)):
            for name, module in getattr(self.pipe, component).named_modules():
                if name in paths:
                    yield from ((inner, self._cast.get(component)) for inner in module.modules())

    def _leave(self, module: nn.Module, dtype: torch.dtype | None) -> None:
        """Keep a module's weights in host memory; pipelines that ask it for its device or type hear the engine's."""
        for name, parameter in module._parameters.items():
            if parameter is not None and self.device.is_cuda:
                before, becomes = parameter.data, cast_of(parameter, dtype)
                self._moved.append(Moved(module, name, True, before.device, before.cpu(), becomes))
                parameter.data = torch.empty(0, dtype=becomes, device=self.device.where)

    def fill_host(
        self,
        packing: bool,
        identity: str,
        cache: str | Path,
        watch: Stopwatch,
        measure: Callable[[], Pays] = lambda: is_smaller,
        *,
        is_late: bool = False,
    ) -> None:
        """Bring every block's bytes into host memory in the form in which they travel, once.

        Where they are not there yet, `measure` says what decides which of them are packed. `is_late`: the weights are
        in use as they are until all of this has succeeded; what goes wrong then leaves them so.
        """
        key = store_key(self.blocks, identity, packing) if identity else ""
        expected = sum(block.raw_bytes for block in self.blocks) * (3 if packing else 4) // 4
        with watch.part("store"):
            disk = Path(cache) if cache else None
            self.host = HostWeights(self.blocks, key=key, cache=disk, expected_bytes=expected)
        if self.host.is_complete:
            is_pinned = self._take_from(self.host, watch)
        else:
            with watch.part("gain"):
                pays = self._decide(self.host, measure) if packing else None
            is_pinned = self._fill(self.host, pays, watch, is_late)
        if not is_pinned:
            logger.warning("host memory could not be pinned (memlock or cgroup limit): copies will be slow")

    def _decide(self, store: HostWeights, measure: Callable[[], Pays]) -> Pays:
        """What says which blocks are packed; what it raises, TooLittleMemory for one, has touched nothing."""
        try:
            pays = measure()
            store.expect(expected_bytes((block.raw_bytes // 2 for block in self.blocks), pays))
        except BaseException:
            store.close()
            self.host = None
            raise
        return pays

    def _take_from(self, store: HostWeights, watch: Stopwatch) -> bool:
        """Use a complete store's bytes; whether all are pinned."""
        for block in self.blocks:
            block.host = store.get(block)
            block.let_go()
        with watch.part("pin"), beside(self._open_shelf):
            return self.device.pin_all([block.host for block in self.blocks if block.host is not None])

    def _open_shelf(self) -> None:
        """Make the prompt cache's memory already now; what goes wrong is told by the first who needs it."""
        if self.device.is_cuda:
            self.device.enter_thread()
            with contextlib.suppress(Exception):
                self.cache.open_shelf()

    def _fill(self, store: HostWeights, pays: Pays | None, watch: Stopwatch, is_late: bool) -> bool:
        """Bring the blocks' bytes into an empty store; whether all are pinned."""
        is_pinned = True
        try:
            for block in self.blocks:
                is_pinned = self._carry(block, store, pays, watch) and is_pinned
                if not is_late:
                    block.let_go()  # at a start host memory has no room for both
            store.seal()
        except BaseException:
            if is_late:
                self._empty(store)
            raise
        for block in self.blocks:
            block.let_go()
        give_back_freed()
        logger.info("%d of %d blocks packed", sum(block.packed is not None for block in self.blocks), len(self.blocks))
        return is_pinned

    def _carry(self, block: Block, store: HostWeights, pays: Pays | None, watch: Stopwatch) -> bool:
        """One block's bytes into the store; whether they are pinned."""
        with watch.part("pack"):
            data = block.carry_form(self.device.where, pays)
        with watch.part("pin"):
            block.host = store.put(block, data.numel())
            is_pinned = self.device.pin(block.host)
        with watch.part("copy"):
            block.host.copy_(data)
        return is_pinned

    def _empty(self, store: HostWeights) -> None:
        """As before a late fill: no block is in host memory."""
        for block in self.blocks:
            if block.host is not None:
                self.device.unpin(block.host)
            block.host = block.packed = None
        store.close()
        self.host = None

    def storages(self) -> frozenset[int]:
        """Addresses of all weights and buffers where they lie now, those that blocks share included."""
        modules = [part for part in self.pipe.components.values() if isinstance(part, nn.Module)]
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        return frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)

    def facts(self, steps: int) -> list[BlockFacts]:
        """What the planner needs of every block."""
        passes = [stage.passes or steps for stage in self.strategy.stages]
        return [
            BlockFacts(
                name=block.name,
                stage=block.stop.stage,
                raw=block.raw_bytes,
                carried=block.carried_bytes,
                turns=1 if block.once else passes[block.stop.stage],
            )
            for block in self.blocks
        ]

    def put_together(self, weights_in_place: bool) -> None:
        """Undo everything: gates, fixed parts, and every weight as it was, bit for bit."""
        self.gates.remove()
        if not weights_in_place:
            for block in self.blocks:
                self._restore(block)
        for moved in reversed(self._moved):
            tensors = moved.owner._parameters if moved.is_parameter else moved.owner._buffers
            before = tensors[moved.name].data if moved.before is None else moved.before  # type: ignore[union-attr]
            _set_tensor(moved.owner, moved.name, moved.is_parameter, before.to(moved.home, moved.dtype))
        self._moved.clear()
        self._close_host(puts_back=True)

    def let_go(self) -> None:
        """Leave the pipeline without its weights: it is used up, and neither time nor host memory goes into it."""
        self.gates.remove()
        self._moved.clear()
        for block in self.blocks:
            block.let_go()
            if block.host is not None:
                self.device.unpin(block.host)
                block.host = None
        self._close_host(puts_back=False)

    def _close_host(self, *, puts_back: bool) -> None:
        self.tables.close(puts_back=puts_back)
        self.cache.close()
        if self.host is not None:
            self.host.close()

    def _restore(self, block: Block) -> None:
        """Unpack from host memory, on the device; a block in place only goes home."""
        if block.host is None:
            block.go_home()
            return
        source = block.host.to(self.device.where)
        flat = source
        if block.packed is not None:
            flat = self.device.empty(block.raw_bytes)
            self.device.unpack(source, block.packed, flat.view(torch.int16))
        block.restore(flat)
        self.device.synchronize()
        self.device.unpin(block.host)
        block.host = None

    def _keep_tables(self, identity: str) -> bool:
        """Leave embedding tables in pinned host memory; where pinning fails they move like any other part."""
        tables = [
            Block(
                f"{stage.component}.{path}",
                getattr(self.pipe, stage.component).get_submodule(path),
                index,
                position,
                once=False,
                unneeded=False,
                dtype=self._cast.get(stage.component),
            )
            for index, stage in enumerate(self.strategy.stages)
            for position, path in enumerate(stage.host_tables)
        ]
        if not tables or not self.tables.keep(tables, identity):
            return False
        for table in tables:
            self.gates.replace(table.module, "forward", gather_from_host(table.module, self.device))
        return True

    def _note(self, owner: nn.Module, name: str, is_parameter: bool, before: torch.Tensor, dtype: torch.dtype) -> None:
        on_host = before.device.type == "cpu"
        self._moved.append(Moved(owner, name, is_parameter, before.device, before if on_host else None, dtype))

    def _move(self, module: nn.Module, dtype: torch.dtype | None = None, *, buffers_only: bool = False) -> None:
        where = self.device.where
        named: Sequence[tuple[str, torch.Tensor | None]] = [] if buffers_only else list(module._parameters.items())
        for is_parameter, tensors in ((True, named), (False, list(module._buffers.items()))):
            for name, tensor in tensors:
                if tensor is None:
                    continue
                becomes = cast_of(tensor, dtype if is_parameter else None)
                self.fixed_bytes += tensor.numel() * becomes.itemsize
                if tensor.device != where or tensor.dtype != becomes:
                    self._note(module, name, is_parameter, tensor.data, becomes)
                    _set_tensor(module, name, is_parameter, tensor.data.to(where, becomes))

    def _decoder(self) -> nn.Module:
        decoder: nn.Module = getattr(self.pipe, self.strategy.decoder)
        return decoder


def _cast_now(component: nn.Module, dtype: torch.dtype) -> None:
    for parameter in component.parameters():
        parameter.data = parameter.data.to(cast_of(parameter, dtype))


def _set_tensor(owner: nn.Module, name: str, is_parameter: bool, tensor: torch.Tensor) -> None:
    if is_parameter:
        owner._parameters[name].data = tensor  # type: ignore[union-attr]
    else:
        owner._buffers[name] = tensor


def _require_whole_precision(pipe: Any) -> None:
    """Refuse float16: it overflows in these models and draws black pictures."""
    for name, component in pipe.components.items():
        if isinstance(component, nn.Module) and any(p.dtype == torch.float16 for p in component.parameters()):
            raise ValueError(f"{name} is in float16, which overflows and draws black pictures; load it in bfloat16")
