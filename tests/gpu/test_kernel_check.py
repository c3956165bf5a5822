"""The guard before packed weights, on a card: what really unpacks passes, and what is broken never draws a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from tests.gpu.test_engine import plain, ride
from tests.unit.offload.tiny import FAMILIES
from worker.offload import Carousel, packing
from worker.offload.device import open_device
from worker.offload.kernel_check import KernelCheck, PackingChoice

ROOT = Path(__file__).parents[2]
COUNTS = (90_000_128, 12_288, 12_288 + 512)
CARRIED: dict[str, Any] = {"device": "cuda", "compile": "off", "warm_up": ((128, 128),), "residents": 2}


def test_the_kernel_stands_its_check(tmp_path: Path) -> None:
    assert KernelCheck(open_device("cuda"), tmp_path).fault(COUNTS) == ""


def one_bit_wrong(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    from worker.offload import kernels

    kernels.unpack(source, packed, target)
    target[packed.count - 1] ^= 1


def test_a_kernel_that_is_wrong_on_this_card_draws_the_plain_pictures_without_packing() -> None:
    pipe = FAMILIES["z-image"]().to("cuda")
    pictures = [plain(pipe, seed) for seed in range(2)]
    with Carousel(pipe, 20.0, unpack=one_bit_wrong, **CARRIED) as carousel:
        assert not carousel.plan.packing
        assert "packing: off (kernel check failed: " in str(carousel.plan)
        assert ride(carousel, [0, 1]) == pictures
    with Carousel(pipe, 20.0, **CARRIED) as carousel:
        assert carousel.plan.packing
        assert ride(carousel, [0, 1]) == pictures


def reads_beyond(source: torch.Tensor, packed: packing.Packed, target: torch.Tensor) -> None:
    """Ends the process's CUDA context, as a kernel that reads memory which is not there."""
    target[:1] = target[torch.full((1,), 1 << 40, device=target.device)]


def start(folder: Path, unpack: Any) -> dict[str, Any]:
    """In a process of its own: the outcome of the check, as a start would have it."""
    code = (
        f"from tests.gpu.test_kernel_check import *; check_once({str(folder)!r}, {unpack.__name__ if unpack else None})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_once(folder: str, unpack: Any) -> None:
    choice = PackingChoice(None, open_device("cuda", unpack), Path(folder))
    try:
        choice.settle(COUNTS)
        lost = ""
    except RuntimeError as error:
        lost = type(error).__name__
    print(json.dumps({"lost": lost, "packs": choice.is_on}), flush=True)
    os._exit(0)  # a lost context may stop the interpreter's own way out


def test_a_kernel_that_takes_the_card_along_costs_one_start_and_the_next_does_not_pack(tmp_path: Path) -> None:
    assert start(tmp_path, reads_beyond)["lost"] == "DeviceLost"
    assert start(tmp_path, one_bit_wrong) == {"lost": "", "packs": False}
    next(tmp_path.iterdir()).unlink()
    assert start(tmp_path, None) == {"lost": "", "packs": True}, "without the note it is tried again"
