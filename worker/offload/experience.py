"""What a start found out, kept on disk beside the packed weights: a restart then need not measure and correct again.

It saves time and decides nothing alone: a plan made from it is ridden and compared with the budget like any other, and
where it does not keep its word everything is measured anew. Where compiled forms are found too, tickets need not wait
for that: what the process holds beside the allocator is known, so the budget is kept meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.offload.plan import Facts

if TYPE_CHECKING:
    from worker.offload.carousel import Options

logger = logging.getLogger(__name__)

#: Counted up when what is measured comes to mean something else.
FORMAT = 5
#: Each start writes one small file for each budget, model and card; so many of the latest are kept.
KEPT = 32
NAME = "zimg-plan-"
#: Options on which what was measured depends.
CIRCUMSTANCES = (
    "packing", "ring_slots", "residents", "compile", "compile_backend", "guided", "seats", "places", "decode",
    "strategy", "identity", "warm_up", "captions", "steps",
)  # fmt: skip


#: Shape and stride of each tensor of a call.
Layout = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Experience:
    """What was measured and what corrections came to."""

    facts: Facts
    missed: int  # bytes that plans turned out to lack
    decode: str  # plain, strips, auto
    seats: int
    layouts: tuple[Layout, ...] = ()  # for which forms of their own were compiled
    outside_bytes: int = 0  # held beside the allocator when everything had been ridden
    pool_bytes: int = 0  # held then by the pool of blocks and decode
    forms: tuple[str, ...] = ()  # what was called, and for which versions and settings; none: not all of it is kept


def _as_layout(listed: list[list[list[int]]]) -> Layout:
    """As it was before it was written."""
    return tuple((tuple(shape), tuple(stride)) for shape, stride in listed)


def choices_of(options: Options) -> list[Any]:
    """What the caller chose of all that measurements depend on."""
    return [getattr(options, name) for name in CIRCUMSTANCES]


class Notebook:
    """One experience in `folder` ("": none is kept), by everything on which it depends."""

    def __init__(self, folder: str | Path, *circumstances: Any) -> None:
        key = hashlib.sha256(repr((FORMAT, *circumstances)).encode()).hexdigest()[:24]
        self._file = Path(folder) / f"{NAME}{key}.json" if folder else None

    def read(self) -> Experience | None:
        """What an earlier start in the same circumstances wrote, or None."""
        if self._file is None:
            return None
        try:
            found = json.loads(self._file.read_text())
            facts = Facts(**{**found["facts"], "block_seconds": tuple(found["facts"]["block_seconds"])})
            layouts = tuple(_as_layout(listed) for listed in found["layouts"])
            missed, seats, outside, pool = (
                int(found[name]) for name in ("missed", "seats", "outside_bytes", "pool_bytes")
            )
            forms = tuple(map(str, found["forms"]))
            return Experience(facts, missed, str(found["decode"]), seats, layouts, outside, pool, forms)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, experience: Experience) -> None:
        """Keep it for the next start; a disk that refuses costs that start some seconds."""
        if self._file is None:
            return
        draft = self._file.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(experience)))
            draft.rename(self._file)
            self._forget_oldest(self._file.parent)
        except OSError as error:
            logger.warning("what was measured can not be kept (%s): the next start measures again", error)

    def forget(self) -> None:
        """It did not hold; a disk that refuses leaves it, and the next start tries it again."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    @staticmethod
    def _forget_oldest(folder: Path) -> None:
        files = sorted(folder.glob(f"{NAME}*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[KEPT:]:
            file.unlink(missing_ok=True)
