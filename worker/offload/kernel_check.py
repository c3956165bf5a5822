"""Before packed weights are used: does this device's way of unpacking give every bit back?

A kernel that is wrong on one kind of card would draw wrong pictures and say nothing. So each start packs a few samples,
unpacks them with the very code that will unpack the weights, and compares all bits: some milliseconds. All but that
code runs on the host, since a card's driver loads each kernel that a process uses for the first time. Where bits
differ, or the code can not be compiled or run, weights travel as they are: the same pictures, more bytes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from worker.offload import packing
from worker.offload.device import Device
from worker.offload.packing_gain import is_smaller, measure_rates

logger = logging.getLogger(__name__)

PATTERNS = 1 << 16
#: Values of the sample that keeps all of a card busy at once; the CPU flavour computes as torch does and needs none.
MANY = 1 << 20
#: A target is longer than its sample by so many values, which must stay as they were.
BEYOND = packing.GROUP
UNTOUCHED = 0x5A5A
#: Blocks' last groups that are tried: models have a handful of kinds of block.
TAILS = 16
#: Numbers of escapes for which Triton compiles forms of their own: one, a multiple of sixteen, others.
FEW_ESCAPES = (1, 16, 17)
NAME = "zimg-unpacking-"
#: An error's text may be long; so much of it is told.
ERROR_LETTERS = 200
FAILED = (
    "packing: off, since unpacking weights failed its check on this device (%s). Pictures stay the same, bit for bit; "
    "weights travel and wait as plain bf16, so each picture takes longer and host memory holds half as much again. "
    "To do: update the driver, torch and Triton together, or go back to those that worked before, and start the worker "
    "again; where this line comes again, report it"
)


class DeviceLost(RuntimeError):
    """Raised when the check left the device unusable: only a new process can go on, and it will not pack."""


@dataclass(frozen=True, slots=True)
class Sample:
    """bf16 values in host memory, seen as int16."""

    name: str
    values: torch.Tensor


class PackingChoice:
    """Whether weights are packed: as wished (None: on a card), if the device's unpacking stands its check."""

    def __init__(self, wish: bool | None, device: Device, folder: Path) -> None:
        self.is_on = device.is_cuda if wish is None else wish
        self.fault = ""  # why packing is off though it was wished
        self._device, self._measures = device, device.is_cuda and wish is None
        self._check: KernelCheck | None = KernelCheck(device, folder)

    def settle(self, counts: Iterable[int]) -> None:
        """Check once, before the first weights of so many values a block are packed or found packed."""
        if not self.is_on or self._check is None:
            return
        self.fault, self._check = self._check.fault(counts), None
        if self.fault:
            self.is_on = False
            logger.error(FAILED, self.fault)

    def pays(self) -> Callable[[packing.Packed, int], bool]:
        """What decides for each block whether it is packed: what is measured now; where packing is wished, its size."""
        return measure_rates(self._device).pays if self._measures else is_smaller


class KernelCheck:
    """The check of one device, and what it found; a fault that ends the process is noted in `folder` for the next."""

    def __init__(self, device: Device, folder: Path) -> None:
        self._device = device
        self._note = folder / f"{NAME}{_circumstances(device)}.txt"

    def fault(self, counts: Iterable[int]) -> str:
        """What is wrong with unpacking blocks of so many values, in a few words; "" if nothing is.

        Raises DeviceLost when the device does not answer afterwards.
        """
        noted = self._noted()
        if noted:
            return noted
        try:
            fault = next(self._faults(counts), "")
            self._device.synchronize()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            fault = f"{type(error).__name__}: {str(error).strip()[:ERROR_LETTERS]}"
            if not self._device.answers():
                self._keep(fault)
                raise DeviceLost(self._told(f"unpacking weights stopped the device ({fault})")) from error
        return fault

    def _faults(self, counts: Iterable[int]) -> Iterator[str]:
        for sample in samples(counts, self._device.where):
            wrong = self._wrong(sample)
            if wrong:
                yield f"{sample.name}: {wrong}"

    def _wrong(self, sample: Sample) -> str:
        """How the sample comes back otherwise, once packed and unpacked."""
        values, where = sample.values, self._device.where
        packed, data = packing.encode(values)
        target = torch.full((len(values) + BEYOND,), UNTOUCHED, dtype=torch.int16).to(where)
        self._device.unpack(data.to(where), packed, target)
        back = target.cpu()
        if int((back[len(values) :] != UNTOUCHED).sum()):
            return "something was written beyond the end"
        differ = (back[: len(values)] != values).nonzero().flatten()
        return f"{len(differ)} of {len(values)} values differ, the first at {int(differ[0])}" if len(differ) else ""

    def _told(self, what: str) -> str:
        return f"{what}; the next start does not pack, as long as {self._note} is there"

    def _noted(self) -> str:
        try:
            return f"{self._note.read_text()}; delete {self._note} to try again"
        except OSError:
            return ""

    def _keep(self, fault: str) -> None:
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(f"an earlier start ended with {fault}")
        except OSError as error:
            logger.warning("the failed check can not be noted (%s): the next start repeats it", error)


def samples(counts: Iterable[int], where: torch.device) -> Iterator[Sample]:
    """Every bit pattern, the last groups of blocks of `counts` values, few and no escapes, and many groups at once."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.arange(-(PATTERNS // 2), PATTERNS // 2, dtype=torch.int32).to(torch.int16)
    yield Sample("every bit pattern", patterns[torch.randperm(PATTERNS, generator=generator)])
    tails = sorted({count % packing.GROUP for count in counts} | {packing.GROUP - 256, 256})[: TAILS + 2]
    for tail in tails:
        values = _tame(packing.GROUP + tail, generator)
        values[::97] = patterns[: len(values[::97])]
        yield Sample(f"a last group of {tail or packing.GROUP} values", values)
    alike = _tame(2, generator)[:1].repeat(256)
    yield Sample("values alike", alike)
    for escapes in FEW_ESCAPES:
        values = alike.clone()
        values[3 : 3 + 5 * escapes : 5] = 0x7FC1
        yield Sample(f"{escapes} escapes", values)
    if where.type == "cpu":
        return
    many = _tame(MANY // 64, generator).repeat(64)
    many[::1021] = patterns[: len(many[::1021])]
    yield Sample("many groups", many)


def _tame(count: int, generator: torch.Generator) -> torch.Tensor:
    """Values as weights have them."""
    return (torch.randn(count, generator=generator) * 0.02).to(torch.bfloat16).view(torch.int16)


def _circumstances(device: Device) -> str:
    """A name for all on which the check's outcome depends: a new driver, torch or kernel is tried again."""
    kernels = Path(__file__).with_name("kernels.py").read_bytes()
    facts = [device.description, torch.__version__, hashlib.sha256(kernels).hexdigest()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
