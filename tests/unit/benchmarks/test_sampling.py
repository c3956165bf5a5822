"""The sampler sees every thread's functions, callers included; host memory is looked at from outside."""

from __future__ import annotations

import sys
import threading

import pytest

from benchmarks.sampling import HostMemory, Sampler, card_bytes


def test_a_function_and_its_caller_are_seen_in_their_thread_and_the_sampler_is_not() -> None:
    released = threading.Event()

    def inner() -> None:
        released.wait(60)

    def outer() -> None:
        inner()

    thread = threading.Thread(target=outer, name="observed")
    thread.start()
    sampler = Sampler(0.001)
    sampler.start()
    while not any(name.startswith("observed") for name in sampler.inclusive()):
        pass
    sampler.stop()
    released.set()
    thread.join()
    seen = sampler.inclusive(1000)
    here = [name for name in seen if name.startswith("observed: benchmarks/test_sampling.py")]
    assert {name.rpartition(":")[2] for name in here} == {"inner", "outer"}
    assert not any(name.startswith("sampler:") for name in seen)
    assert all(seconds >= 0 for seconds in seen.values())


def test_the_most_host_memory_is_told_by_a_process_that_looks_on() -> None:
    memory = HostMemory()
    memory.start()
    held = bytearray(64 << 20)
    memory.stop()
    assert len(held) < memory.held < 1 << 40
    assert memory.held == max(memory.held_each_5s)
    assert memory.files > 1 << 20, "Python's own files"
    assert memory.card >= 0


def test_without_a_card_none_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # its import fails
    assert card_bytes() == 0
