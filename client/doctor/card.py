"""The NVIDIA card: driver, memory against the budget, bfloat16. Asks NVML, else `nvidia-smi`; needs no torch."""

from __future__ import annotations

import csv
import importlib
import io
import shutil
import subprocess
from dataclasses import dataclass

from .findings import Finding, Surroundings, failed, gib, ok, skipped, warning

#: CUDA 12's first driver branch; older ones can not run the CUDA builds of torch 2.
OLDEST_DRIVER = 525
#: Ampere: the first with bfloat16 in its arithmetic units. fp16 is no way out: it overflows in this model.
BF16_CAPABILITY = (8, 0)
ASK_SECONDS = 20
_QUERY = "name,driver_version,memory.total,memory.free,compute_cap"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Card:
    """A card as its driver describes it; bytes."""

    name: str
    driver: str
    total: int
    free: int
    capability: tuple[int, int]


def check_cards(around: Surroundings) -> list[Finding]:
    """Findings about driver and cards."""
    if around.wants_cpu:
        return [skipped("card", "ZIMG_DEVICE=cpu: no card is wanted")]
    cards = list_cards()
    if not cards:
        return [_no_card(around)]
    found = [_driver(cards[0])]
    for number, card in enumerate(cards):
        found += [_memory(number, card, around.budget_bytes), _bf16(number, card)]
    return found


def list_cards() -> list[Card]:
    """The cards that this process may see; none where there is no driver."""
    return _by_nvml() or _by_command()


def _no_card(around: Surroundings) -> Finding:
    fix = (
        "Install the NVIDIA driver (`nvidia-smi` must list the card). Start a container with `--gpus all` and "
        "NVIDIA's container toolkit; in Kubernetes ask for nvidia.com/gpu."
    )
    if around.wants_cuda:
        return failed("driver", "ZIMG_DEVICE asks for a card, and no NVIDIA driver answers", fix)
    return warning("driver", "no NVIDIA card: pictures are drawn on the CPU, fit for the tiny and starter model", fix)


def _driver(card: Card) -> Finding:
    major = card.driver.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_DRIVER:
        fix = f"Install driver {OLDEST_DRIVER} or newer."
        return failed("driver", f"driver {card.driver} is too old for torch's CUDA builds", fix)
    return ok("driver", f"driver {card.driver}")


def _memory(number: int, card: Card, budget: int) -> Finding:
    name, what = f"card {number} memory", f"{card.name}: {gib(card.free)} of {gib(card.total)} free"
    if card.total < budget:
        fix = f"Set ZIMG_VRAM_BUDGET_GIB below {card.total / 2**30:.1f}; the worker's log names the least that works."
        return failed(name, f"{what}, less than the budget of {gib(budget)}", fix)
    if card.free < budget:
        fix = "End what else uses the card (see `nvidia-smi`; zimg's own worker counts), or lower ZIMG_VRAM_BUDGET_GIB."
        return warning(name, f"{what}, a worker may use {gib(budget)}", fix)
    return ok(name, f"{what}; a worker uses at most {gib(budget)}")


def _bf16(number: int, card: Card) -> Finding:
    name, version = f"card {number} bfloat16", ".".join(map(str, card.capability))
    if card.capability < BF16_CAPABILITY:
        fix = "Use a card of the RTX 30 series or newer; float16 draws black pictures with this model and is refused."
        return failed(name, f"{card.name} (compute capability {version}) has no bfloat16", fix)
    return ok(name, f"compute capability {version}")


def _by_nvml() -> list[Card]:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, or no driver: the command may know more
        return []
    try:
        driver = nvml.nvmlSystemGetDriverVersion()
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        cards = []
        for handle in handles:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            capability = nvml.nvmlDeviceGetCudaComputeCapability(handle)
            name = nvml.nvmlDeviceGetName(handle)
            cards.append(Card(name, driver, int(memory.total), int(memory.free), (capability[0], capability[1])))
        return cards
    except Exception:  # a driver that half answers: the command says more
        return []


def _by_command() -> list[Card]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        asked = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=ASK_SECONDS, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_cards(asked.stdout)


def parse_cards(text: str) -> list[Card]:
    """Cards from what nvidia-smi prints; lines that can't be read are left out."""
    cards = []
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        try:
            name, driver, total, free, capability = row[:5]
            major, _, minor = capability.partition(".")
            cards.append(Card(name, driver, int(total) * MIB, int(free) * MIB, (int(major), int(minor))))
        except ValueError:
            continue
    return cards
