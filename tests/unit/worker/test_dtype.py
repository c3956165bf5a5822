"""Which number format a worker computes in."""

from contextlib import nullcontext

import pytest
import torch

from core.errors import ConfigurationError
from core.settings import Settings
from worker.pipeline import choose_dtype


@pytest.mark.parametrize(("said", "chosen"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_the_setting_decides(said, chosen):
    assert choose_dtype(Settings(cpu_dtype=said), "cpu") is chosen


def test_left_to_itself_a_cpu_computes_in_float32_or_bfloat16_and_never_in_float16():
    assert choose_dtype(Settings(), "cpu") in {torch.float32, torch.bfloat16}


def test_a_card_without_bfloat16_is_refused_with_a_sentence_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")

    with pytest.raises(ConfigurationError, match=r"Tesla T4 has no bfloat16 .* Use a newer card, or ZIMG_DEVICE=cpu"):
        choose_dtype(Settings(), "cuda")
