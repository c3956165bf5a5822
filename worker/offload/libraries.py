"""cuBLAS and cuDNN take a quarter of a second each to get ready, which a start spends beside other work."""

from __future__ import annotations

import contextlib
import threading

import torch

from worker.offload import card_memory

_AWAKENING: list[threading.Thread] = []


def wake_libraries(where: str | torch.device) -> None:
    """Have both get ready in a thread, which leaves Python to others; trouble is told by whoever computes first.

    A process that ends waits for it: one that was in torch's own code when Python went would abort the process.
    """
    thread = threading.Thread(target=_use_both, args=(card_memory.card_of(where),), name="libraries")
    with contextlib.suppress(RuntimeError):  # no further thread is to be had
        thread.start()
        _AWAKENING.append(thread)


def wake_matmul(where: torch.device) -> None:
    """Have cuBLAS take its workspace for this thread and stream: taken in a pool, it would stay in its midst.

    A thread that wakes the libraries ends first: what it used serves this one, who would else get its own.
    """
    while _AWAKENING:
        _AWAKENING.pop().join()
    _multiply(where)


def _use_both(card: torch.device) -> None:
    with contextlib.suppress(Exception):
        card_memory.use_expandable_segments()
        torch.cuda.set_device(card)
        _multiply(card)
        picture = torch.zeros(1, 16, 16, 16, dtype=torch.bfloat16, device=card)
        torch.nn.functional.conv2d(picture, picture[:, :, :3, :3], padding=1)
        torch.cuda.synchronize(card)


def _multiply(where: torch.device) -> None:
    side = torch.zeros(16, 16, dtype=torch.bfloat16, device=where)
    torch.addmm(side[0], side, side)
    torch.mm(side, side)
