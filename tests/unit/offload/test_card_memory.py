"""What NVML says of a card, told from its neighbours by its UUID whoever numbers them how."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from worker.offload import card_memory

FIRST = torch.device("cuda", 0)


class Driver(ModuleType):
    """NVML of a host with two cards: it numbers the one that CUDA calls the first as the second."""

    def __init__(self, used: dict[str, int]) -> None:
        super().__init__("pynvml")
        self.used = used

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.used)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return list(self.used)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> bytes:  # noqa: N802
        return handle.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        return SimpleNamespace(used=self.used[handle])


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver({"GPU-slow": 18_000, "GPU-fast": 1_000})
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(card_memory, "_BEFORE", {})
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="fast"))
    return driver


def test_what_was_in_use_before_is_of_the_same_card_however_cards_are_numbered(driver: Driver) -> None:
    card_memory.note_memory_before()
    driver.used["GPU-fast"] += 500
    driver.used["GPU-slow"] += 9_000
    assert card_memory.bytes_since(FIRST) == 500


def test_it_is_noted_once(driver: Driver) -> None:
    card_memory.note_memory_before()
    driver.used["GPU-fast"] += 500
    card_memory.note_memory_before()
    assert card_memory.bytes_since(FIRST) == 500


def test_a_card_that_was_not_listed_counts_from_when_it_is_first_asked_for(driver: Driver) -> None:
    assert card_memory.bytes_since(FIRST) == 0
    driver.used["GPU-fast"] += 500
    assert card_memory.bytes_since(FIRST) == 500


def test_where_nothing_can_be_asked_nothing_is_claimed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("the context is lost")

    card_memory.note_memory_before()
    driver.used["GPU-fast"] += 500
    monkeypatch.setattr(torch.cuda, "get_device_properties", refuse)
    assert card_memory.bytes_since(FIRST) == 0
