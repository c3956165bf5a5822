"""Training steps recorded as CUDA graphs: one launch in place of the thousands that bind small networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from models.recipe.progress import Run

Step = Callable[[], None]
WARM_UP, TIMED = 3, 5


class Recorder:
    """Turns steps that read and write static tensors only into replays of a CUDA graph; all share one memory pool.

    A step is run three times before it is recorded (kernels are compiled and searched for meanwhile), so whoever
    records sets the learning rate to zero first. Where recording fails or is off, the plain step comes back.
    """

    def __init__(self, run: Run, enabled: bool) -> None:
        self._run = run
        self.enabled = enabled and run.device.type == "cuda"
        self._stream: Any = torch.cuda.Stream() if self.enabled else None
        self._pool: Any = torch.cuda.graph_pool_handle() if self.enabled else None

    def record(self, name: str, step: Step) -> Step:
        """The step to call from now on; logs what one takes in milliseconds."""
        started = time.monotonic()
        recorded = self._try_recording(step) if self.enabled else None
        if recorded is None and self._run.device.type == "cuda":
            for _ in range(WARM_UP):
                step()
        ready = recorded or step
        prepared = round(time.monotonic() - started, 1)
        self._run.log("step", name=name, recorded=recorded is not None, prepared=prepared, ms=self._time(ready))
        return ready

    def _try_recording(self, step: Step) -> Step | None:
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        untouched = generator.clone_state()
        try:
            with torch.cuda.stream(self._stream):
                self._stream.wait_stream(torch.cuda.default_stream())
                for _ in range(WARM_UP):
                    step()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                step()
        except RuntimeError as error:
            self._run.log("step", trouble=str(error)[:300])
            self.enabled = False
            generator.graphsafe_set_state(untouched)  # a recording that broke off leaves it waiting for a replay
            return None
        replay: Step = graph.replay
        return replay

    def _time(self, step: Step) -> float | None:
        if self._run.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        started = time.monotonic()
        for _ in range(TIMED):
            step()
        torch.cuda.synchronize()
        return round(1000 * (time.monotonic() - started) / TIMED, 2)
