"""What torch's allocator may hold of the card: what the budget leaves it, all of it at once, and never more.

Tensors that come and go in many sizes leave gaps, and an allocator that may grow takes more from the card for what fits
into none (0.2 GiB in 900 pictures of six sizes on an H200). At a limit it gives its gaps back first and takes what it
needs anew, so the process keeps its budget whoever rides. What is allowed is taken when the carousel gets ready, so
that nothing is added while jobs ride, and seldom anything taken anew. Nothing moves between a pool (see apart.py) and
all else: whichever needs more than it holds is out of memory.
"""

from __future__ import annotations

import contextlib

import torch

from worker.offload.apart import Pool
from worker.offload.device import Device

#: Left of the budget for kernels that the driver loads later: 48 MiB by 1,000 pictures of six sizes (H200).
LATER_KERNELS = 64 << 20
#: Left beyond what rides took: for kernels that are loaded later, and as much again for gaps among tensors of other
#: sizes; twice that in company, whose states leave more gaps than the full house showed.
GROWTH = 2 * LATER_KERNELS
#: Added to what a plan missed, so that planning again does not miss by a little.
SPARE = 16 << 20
#: What a lone rider's peak leaves in gaps beside its tensors: 90 MiB on an H200. Only a plan that was tried shows them.
GAPS = 128 << 20
#: Tensors up to so many bytes lie in pages of their own, of which so many are taken beyond what the house took: at the
#: limit a page more makes the allocator give all gaps back and take them anew (8 MiB more in 100 pictures on an H200).
SMALL, SMALL_AHEAD = 1 << 20, 32 << 20
#: Where so many of them fit into gaps there are gaps enough.
GAPS_ENOUGH = 256
#: More than kernels' copies take while they are timed.
COPIES = 2 << 30
#: More than any company was seen to leave in gaps is not taken ahead.
AHEAD = 512 << 20
#: So much a pool has beyond what the house took.
WIDER = 20 << 20
#: The pieces in which the allocator takes memory for all others.
PIECE = 20 << 20


def grant(device: Device, budget: int, pool: Pool | None = None, outside: int = 0) -> None:
    """Have the allocator take what `budget` bytes leave it, some of it for `pool`, and no more from then on.

    `outside`: so many bytes, at least, are left for what lies beside it.
    """
    if not device.tells_memory:
        return
    before = device.reserved_bytes()
    most = left_of(device, budget, outside)
    device.limit_reserved(most)  # already now: what is asked for next may be more than fits into any gap
    if pool is not None:
        _widen(device, pool, min(most, before + WIDER))
    _take_ahead(device, min(most, before + AHEAD))
    taken = device.reserved_bytes()
    device.limit_reserved(most if most - taken >= PIECE else taken)


def hold(device: Device, budget: int, outside: int, pool: Pool | None = None, room: int = 0) -> None:
    """Have the allocator take no more than `budget` bytes leave it, once `outside` bytes lie beside it.

    For a start that rides nothing first: kernels that are not loaded yet count as in an earlier start, and `pool` gets
    the `room` in one piece that it had then. At a limit it could not grow: all of a request counts, though a part of it
    may be there.
    """
    take_room(device, pool, room)
    bound(device, budget, outside)


def growth(seats: int) -> int:
    """Bytes that a start for so many riders leaves free."""
    return 2 * GROWTH if seats > 1 else GROWTH


def untried() -> int:
    """Bytes that settling may ask for beyond a plan for one rider that was not tried yet."""
    return growth(1) + 2 * SPARE + GAPS


def bound(device: Device, budget: int, outside: int = 0) -> None:
    """Have the allocator take no more than `budget` bytes leave it, as `grant` and `hold` do.

    Never less than it holds: where a neighbour on the card counts as ours, a smaller plan can still be placed.
    """
    if device.tells_memory:
        device.limit_reserved(max(left_of(device, budget, outside), device.reserved_bytes()))


def left_of(device: Device, budget: int, outside: int) -> int:
    """What `budget` bytes leave the allocator, once `outside` bytes at least lie beside it; 0 where that is more."""
    return max(budget - max(outside_bytes(device), outside) - LATER_KERNELS, 0)


def take_room(device: Device, pool: Pool | None, room: int) -> None:
    """Have `pool` hold so many bytes in one piece, beyond what lies in it; raises torch.OutOfMemoryError."""
    if pool is not None and room > 0:
        with pool():
            device.empty(room)


def outside_bytes(device: Device) -> int:
    """What the process holds of the card beside the allocator: context, kernels, workspaces."""
    return device.process_bytes() - device.reserved_bytes()


def lift(device: Device) -> None:
    """Take the limit away, while plans are tried out."""
    if device.tells_memory:
        device.limit_reserved(None)


def note_peak(device: Device, budget: int) -> None:
    """Have the allocator's record of the most memory be what `budget` bytes leave it, up to what any copies take.

    torch times new kernels on copies of what they write, and makes those that would pass the record in pinned host
    memory: 640 MiB, copied back and forth (H200).
    """
    if device.tells_memory:
        device.trim()  # what lies in gaps would come on top
        with contextlib.suppress(torch.OutOfMemoryError):
            device.empty(max(min(left_of(device, budget, 0) - device.reserved_bytes(), COPIES), 0))
        device.trim()


def _widen(device: Device, pool: Pool, most: int) -> None:
    """Have the allocator hold up to `most` bytes, by asking the pool for ever larger pieces; none is kept."""
    size = PIECE
    with contextlib.suppress(torch.OutOfMemoryError):
        while size <= most and device.reserved_bytes() + PIECE <= most:
            with pool():
                device.empty(size)
            size += PIECE


def _take_ahead(device: Device, most: int) -> None:
    """Have the allocator hold up to `most` bytes, by filling its gaps until it asks the card."""
    held: list[torch.Tensor] = []
    with contextlib.suppress(torch.OutOfMemoryError):  # where somebody else has it by now
        before = device.reserved_bytes()
        ahead = min((most - before) // 2, SMALL_AHEAD)
        while device.reserved_bytes() + SMALL < before + ahead and len(held) < GAPS_ENOUGH:
            held.append(device.empty(SMALL))
        while (left := (most - device.reserved_bytes()) // PIECE * PIECE) > 0 and sum(map(len, held)) < most:
            held.append(device.empty(left))
