"""What is kept of prompts: written round and round, and never an entry that was written over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, Card, draws, open_engine_fixture  # noqa: F401 - the fixture
from tests.unit.offload.conftest import family_pipeline
from worker.offload.device import Device
from worker.offload.engine import Engine
from worker.offload.text import PromptCache
from worker.offload.warm_up import WarmUp

KIB = 1 << 10


def states(value: float) -> list[torch.Tensor]:
    return [torch.full((512,), value, dtype=torch.float32)]  # 2 KiB


def test_an_entry_that_was_written_over_is_gone_and_the_others_are_as_they_were() -> None:
    cache = PromptCache(Device(torch.device("cpu")), 4 * KIB)
    for number, prompt in enumerate(("a mug", "a lamp", "a chair")):
        cache.put(prompt, states(number))
    assert cache.get("a mug") is None
    assert torch.equal(cache.get("a lamp")[0], states(1)[0])
    assert torch.equal(cache.get("a chair")[0], states(2)[0])
    assert cache.hits == 2


def test_what_never_fits_is_not_kept_and_costs_no_other_entry() -> None:
    cache = PromptCache(Device(torch.device("cpu")), 4 * KIB)
    cache.put("a mug", states(1))
    cache.put("all prompts of a list", [torch.zeros(2048)])
    assert "all prompts of a list" not in cache
    assert "a mug" in cache


def test_what_is_given_out_is_a_copy_that_later_writing_does_not_touch() -> None:
    cache = PromptCache(Device(torch.device("cpu")), 2 * KIB)
    cache.put("a mug", states(1))
    known = cache.get("a mug")
    cache.put("a lamp", states(2))
    assert torch.equal(known[0], states(1)[0])


def test_what_began_before_all_was_forgotten_is_not_kept_and_what_began_after_is() -> None:
    cache = PromptCache(Device(torch.device("cpu")), 4 * KIB)
    before = cache.forgettings
    cache.forget()
    cache.put("a mug", states(1), before)
    assert "a mug" not in cache
    cache.put("a mug", states(2), cache.forgettings)
    assert torch.equal(cache.get("a mug")[0], states(2)[0])


def test_while_it_rests_nothing_is_kept_and_no_memory_is_made() -> None:
    cache = PromptCache(Device(torch.device("cpu")), 4 * KIB)
    cache.rests = True
    cache.put("a mug", states(1))
    assert "a mug" not in cache
    assert cache._shelf is None
    cache.rests = False
    cache.put("a mug", states(1))
    assert torch.equal(cache.get("a mug")[0], states(1)[0])


class CompilingCard(Card):
    """One that is measured and compiled for, as a real one is."""

    @property
    def is_cuda(self) -> bool:
        return True


def test_a_start_makes_the_memory_for_prompts_when_all_is_compiled(
    open_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for owner, name in ((WarmUp, "named"), (WarmUp, "unnamed"), (PromptCache, "open_shelf")):
        usual = getattr(owner, name)

        def noted(one: Any, name: str = name, usual: Callable[[Any], Any] = usual) -> Any:
            steps.append(name)
            return usual(one)

        monkeypatch.setattr(owner, name, noted)
    options = dataclasses.replace(
        CARRIED, compile="on", compile_backend="eager", warm_up=((64, 64),), captions=(64,), seats=2
    )
    engine = Engine(family_pipeline("z-image"), 1 << 30, CompilingCard(lambda: 0), options)
    engine.start()
    try:
        assert steps.index("open_shelf") > steps.index("unnamed") > steps.index("named")
        assert draws(engine)
    finally:
        engine.stop(60)
