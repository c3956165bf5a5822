"""What the engine needs of a device, in two flavours: CUDA with streams and events, and the CPU where all is at once.

One compute stream (the engine thread's current one), one stream that carries weights in, one that carries pictures
out, two that move riders' states. Nothing here ever waits on the host except `synchronize` and `Landing.wait`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import torch

from worker.offload import card_memory, packing
from worker.offload.apart import Pool
from worker.offload.card_memory import note_memory_before
from worker.offload.host_memory import give_back_freed, map_pages, own_pages
from worker.offload.libraries import wake_matmul
from worker.offload.marks import Landing, Mark

logger = logging.getLogger(__name__)

#: Most of registering memory is the kernel's work page by page.
PINNING_THREADS = 4
#: Some 100 ms: a host thread that waits for Python's lock at each launch has launched twenty kernels by then.
HOLD_CYCLES = 180_000_000
#: Readings of the card's memory, until two of this process's are the same.
STEADY_TRIES = 3
#: Unpacks uint8 bytes of a layout into int16 values, all on the device, in the current stream.
Unpack = Callable[[torch.Tensor, packing.Packed, torch.Tensor], None]
#: Tensors of a rider's state on the device, each with its place in pinned host memory.
State = Sequence[tuple[torch.Tensor, torch.Tensor]]


class Device:
    """The CPU flavour, and the interface."""

    def __init__(self, where: torch.device, unpack: Unpack | None = None) -> None:
        """`unpack` in place of the device's own way of unpacking."""
        self.where = where
        self.unpack = unpack or self._own_unpack
        self.fetched_bytes = 0  # weights carried in so far
        self.state_bytes = 0  # riders' states carried out and in so far
        self.after_copy: Callable[[int], None] | None = None  # a benchmark's, on the stream of each copy of weights

    @property
    def is_cuda(self) -> bool:
        return False

    @property
    def tells_memory(self) -> bool:
        """Whether `process_bytes` is to be believed."""
        return False

    @property
    def description(self) -> str:
        """What distinguishes this device, its driver included, from others on which figures would differ."""
        return str(self.where.type)

    def empty(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, device=self.where)

    def fetch(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        """Copy weights into `target` once `after` has passed; returns when they are there."""
        target.copy_(source)
        self.fetched_bytes += source.numel()
        return Mark()

    def join(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> None:
        """Copy weights that are on the device already, once `after` has passed; a later `fetch` tells when."""
        target.copy_(source)

    def stow(self, state: State, *after: Mark) -> Mark:
        """Copy a rider's state to pinned memory once `after` have passed; returns when it is there."""
        return self._move_state(state, after, is_out=True)

    def recall(self, state: State, after: Mark) -> Mark:
        """Copy a rider's state back once `after` has passed; returns when it is there."""
        return self._move_state(state, (after,), is_out=False)

    def _move_state(self, state: State, after: tuple[Mark, ...], *, is_out: bool) -> Mark:
        for here, host in state:
            source, target = (here, host) if is_out else (host, here)
            target.copy_(source, non_blocking=True)
            self.state_bytes += source.numel()
        return Mark()

    def mark(self) -> Mark:
        """Now, in the compute stream."""
        return Mark()

    def wait(self, mark: Mark) -> None:
        """Let the compute stream, not the host, wait for `mark`."""

    @staticmethod
    def _own_unpack(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
        packing.decode(source, packed, target)

    def gather(self, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Rows `ids` of a table in host memory, on the device."""
        return torch.nn.functional.embedding(ids, table)

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """A small host tensor on the device, without a host wait."""
        return tensor.to(self.where, copy=True)

    def to_host(self, tensor: torch.Tensor, target: torch.Tensor) -> None:
        """Copy into pinned `target`, ordered in the compute stream: only `upload` may read it."""
        target.copy_(tensor)

    def enter_thread(self) -> None:
        """Make this the thread's device."""

    def land(self, tensor: torch.Tensor) -> Landing:
        return Landing(tensor.detach().cpu(), Mark(), None)

    def pin(self, tensor: torch.Tensor) -> bool:
        """Register host memory for fast copies; False when the system refuses."""
        return True

    def pinned_room(self, nbytes: int) -> torch.Tensor:
        """So many bytes of new host memory, registered for fast copies unless the system refuses; `unpin` them."""
        room = torch.empty(nbytes, dtype=torch.uint8)
        if self.is_cuda:
            own_pages(room.data_ptr(), nbytes)
        self.pin(room)
        return room

    def pin_all(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Register all, several at the same time; False when the system refused any."""
        with ThreadPoolExecutor(PINNING_THREADS) as pool:
            return all(list(pool.map(self._pin_apart, tensors)))

    def _pin_apart(self, tensor: torch.Tensor) -> bool:
        self.enter_thread()
        map_pages(tensor.data_ptr(), tensor.numel() * tensor.element_size())
        return self.pin(tensor)

    def unpin(self, tensor: torch.Tensor) -> None:
        """Undo `pin`."""

    def process_bytes(self) -> int:
        """Device memory of this process, context included."""
        return 0

    def peak_bytes(self, reset: bool = False) -> int:
        """Most bytes of tensors alive since the last reset."""
        return 0

    def new_pool(self) -> Pool:
        """A pool of memory, freed with its last reference: in its contexts tensors lie apart from all others."""
        return nullcontext

    def allocated_bytes(self) -> int:
        """Bytes of tensors alive now."""
        return 0

    def reserved_bytes(self) -> int:
        """Bytes that the allocator holds, cached ones included."""
        return 0

    def pool_bytes(self) -> int:
        """What the allocator holds in pools of `new_pool` for large tensors; asked for seldom."""
        return 0

    def limit_reserved(self, nbytes: int | None) -> None:
        """Let the allocator hold no more than this: it gives gaps outside of pools back first. None: no limit."""

    def hold(self) -> None:
        """Keep the compute stream busy for a while: what the host asks for meanwhile then runs without gaps."""

    def timed_mark(self) -> Mark:
        """A mark that `seconds_between` understands."""
        return Mark()

    def seconds_between(self, first: Mark, second: Mark) -> float:
        """Device time between two timed marks that have passed."""
        return 0.0

    def measure_bandwidth(self, source: torch.Tensor) -> float:
        """Host-to-device bytes per second, by copying pinned `source` a few times."""
        return 50e9

    def synchronize(self) -> None:
        """Wait for all work."""

    def answers(self) -> bool:
        """Whether it still works; after a fault in a kernel a card's process is lost."""
        return True

    def trim(self) -> None:
        """Give unused cached memory back to the driver."""

    def trim_host(self) -> None:
        """Give host memory that is free and kept for later, pinned or not, back to the system."""
        give_back_freed()


class CudaDevice(Device):
    """One NVIDIA card."""

    def __init__(self, where: torch.device, unpack: Unpack | None = None) -> None:
        super().__init__(where, unpack)
        card_memory.use_expandable_segments()
        note_memory_before()
        torch.cuda.set_device(where)
        self.carry_in = torch.cuda.Stream(where)
        self.carry_out = torch.cuda.Stream(where)
        self.states_out = torch.cuda.Stream(where)
        self.states_in = torch.cuda.Stream(where)
        self.jitter_cycles = 0
        self._pools: set[tuple[int, ...]] = set()
        self._books = card_memory.Books()
        if not torch.cuda.is_bf16_supported():
            raise ValueError(f"{torch.cuda.get_device_name(where)} can not compute in bf16, which this engine needs")

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def tells_memory(self) -> bool:
        return True

    @property
    def description(self) -> str:
        properties = torch.cuda.get_device_properties(self.where)
        versions = f"{torch.version.cuda} {torch.backends.cudnn.version()} {card_memory.driver_version()}"
        return f"{properties.name} {properties.total_memory} {versions}"

    def fetch(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        if after.event is not None:
            self.carry_in.wait_event(after.event)
        with torch.cuda.stream(self.carry_in):
            self._delay()
            target.copy_(source, non_blocking=True)
            if self.after_copy is not None:
                self.after_copy(source.numel())
            event = torch.cuda.Event()
            event.record(self.carry_in)
        self.fetched_bytes += source.numel()
        return Mark(event)

    def join(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> None:
        if after.event is not None:
            self.carry_in.wait_event(after.event)
        with torch.cuda.stream(self.carry_in):
            self._delay()
            target.copy_(source, non_blocking=True)

    def _move_state(self, state: State, after: tuple[Mark, ...], *, is_out: bool) -> Mark:
        stream = self.states_out if is_out else self.states_in
        for mark in after:
            if mark.event is not None:
                stream.wait_event(mark.event)
        with torch.cuda.stream(stream):
            self._delay()
            super()._move_state(state, (), is_out=is_out)
            event = torch.cuda.Event()
            event.record(stream)
        return Mark(event)

    def _delay(self) -> None:
        """Random delays, for the test that events and not luck keep the order."""
        if self.jitter_cycles:
            torch.cuda._sleep(int(torch.randint(1, self.jitter_cycles, ()).item()))

    def mark(self) -> Mark:
        event = torch.cuda.Event()
        event.record()
        return Mark(event)

    def wait(self, mark: Mark) -> None:
        if mark.event is not None:
            torch.cuda.current_stream().wait_event(mark.event)
        self._delay()

    @staticmethod
    def _own_unpack(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
        from worker.offload import kernels

        kernels.unpack(source, packed, target)

    def gather(self, table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        from worker.offload import kernels

        return kernels.gather_rows(table, ids)

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        pinned = tensor if tensor.is_pinned() else tensor.contiguous().pin_memory()
        return pinned.to(self.where, non_blocking=True)

    def to_host(self, tensor: torch.Tensor, target: torch.Tensor) -> None:
        target.copy_(tensor, non_blocking=True)

    def enter_thread(self) -> None:
        torch.cuda.set_device(self.where)

    def land(self, tensor: torch.Tensor) -> Landing:
        host = _pinned_like(tensor)
        now = torch.cuda.Event()
        now.record()
        self.carry_out.wait_event(now)
        with torch.cuda.stream(self.carry_out):
            host.copy_(tensor, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self.carry_out)
        return Landing(host, Mark(event), tensor)

    def pin(self, tensor: torch.Tensor) -> bool:
        result = torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.numel() * tensor.element_size(), 0)
        if int(result) != 0:
            with contextlib.suppress(RuntimeError):  # CUDA keeps the refusal for whoever launches a kernel next
                torch.zeros(1, device=self.where)
        return int(result) == 0

    def unpin(self, tensor: torch.Tensor) -> None:
        torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())

    def process_bytes(self) -> int:
        for _ in range(STEADY_TRIES):
            own, since = card_memory.own_bytes(self.where), card_memory.bytes_since(self.where)
            if own == card_memory.own_bytes(self.where):  # else another thread asked for some or gave some back
                break
        return self._books.bytes_of(own, since)

    def peak_bytes(self, reset: bool = False) -> int:
        peak = torch.cuda.max_memory_allocated(self.where)
        if reset:
            torch.cuda.reset_peak_memory_stats(self.where)
        return peak

    def new_pool(self) -> Pool:
        if torch.cuda.get_allocator_backend() != "native":
            return nullcontext  # a user's own choice, which has no pools
        wake_matmul(self.where)
        pool = torch.cuda.MemPool()
        self._pools.add(tuple(pool.id))
        return lambda: torch.cuda.use_mem_pool(pool, self.where)

    def allocated_bytes(self) -> int:
        return torch.cuda.memory_allocated(self.where)

    def reserved_bytes(self) -> int:
        return torch.cuda.memory_reserved(self.where)

    def pool_bytes(self) -> int:
        large = (segment for segment in torch.cuda.memory_snapshot() if segment["segment_type"] == "large")
        return sum(segment["total_size"] for segment in large if tuple(segment["segment_pool_id"]) in self._pools)

    def limit_reserved(self, nbytes: int | None) -> None:
        total = torch.cuda.get_device_properties(self.where).total_memory
        share = 1.0 if nbytes is None else min(max(nbytes, 0) / total, 1.0)
        torch.cuda.set_per_process_memory_fraction(share, self.where)

    def hold(self) -> None:
        torch.cuda._sleep(HOLD_CYCLES)

    def timed_mark(self) -> Mark:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return Mark(event)

    def seconds_between(self, first: Mark, second: Mark) -> float:
        return float(first.event.elapsed_time(second.event)) / 1e3

    def measure_bandwidth(self, source: torch.Tensor) -> float:
        target = self.empty(source.numel())
        self.fetch(target, source, self.mark())
        self.synchronize()
        start = time.perf_counter()
        for _ in range(4):
            self.fetch(target, source, Mark())
        self.synchronize()
        return 4 * source.numel() / (time.perf_counter() - start)

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.where)

    def answers(self) -> bool:
        try:
            return int(torch.ones(1, dtype=torch.int32, device=self.where).sum()) == 1
        except Exception:
            return False

    def trim(self) -> None:
        torch.cuda.synchronize(self.where)
        torch.cuda.empty_cache()

    def trim_host(self) -> None:
        torch.cuda.synchronize(self.where)  # what a copy still reads is not free
        card_memory.give_back_pinned()
        super().trim_host()


def open_device(where: str | torch.device, unpack: Unpack | None = None) -> Device:
    """The flavour for `where` ("cuda", "cuda:1", "cpu")."""
    device = torch.device(where)
    return CudaDevice(card_memory.card_of(device), unpack) if device.type == "cuda" else Device(device, unpack)


def _pinned_like(tensor: torch.Tensor) -> torch.Tensor:
    """Host memory for a picture; where none can be pinned now the copy takes longer, and the picture is there."""
    try:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(tensor.shape, dtype=tensor.dtype)
