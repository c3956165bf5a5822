"""Work in memory of its own: a pool that is whole again when it is over, since what the work leaves is copied out.

Blocks need large temporaries, of other sizes for each picture's size, and leave a rider's state among them. Where all
of it shares one pool, states end up between temporaries, and a later tensor fits into no gap: 26 requests to the card
for each picture of three sizes at a budget of 5.8 GiB (H200). A pool that is empty before each ride lies the same way
each time, so what fitted once always fits.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_map_only

#: Opens a context in which this thread's device memory comes from one pool.
Pool = Callable[[], AbstractContextManager[None]]
T = TypeVar("T")
#: Arguments that keep nothing.
HARMLESS = (torch.dtype, torch.device, str, int, float, slice, type(None))


def apart(run: Callable[..., Any], pool: Callable[[], Pool | None]) -> Callable[..., Any]:
    """`run` with its temporaries in the pool that `pool` names at each call (None: where all else is)."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        inside, given = pool(), set[int]()
        if inside is None or not _note_storages((args, kwargs), given):
            return run(*args, **kwargs)
        with inside():
            output = run(*args, **kwargs)
        return copied_out(output, given)

    return forward


def elsewhere(work: Callable[[], T]) -> T:
    """What `work` returns, done in a thread of its own: what it keeps on the device lies in no pool of this thread's.

    Something small that stays in a pool parts its room for good.
    """
    where = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def do() -> T:
        if where is not None:
            torch.cuda.set_device(where)
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, do).result()


def copied_out(output: Any, given: set[int]) -> Any:
    """`output` with the storages of its tensors copied, but for those at `given` addresses: same values, same layout.

    Tensors that share a storage share its copy, and one that is there twice stays one. What is no plain tensor, or in
    nothing that pytrees know, stays.
    """
    if type(output) is torch.Tensor and _is_whole(output) and _address(output) not in given:
        return output.clone()  # as below, with less to do
    copies: dict[int, torch.UntypedStorage] = {}
    made: dict[int, torch.Tensor] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        address = _address(tensor)
        if not _is_plain(tensor) or address in given or address == 0:
            return tensor
        if address not in copies:
            copies[address] = _bytes_of(tensor).clone().untyped_storage()
        if id(tensor) not in made:
            made[id(tensor)] = _view_of(copies[address], tensor)
        return made[id(tensor)]

    return tree_map_only(torch.Tensor, copied, output)


def _note_storages(given: Any, addresses: set[int]) -> bool:
    """Note whose storages are given; False where something may keep what is made meanwhile.

    A text encoder's cache of keys and values does; lists and dictionaries are believed not to be written to. If one is,
    the pool has a gap until it is forgotten, and nothing else is amiss.
    """
    if isinstance(given, torch.Tensor):
        addresses.add(_address(given))
        return True
    if isinstance(given, tuple | list):
        return all(_note_storages(inner, addresses) for inner in given)
    if isinstance(given, dict):
        return all(_note_storages(inner, addresses) for inner in given.values())
    return isinstance(given, HARMLESS)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether storage and layout are all of it."""
    return type(tensor) is torch.Tensor and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg())


def _is_whole(tensor: torch.Tensor) -> bool:
    """Whether it is plain and contiguous and all that is in its storage."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.is_contiguous()
        and tensor.nbytes == tensor.untyped_storage().nbytes()
        and _is_plain(tensor)
    )


def _address(tensor: torch.Tensor) -> int:
    """Of its storage; 0 for one that holds nothing here."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided and not tensor.is_meta else 0


def _view_of(storage: torch.UntypedStorage, like: torch.Tensor) -> torch.Tensor:
    """What `like` is of its own storage."""
    return torch.empty(0, dtype=like.dtype, device=like.device).set_(
        storage, like.storage_offset(), like.shape, like.stride()
    )


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """All of the tensor's storage."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
