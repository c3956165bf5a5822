"""What wakes cuBLAS and cuDNN beside other work never stands in its way."""

from __future__ import annotations

import threading

import pytest
import torch

from worker.offload import libraries
from worker.offload.libraries import wake_libraries, wake_matmul

CPU = torch.device("cpu")


def test_whoever_multiplies_first_waits_for_it() -> None:
    may_end, order = threading.Event(), list[str]()

    def wake() -> None:
        may_end.wait(60)
        order.append("woken")

    thread = threading.Thread(target=wake)
    thread.start()
    libraries._AWAKENING.append(thread)
    threading.Timer(0.05, may_end.set).start()
    wake_matmul(CPU)
    order.append("multiplied")
    assert order == ["woken", "multiplied"]
    assert libraries._AWAKENING == []


def test_without_a_card_or_a_further_thread_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    wake_libraries("cuda")  # there is none here, or it wakes
    wake_matmul(CPU)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    wake_libraries("cuda")
    assert libraries._AWAKENING == []
    wake_matmul(CPU)


def test_a_process_that_ends_waits_for_it() -> None:
    """One that was in torch's own code when Python went aborted the process (SIGABRT on an H200)."""
    wake_libraries("cuda")
    assert not any(thread.daemon for thread in libraries._AWAKENING)
    wake_matmul(CPU)
