"""A rider: one job's unmodified pipeline as a coroutine that stops before each carried block and before the decode."""

from __future__ import annotations

import contextvars
import copy
import functools
import inspect
import time
from collections.abc import Callable, Hashable
from types import FrameType
from typing import Any

import torch
from greenlet import getcurrent, greenlet

from worker.offload.blocks import Stop
from worker.offload.device import Device
from worker.offload.marks import Mark
from worker.offload.modes import OwnModes, modes_now
from worker.offload.parking import Parked, addresses_of
from worker.offload.text import PromptCache, encode_without_waiting, remember_prompts
from worker.offload.ticket import Order, Ticket


class NotRiding(RuntimeError):
    """Raised when a carried block is called outside a ride."""


class Rider(greenlet):  # type: ignore[misc]
    """The coroutine of one ticket; lives and is switched in the engine's thread only."""

    def __init__(self, ticket: Ticket, passes: int, draw: Callable[[Rider], torch.Tensor], engine: greenlet) -> None:
        super().__init__(parent=engine)
        self.gr_context = contextvars.copy_context()  # torch keeps settings there, the compiler's among them
        self.ticket = ticket
        self.stop: Stop | None = None
        self.lane = ticket.order.lane
        self.waited = 0
        self.passes_left = passes
        self.prompt_key: Hashable | None = None
        self.since = 0  # how often the prompt cache had been emptied when the ride began
        self.fresh = True  # has not boarded the looping stage yet
        self.refined = False  # the parts that depend on the prompt alone are known
        self.memo: dict[Hashable, torch.Tensor] = {}
        self.finite: torch.Tensor | None = None
        self.pixels: torch.Tensor | None = None
        self.decode_mode = "plain"
        self.parked: Parked | None = None  # its state lies in host memory
        self.state: list[torch.UntypedStorage] | None = None  # as it was found at this stop
        self.arriving: Mark | None = None  # its state is on its way back
        self.left = Mark()  # the end of its last ride, its boarding included
        self.given = frozenset(addresses_of(value for _, value in ticket.order.extra))  # the caller's own tensors
        self.rode = 0  # when that was, counted in rides
        self._draw = draw
        self._modes = OwnModes(modes_now())

    def ride(self, error: BaseException | None = None) -> Any:
        """Run to the next stop, or to the end with its picture; `error` is thrown into the pipeline.

        torch's settings are the rider's own meanwhile, and the engine's again afterwards.
        """
        self._modes.enter()
        try:
            return self.switch() if error is None else self.throw(error)
        finally:
            self._modes.leave()

    @property
    def frame(self) -> FrameType | None:
        """The innermost frame of the suspended pipeline."""
        frame: FrameType | None = self.gr_frame
        return frame

    def run(self) -> torch.Tensor:
        return self._draw(self)

    def wait_at(self, stop: Stop) -> None:
        """Called inside the pipeline: let others turn until it is this stop's turn."""
        self.stop, self.state = stop, None
        self.parent.switch()

    def step_done(self) -> None:
        self.passes_left -= 1


def current_rider(where: str) -> Rider:
    """The rider in whose pipeline this runs; raises NotRiding outside of one."""
    rider = getcurrent()
    if not isinstance(rider, Rider):
        raise NotRiding(
            f"{where} is carried by a Carousel: submit a ticket, or close() the carousel to use the pipeline"
        )
    return rider


def own_pipeline(pipe: Any, device: Device, cache: PromptCache, rider: Rider) -> Any:
    """A pipeline object of the rider's own over the shared modules, with its own noise scheduler."""
    mine, rider.since = copy.copy(pipe), cache.forgettings
    kind: Any = type(pipe)
    mine.__class__ = _on_device(kind, device.where)
    mine.__dict__["scheduler"] = copy.deepcopy(pipe.scheduler)
    mine.__dict__["_progress_bar_config"] = {"disable": True}
    if type(pipe).__name__ == "ZImagePipeline":
        encode_without_waiting(mine, device)
        _latents_without_waiting(mine, device)
        _timesteps_without_waiting(mine.scheduler, device)

    def note(key: Hashable) -> None:
        rider.prompt_key = key

    if hasattr(mine, "encode_prompt"):
        remember_prompts(mine, cache, note)
        mine.encode_prompt = _timed(mine.encode_prompt, rider)
    return mine


def take_apart(pipe: Any) -> None:
    """Let a rider's own pipeline and noise scheduler go at once: they and the methods put on them hold each other."""
    scheduler = vars(pipe).get("scheduler")
    vars(pipe).clear()
    if scheduler is not None:
        vars(scheduler).clear()


def _timed(encode: Callable[..., Any], rider: Rider) -> Callable[..., Any]:
    """`encode`, noting in the rider's ticket how long it took."""

    @functools.wraps(encode)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        value = encode(*args, **kwargs)
        rider.ticket.text_seconds += time.perf_counter() - begun
        return value

    return encode_prompt


def call_arguments(pipe: Any, order: Order, on_step_end: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The pipeline's arguments for an order; only those that its __call__ knows."""
    arguments: dict[str, Any] = {
        "prompt": order.prompt,
        "height": order.height,
        "width": order.width,
        "num_inference_steps": order.steps,
        "guidance_scale": order.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(order.seed),
        "output_type": "pt",
        "callback_on_step_end": on_step_end,
        **dict(order.extra),
    }
    known = inspect.signature(type(pipe).__call__).parameters
    return {name: value for name, value in arguments.items() if name in known}


def draw_picture(
    rider: Rider, pipe: Any, device: Device, cache: PromptCache, tell: Callable[[Ticket, str, int, int], None]
) -> torch.Tensor:
    """A rider's whole life: its pipeline, and its pixels on the device (see `to_pixels`); `tell` of each step."""
    order, ticket = rider.ticket.order, rider.ticket
    mine = own_pipeline(pipe, device, cache, rider)

    def on_step_end(_pipe: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        rider.passes_left = order.steps - step - 1
        tell(ticket, "denoise", step + 1, order.steps)
        return kwargs

    tell(ticket, "encode", 0, order.steps)
    target = torch.empty(order.height * order.width * 3 + 1, dtype=torch.uint8, device=device.where)
    try:
        images = mine(**call_arguments(mine, order, on_step_end)).images
    finally:
        take_apart(mine)  # device memory does not wait until Python looks for garbage
    tell(ticket, "decode", order.steps, order.steps)
    assert rider.finite is not None
    return to_pixels(images[0], rider.finite, target)


def to_pixels(image: torch.Tensor, finite: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Round a (3, H, W) picture in 0..1 as diffusers does, into `target`: H x W x 3 bytes and the finite flag."""
    values = image.permute(1, 2, 0).float()
    target[:-1].copy_((values * 255).round().to(torch.uint8).flatten())
    target[-1:].copy_((finite & torch.isfinite(values).all()).to(torch.uint8).reshape(1))
    return target


@functools.cache
def _on_device(kind: Any, where: torch.device) -> type:
    """The pipeline's class, sure of its device wherever its weights are."""
    return type(
        kind.__name__, (kind,), {"_execution_device": property(lambda self: where), "__module__": kind.__module__}
    )


def _latents_without_waiting(pipe: Any, device: Device) -> None:
    """First noise drawn on the host and sent through pinned memory: the same values, no wait."""
    original = pipe.prepare_latents

    def prepare_latents(*args: Any, **kwargs: Any) -> torch.Tensor:
        bound = inspect.signature(original).bind(*args, **kwargs)
        bound.arguments["device"] = torch.device("cpu")
        return device.upload(original(*bound.args, **bound.kwargs))

    pipe.prepare_latents = prepare_latents


def _timesteps_without_waiting(scheduler: Any, device: Device) -> None:
    """Timesteps made on the host and sent through pinned memory."""
    original = scheduler.set_timesteps

    @functools.wraps(original)
    def set_timesteps(num_inference_steps: int | None = None, device: Any = None, **kwargs: Any) -> None:
        original(num_inference_steps, device=torch.device("cpu"), **kwargs)
        scheduler.timesteps, scheduler.sigmas = upload(scheduler.timesteps), upload(scheduler.sigmas)

    upload = device.upload
    scheduler.set_timesteps = set_timesteps
