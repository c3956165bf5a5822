"""What tests of a restart share: a card whose allocator has a limit, what a first start finds, and a start upon it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.unit.offload.budget_kit import CARRIED, KIB, Card
from tests.unit.offload.conftest import family_pipeline
from worker.offload import allowance, drop_stores
from worker.offload.apart import Pool
from worker.offload.blocks import Block
from worker.offload.carousel import Options
from worker.offload.engine import Engine
from worker.offload.experience import NAME
from worker.offload.ticket import Order
from worker.offload.weights import Weights

BUDGET = 900 * KIB
MUG = Order(prompt="a mug", height=64, width=64, seed=7, steps=2)
Start = Callable[..., Engine]


#: What the pool of blocks and decode holds on such a card.
POOL = 600 * KIB


class LimitedCard(Card):
    """Notes to what its allocator is held, and what is asked of pools for themselves: each with the limit then."""

    def __init__(self, unplanned: Callable[[], int]) -> None:
        super().__init__(unplanned)
        self.limits: list[int | None] = []
        self.rooms: list[tuple[int, int | None]] = []
        self._is_inside = False

    def new_pool(self) -> Pool:
        @contextlib.contextmanager
        def inside() -> Iterator[None]:
            self._is_inside = True
            try:
                yield
            finally:
                self._is_inside = False

        return inside

    def pool_bytes(self) -> int:
        return POOL

    def empty(self, nbytes: int) -> torch.Tensor:
        if self._is_inside:
            self.rooms.append((nbytes, self.limits[-1] if self.limits else None))
        return super().empty(nbytes)

    def reserved_bytes(self) -> int:
        return self.process_bytes() - self._unplanned()

    def limit_reserved(self, nbytes: int | None) -> None:
        self.limits.append(nbytes)


def options_for(folder: Path) -> Options:
    more = {"compile": "on", "compile_backend": "eager", "warm_up": ((64, 64),), "captions": (64,), "seats": 2}
    return dataclasses.replace(CARRIED, compile_cache=folder, identity="house", **more)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a first start leaves: compiled forms, and what it found out."""
    folder = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allowance, "GROWTH", 0)
        patch.setattr(allowance, "SPARE", KIB)
        patch.setattr(allowance, "LATER_KERNELS", 0)
        engine = Engine(family_pipeline("z-image"), BUDGET, LimitedCard(lambda: 40 * KIB), options_for(folder))
        engine.start()
        engine.stop(60)
    yield folder
    drop_stores()


@pytest.fixture
def start_again(known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(allowance, "GROWTH", 0)
    monkeypatch.setattr(allowance, "SPARE", KIB)
    monkeypatch.setattr(allowance, "LATER_KERNELS", 0)
    opened: list[Engine] = []
    folder = tmp_path / "cache"
    shutil.copytree(known, folder)

    def start(
        unplanned: Callable[[], int] = lambda: 40 * KIB, spoil: Callable[[Path], None] = lambda _: None
    ) -> Engine:
        spoil(folder)
        opened.append(Engine(family_pipeline("z-image"), BUDGET, LimitedCard(unplanned), options_for(folder)))
        opened[-1].start()
        return opened[-1]

    yield start
    for engine in opened:
        engine.stop(60)


def owed(engine: Engine) -> list[Order]:
    assert engine._placement is not None
    return engine._placement.owed


def card_of(engine: Engine) -> LimitedCard:
    assert isinstance(engine._device, LimitedCard)
    return engine._device


def want_memory_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The next block's weights find no room; what is returned is empty afterwards."""
    short, prepare = [True], Weights.prepare

    def fail_once(weights: Weights, block: Block) -> None:
        if short:
            short.clear()
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        prepare(weights, block)

    monkeypatch.setattr(Weights, "prepare", fail_once)
    return short


def is_known(engine: Engine) -> bool:
    """Whether the next start finds what this one found out."""
    return any(Path(engine._options.compile_cache).glob(f"{NAME}*"))


def forms_of(engine: Engine) -> list[str]:
    """What the next start takes for granted."""
    (notes,) = Path(engine._options.compile_cache).glob(f"{NAME}*")
    forms: list[str] = json.loads(notes.read_text())["forms"]
    assert len(forms) > 3
    return forms
