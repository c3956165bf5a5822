"""What is kept of prompts: written round and round, and never an entry that was written over."""

from __future__ import annotations

import torch

from worker.offload.device import Device
from worker.offload.text import PromptCache

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
