"""Packing is lossless for every bf16 bit pattern."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.offload import packing


def roundtrip(values: torch.Tensor) -> tuple[packing.Packed, torch.Tensor]:
    packed, data = packing.encode(values)
    assert data.numel() == packed.nbytes
    target = torch.full_like(values, 0x5A5A)
    packing.decode(data, packed, target)
    return packed, target


def all_patterns() -> torch.Tensor:
    return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)


def test_every_bf16_bit_pattern_survives() -> None:
    patterns = all_patterns()
    packed, back = roundtrip(patterns)
    assert torch.equal(back, patterns)
    assert packed.further >= 65_536 - 3 * 256 * 16, "three exponents of a group have a short code"
    assert packed.escapes >= 65_536 - 18 * 256 * 16, "fifteen more have a further one, everything else escapes"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.0, 1.0))
def test_any_mix_of_patterns_survives_in_any_order(seed: int, blocks: int, wild: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    tame = torch.randn(blocks * 256, generator=generator).to(torch.bfloat16).view(torch.int16)
    anything = torch.randint(-(1 << 15), 1 << 15, (blocks * 256,), generator=generator).to(torch.int16)
    values = torch.where(torch.rand(blocks * 256, generator=generator) < wild, anything, tame)
    assert torch.equal(roundtrip(values)[1], values)


def test_special_values_keep_their_bits() -> None:
    special = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, -1e-40, 3.38e38]
    values = torch.tensor(special * 32, dtype=torch.float32).to(torch.bfloat16).view(torch.int16)
    assert torch.equal(roundtrip(values)[1], values)


@pytest.mark.parametrize("spread", [0.002, 0.02, 1.0])
def test_trained_like_weights_need_about_eleven_bits_of_sixteen(spread: float) -> None:
    values = (torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * spread).to(torch.bfloat16)
    packed, _ = roundtrip(values.view(torch.int16))
    assert packed.nbytes * 8 / values.numel() < 11.2


def test_parts_of_a_block_with_unlike_spreads_are_packed_as_tightly() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1 << 18, generator=generator) * spread for spread in (0.001, 0.03, 1.0, 0.0002)]
    packed, _ = roundtrip(torch.cat(parts).to(torch.bfloat16).view(torch.int16))
    assert packed.nbytes * 8 / (1 << 20) < 11.2


def test_blocks_longer_than_a_chunk_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "CHUNK", 2 * packing.GROUP)
    values = all_patterns()[torch.randperm(65_536, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(roundtrip(values)[1], values)


def test_a_view_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="int16"):
        packing.encode(torch.zeros(256))
    with pytest.raises(ValueError, match="multiple of 256"):
        packing.encode(torch.zeros(100, dtype=torch.int16))
