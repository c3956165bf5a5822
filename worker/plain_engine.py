"""The plain pipeline behind the engine's interface: no offloading, jobs take turns step by step.

Each job has a pipeline object of its own over shared modules, with its own noise scheduler. One job computes at a time,
with all of the machine's cores; after each step the next job in line goes on, so none waits for another to finish and
the pixels of a job do not depend on its company.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image

from worker.offload import TicketCanceled

OnStep = Callable[[str, int, int], None]


class PlainTicket:
    """Handle of one picture; every method may be called from any thread."""

    def __init__(self, order: dict[str, Any], alone: bool, on_step: OnStep | None) -> None:
        self.order, self.alone, self.on_step = order, alone, on_step
        self.canceled = False
        self.finite = True  # known after result()
        self._wake: Callable[[], None] = lambda: None
        self._done = threading.Event()
        self._image: Image.Image | None = None
        self._error: BaseException | None = None

    def result(self, timeout: float | None = None) -> Image.Image:
        """The picture; raises TimeoutError, TicketCanceled, or what the pipeline raised."""
        if not self._done.wait(timeout):
            raise TimeoutError(f"no picture after {timeout} s")
        if self._error is not None:
            raise self._error
        assert self._image is not None
        return self._image

    def cancel(self) -> None:
        """Ask the run to end at its next step; a finished ticket stays as it is."""
        self.canceled = True
        self._wake()

    def finish(self, image: Image.Image | None, error: BaseException | None) -> None:
        """The engine: it is over."""
        self._image, self._error = image, error
        self._done.set()

    def when_canceled(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def tell(self, stage: str, step: int) -> None:
        if self.on_step is not None:
            self.on_step(stage, step, self.order["steps"])


class Turns:
    """A lock that is handed on in the order of asking."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._line: deque[object] = deque()

    @contextmanager
    def mine(self) -> Iterator[Callable[[], None]]:
        """Hold the turn; the function yielded lets everybody in line go first."""
        self._take()
        try:
            yield self._next
        finally:
            self._give()

    def _next(self) -> None:
        self._give()
        self._take()

    def _take(self) -> None:
        me = object()
        with self._condition:
            self._line.append(me)
            self._condition.wait_for(lambda: self._line[0] is me)

    def _give(self) -> None:
        with self._condition:
            self._line.popleft()
            self._condition.notify_all()


class PlainEngine:
    """Runs up to `seats` jobs at the same time; further tickets wait in line. Use it from any thread."""

    def __init__(self, pipe: Any, *, device: str = "cpu", seats: int = 4) -> None:
        self._pipe = pipe.to(device)
        self._pipe.set_progress_bar_config(disable=True)
        self._seats, self._turns = seats, Turns()
        self._condition = threading.Condition()
        self._line: deque[PlainTicket] = deque()
        self._running: list[PlainTicket] = []
        self._closed = False
        self.progress_stamp = time.monotonic()
        self.has_drawn = self.has_ended = False
        self._threads = [threading.Thread(target=self._serve, name=f"seat-{n}", daemon=True) for n in range(seats)]
        for thread in self._threads:
            thread.start()

    @property
    def in_flight(self) -> int:
        """Tickets that wait in line or run."""
        return len(self._line) + len(self._running)

    def submit(
        self,
        *,
        prompt: str,
        height: int,
        width: int,
        seed: int,
        steps: int = 4,
        guidance_scale: float = 0.0,
        lane: str = "interactive",
        alone: bool = False,
        on_step: OnStep | None = None,
    ) -> PlainTicket:
        """Ask for a picture; returns at once. An `alone` ticket shares the engine with none. Raises TicketCanceled."""
        order = {
            "prompt": prompt, "height": height, "width": width, "seed": seed, "steps": steps,
            "guidance_scale": guidance_scale, "lane": lane,
        }  # fmt: skip
        ticket = PlainTicket(order, alone, on_step)
        ticket.when_canceled(self._notify)
        with self._condition:
            if self._closed:
                raise TicketCanceled("the engine is closed")
            if self.in_flight == 0:
                self.progress_stamp = time.monotonic()
            self._line.append(ticket)
            self._condition.notify_all()
        return ticket

    def close(self, timeout: float = 60.0) -> None:
        """Cancel what runs or waits, and stop."""
        with self._condition:
            self._closed = True
            for ticket in [*self._line, *self._running]:
                ticket.canceled = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(timeout)

    def _notify(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _serve(self) -> None:
        while (ticket := self._next_ticket()) is not None:
            image, error = None, None
            try:
                with self._turns.mine() as let_others:
                    image = self._draw(ticket, let_others)
            except BaseException as raised:
                error = raised
            with self._condition:
                self._running.remove(ticket)
                self._condition.notify_all()
            self.has_drawn = self.has_drawn or image is not None
            ticket.finish(image, error)

    def _next_ticket(self) -> PlainTicket | None:
        """The next ticket that may start, moved among the running; None when closed and nothing waits."""
        with self._condition:
            self._condition.wait_for(lambda: self._choose() is not None or (self._closed and not self._line))
            ticket = self._choose()
            if ticket is not None:
                self._line.remove(ticket)
                self._running.append(ticket)
            return ticket

    def _choose(self) -> PlainTicket | None:
        """A canceled ticket at once; interactive before batch; an alone one when nobody runs, and then nobody else."""
        canceled = next((one for one in self._line if one.canceled), None)
        if canceled is not None or not self._line:
            return canceled
        if any(one.alone for one in self._running):
            return None
        first = next((one for one in self._line if one.order["lane"] == "interactive"), self._line[0])
        oldest = self._line[0]
        if oldest.alone or first.alone:
            return (oldest if oldest.alone else first) if not self._running else None
        return first

    def _draw(self, ticket: PlainTicket, let_others: Callable[[], None]) -> Image.Image:
        order, steps = ticket.order, ticket.order["steps"]

        def check() -> None:
            self.progress_stamp = time.monotonic()
            if ticket.canceled:
                raise TicketCanceled("the ticket was canceled")

        def on_step_end(_pipe: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            check()
            ticket.tell("denoise", step + 1)
            if step + 1 == steps:
                ticket.finite = bool(torch.isfinite(kwargs["latents"]).all())
                ticket.tell("decode", steps)
            let_others()
            check()
            return kwargs

        check()
        ticket.tell("encode", 0)
        pixels = _own_pipeline(self._pipe)(
            prompt=order["prompt"],
            height=order["height"],
            width=order["width"],
            num_inference_steps=steps,
            guidance_scale=order["guidance_scale"],
            generator=torch.Generator("cpu").manual_seed(order["seed"]),
            output_type="pt",
            callback_on_step_end=on_step_end,
        ).images[0].float()  # fmt: skip
        self.progress_stamp = time.monotonic()
        ticket.finite &= bool(torch.isfinite(pixels).all())
        values = (pixels.nan_to_num().permute(1, 2, 0) * 255).round().to(torch.uint8)
        return Image.fromarray(values.cpu().numpy())


def _own_pipeline(pipe: Any) -> Any:
    """A pipeline object over the same modules with a noise scheduler of its own."""
    mine = copy.copy(pipe)
    mine.__dict__["scheduler"] = copy.deepcopy(pipe.scheduler)
    return mine
