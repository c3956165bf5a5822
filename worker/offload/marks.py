"""Points in a device's work that others wait for."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import torch

#: Rides of blocks that the host may be ahead of the device: enough to hide launches, little enough to stay nimble.
LEAD = 8


class Mark:
    """A point in a stream's work; the CPU's marks are always passed."""

    def __init__(self, event: Any = None) -> None:
        self.event = event

    def passed(self) -> bool:
        return self.event is None or bool(self.event.query())

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()


class Lead:
    """Keeps the host at most LEAD rides ahead of the device."""

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque()

    def follow(self, mark: Mark) -> None:
        """A ride is in the compute stream up to `mark`; waits for an earlier one where the host is too far ahead."""
        self._marks.append(mark)
        if len(self._marks) > LEAD:
            self._marks.popleft().wait()


class Landing:
    """A tensor on its way to host memory; any thread may wait for it."""

    def __init__(self, host: torch.Tensor, mark: Mark, source: torch.Tensor | None) -> None:
        self._host, self._mark, self._source = host, mark, source

    def let_go(self) -> bool:
        """Free what was copied from, once it is copied; whether that is so. Nobody may have asked for the picture."""
        if self._source is None or self._mark.passed():
            self._source = None
            return True
        return False

    def wait(self, timeout: float | None) -> torch.Tensor:
        """The host tensor, once complete; raises TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._mark.passed():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("the picture did not arrive from the GPU in time")
            time.sleep(0.001)
        self._source = None
        return self._host
