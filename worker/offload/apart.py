"""Work in memory of its own: a pool that is whole again when it is over, since what the work leaves is copied out.

Blocks need large temporaries, of other sizes for each picture's size, and leave a rider's state among them. Where all
of it shares one pool, states end up between temporaries, and a later tensor fits into no gap: 20 requests to the card
for each picture of three sizes at a budget of 5.8 GiB (H200). A pool that is empty before each ride lies the same way
each time, so what fitted once always fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

#: Opens a context in which this thread's device memory comes from one pool.
Pool = Callable[[], AbstractContextManager[None]]
#: Arguments that keep nothing.
HARMLESS = (torch.Tensor, torch.dtype, torch.device, torch.Size, str, int, float, slice, type(None))


def apart(run: Callable[..., Any], pool: Callable[[], Pool | None]) -> Callable[..., Any]:
    """`run` with its temporaries in the pool that `pool` names at each call (None: where all else is)."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        inside = pool()
        if inside is None or _may_keep((args, kwargs)):
            return run(*args, **kwargs)
        with inside():
            output = run(*args, **kwargs)
        return copied_out(output, given=(args, kwargs))

    return forward


def copied_out(output: Any, given: Any) -> Any:
    """`output` with the storages of its tensors copied, but for those that were `given`: same values, same layout.

    Tensors that share a storage share its copy. What is no plain tensor, or in nothing that pytrees know, stays.
    """
    kept = {_address(tensor) for tensor in _tensors_in(given)}
    copies: dict[int, torch.UntypedStorage] = {}

    def copied(tensor: torch.Tensor) -> torch.Tensor:
        address = _address(tensor)
        if not _is_plain(tensor) or address in kept or address == 0:
            return tensor
        if address not in copies:
            copies[address] = _bytes_of(tensor).clone().untyped_storage()
        return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
            copies[address], tensor.storage_offset(), tensor.shape, tensor.stride()
        )

    return tree_map_only(torch.Tensor, copied, output)


def _may_keep(given: Any) -> bool:
    """Whether something of it can keep what is made meanwhile, as a text encoder's cache of keys and values does."""
    return any(not isinstance(leaf, HARMLESS) for leaf in tree_leaves(given))


def _tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether storage and layout are all of it."""
    return type(tensor) is torch.Tensor and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg())


def _address(tensor: torch.Tensor) -> int:
    """Of its storage; 0 for one that holds nothing here."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided and not tensor.is_meta else 0


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """All of the tensor's storage."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())
