"""Which number format a worker computes in."""

from contextlib import nullcontext

import pytest
import torch

from core.errors import ConfigurationError
from core.settings import Settings
from models import tiny
from worker.pipeline import choose_dtype, load_model


@pytest.mark.parametrize(("said", "chosen"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_the_setting_decides(said, chosen):
    assert choose_dtype(Settings(cpu_dtype=said), "cpu") is chosen


def test_left_to_itself_a_cpu_computes_in_float32_or_bfloat16_and_never_in_float16():
    assert choose_dtype(Settings(), "cpu") in {torch.float32, torch.bfloat16}


@pytest.fixture
def old_card(monkeypatch):
    """torch sees a card that has no bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")


def test_a_card_without_bfloat16_is_refused_with_a_sentence_that_says_what_to_do(old_card):
    with pytest.raises(ConfigurationError, match=r"Tesla T4 has no bfloat16 .* Use a newer card, or ZIMG_DEVICE=cpu"):
        choose_dtype(Settings(), "cuda")


def test_a_card_without_bfloat16_is_refused_though_the_model_was_read_meanwhile(old_card, tmp_path):
    tiny.save(tmp_path / "tiny")

    with pytest.raises(ConfigurationError, match="Tesla T4 has no bfloat16"):
        load_model(Settings(model=str(tmp_path / "tiny")))


def test_a_card_without_bfloat16_is_refused_before_a_model_is_looked_for_on_the_hub(old_card):
    with pytest.raises(ConfigurationError, match="Tesla T4 has no bfloat16"):
        load_model(Settings(model="nobody/nothing"))
