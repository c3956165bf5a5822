"""A stage's clock, checkpoints and log: what makes a run resume where it was cut off."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_SECONDS = 120.0


@dataclass(slots=True)
class Run:
    """The output folder, the device and the finished stages of one run."""

    folder: Path
    device: torch.device
    started: float = field(default_factory=time.monotonic)
    stop_after: float = float("inf")

    @property
    def dtype(self) -> torch.dtype:
        """The type of number that training computes in."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def catch_up(self) -> None:
        """Wait for the device, so that clocks tell what was done and not what was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def must_stop(self) -> bool:
        """Whether this process worked as many seconds as it may; training saves and the model so far is measured."""
        return time.monotonic() - self.started >= self.stop_after

    def path(self, name: str) -> Path:
        return self.folder / name

    def log(self, stage: str, **figures: Any) -> None:
        """Append a line to log.jsonl and print it."""
        line = json.dumps({"stage": stage, "seconds": round(time.monotonic() - self.started, 1), **figures})
        with self.path("log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint so that a cut never leaves half a file."""
        partial = self.path(f"{name}.partial")
        torch.save(state, partial)
        partial.replace(self.path(name))

    def load(self, name: str) -> dict[str, Any] | None:
        """A checkpoint of this run, if there is one."""
        path = self.path(name)
        return torch.load(path, map_location=self.device, weights_only=True) if path.is_file() else None


@dataclass(slots=True)
class StageClock:
    """Seconds worked in a stage, earlier runs' counted in, against the seconds it may take."""

    budget: float
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started

    @property
    def fraction(self) -> float:
        return min(1.0, self.elapsed / self.budget)

    @property
    def over(self) -> bool:
        return self.elapsed >= self.budget

    def restart(self) -> None:
        """Count from now on: what was prepared since the clock was made was no work."""
        self.started = self.saved = time.monotonic()

    def checkpoint_due(self) -> bool:
        """Whether two minutes passed since the last checkpoint; answers yes once."""
        if time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return False
        self.saved = time.monotonic()
        return True


def learning_rate(peak: float, step: int, fraction: float, warm_up: int, hold: float) -> float:
    """Linear warm-up, a plateau up to `hold` of the stage, then a line down to a fiftieth."""
    fall = 1.0 if fraction < hold else max(0.02, (1 - fraction) / (1 - hold))
    return peak * min(1.0, (step + 1) / warm_up) * fall
