"""Which number format a worker computes in."""

import pytest
import torch

from core.settings import Settings
from worker.pipeline import choose_dtype


@pytest.mark.parametrize(("said", "chosen"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_the_setting_decides(said, chosen):
    assert choose_dtype(Settings(cpu_dtype=said), "cpu") is chosen


def test_left_to_itself_a_cpu_computes_in_float32_or_bfloat16_and_never_in_float16():
    assert choose_dtype(Settings(), "cpu") in {torch.float32, torch.bfloat16}
