"""Points in a device's work that others wait for."""

from __future__ import annotations

import time
from typing import Any

import torch


class Mark:
    """A point in a stream's work; the CPU's marks are always passed."""

    def __init__(self, event: Any = None) -> None:
        self.event = event

    def passed(self) -> bool:
        return self.event is None or bool(self.event.query())

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()


class Landing:
    """A tensor on its way to host memory; any thread may wait for it."""

    def __init__(self, host: torch.Tensor, mark: Mark, source: torch.Tensor | None) -> None:
        self._host, self._mark, self._source = host, mark, source

    def wait(self, timeout: float | None) -> torch.Tensor:
        """The host tensor, once complete; raises TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._mark.passed():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("the picture did not arrive from the GPU in time")
            time.sleep(0.001)
        self._source = None
        return self._host
