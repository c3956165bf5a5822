"""Second and third stage: flow matching from pictures, then a little more of it towards what guidance would draw."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.recipe.batches import CaptionTable, LatentPool, SizePlan
from models.recipe.model import (
    BatchedDenoiser,
    TextEncoder,
    cast_parameters,
    encode_text,
    inference_sigmas,
    trained_parameters,
)
from models.recipe.progress import Run, StageClock, learning_rate
from models.recipe.replay import Recorder, Step
from models.recipe.weights import Weights

FLOW_CHECKPOINT, GUIDED_CHECKPOINT = "flow.pt", "guided.pt"
DROP_CAPTION = 0.05
FORWARDS = 4
#: Share of samples trained exactly at the sigmas of the preset, and the shares of the four among them.
ANCHOR_SHARE, ANCHOR_SHARES = 0.6, (0.3, 0.25, 0.25, 0.2)
SYNC_STEPS, LOG_STEPS = 20, 200


@dataclass(frozen=True, slots=True)
class Learners:
    """The two networks that learn together, and the transformer's batched pass."""

    encoder: TextEncoder
    denoiser: BatchedDenoiser

    def parameters(self) -> list[nn.Parameter]:
        return trained_parameters(self.encoder, self.denoiser)

    def portrait(self) -> list[Tensor]:
        """A copy of the weights as they are, for `resemble`."""
        return [p.detach().clone() for p in self.parameters()]

    def resemble(self, portrait: list[Tensor]) -> None:
        """Take back the weights of a portrait."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), portrait, strict=True):
                parameter.copy_(value)


@dataclass(frozen=True, slots=True)
class Data:
    """Caption tables by padded length and latent pools by size."""

    captions: dict[int, CaptionTable]
    pools: list[tuple[SizePlan, LatentPool]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stage learns: seconds, peak of the learning rate, the share of it that is held, memory of the average."""

    seconds: float
    rate: float
    warm_up: int
    hold: float
    forget: float


class SigmaSource:
    """Noise levels: uniform under the shift of the noise scheduler, a share of them at the preset's own."""

    def __init__(self, device: torch.device) -> None:
        self._anchors = torch.tensor(inference_sigmas(FORWARDS)[:-1], device=device)
        self._ends = torch.tensor(ANCHOR_SHARES, device=device).cumsum(0)[:-1]

    def sample(self, count: int) -> Tensor:
        """Noise levels [count]."""
        u, choice, anchored = torch.rand(3, count, device=self._anchors.device)
        anchors = self._anchors[(choice[:, None] > self._ends).sum(1)]
        return torch.where(anchored < ANCHOR_SHARE, anchors, 3 * u / (1 + 2 * u))


@dataclass(frozen=True, slots=True)
class Guide:
    """A finished model and how much of its guidance the learner takes over."""

    teacher: BatchedDenoiser
    guidance: float

    def push(self, noised: Tensor, sigma: Tensor, features: tuple[Tensor, Tensor], lengths: Tensor) -> Tensor:
        """What guidance adds to a velocity: the step from the empty caption's answer to the asked one's, scaled."""
        asked, unasked = self.teacher(
            torch.cat([noised, noised]), torch.cat([sigma, sigma]), torch.cat(features), lengths
        ).chunk(2)
        push: Tensor = self.guidance * (asked - unasked)
        return push


class FlowStep:
    """The gradients of one flow-matching step on static data; `loss` holds the last one's.

    With a guide the text encoder stays as it is, and the velocity to learn is the guided one.
    """

    def __init__(self, learners: Learners, device: torch.device, guide: Guide | None = None) -> None:
        self._learners, self._guide = learners, guide
        self._sigmas = SigmaSource(device)
        self.loss = torch.zeros((), device=device)

    def gradients(self, plan: SizePlan, pool: LatentPool, table: CaptionTable) -> None:
        """Add the gradients of a batch of the plan's size; nothing in here waits for the device."""
        clean, groups = pool.sample(plan.batch)
        ids, lengths = table.sample(groups, DROP_CAPTION if self._guide is None else 0.0)
        sigma, noise = self._sigmas.sample(plan.batch), torch.randn_like(clean)
        s = sigma[:, None, None, None]
        noised, target = (1 - s) * clean + s * noise, noise - clean
        with torch.set_grad_enabled(self._guide is None):
            features = encode_text(self._learners.encoder, ids)
        if self._guide is not None:
            target = target + self._push(noised, sigma, features, lengths, table)
        velocity = self._learners.denoiser(noised, sigma, features, lengths)
        loss = (velocity - target).square().mean()
        loss.backward()
        self.loss.copy_(loss.detach())

    @torch.no_grad()
    def _push(self, noised: Tensor, sigma: Tensor, features: Tensor, lengths: Tensor, table: CaptionTable) -> Tensor:
        assert self._guide is not None
        empty = encode_text(self._learners.encoder, table.empty[:1]).expand_as(features)
        both = torch.cat([lengths, table.empty_lengths[:1].expand_as(lengths)])
        return self._guide.push(noised, sigma, (features, empty), both)


def train_flow(learners: Learners, data: Data, run: Run, seconds: float, *, graphs: bool = True) -> None:
    """Train encoder and transformer in place for `seconds` (resuming); they end as their running average."""
    weights = Weights(learners.parameters(), run.dtype, weight_decay=0.01)
    pace = Pace(seconds, rate=1.2e-3, warm_up=300, hold=0.45, forget=0.001)
    _train(FlowStep(learners, run.device), weights, data, run, pace, FLOW_CHECKPOINT, graphs)


def train_guided(learners: Learners, data: Data, run: Run, seconds: float, guidance: float, *, graphs: bool) -> None:
    """Teach the transformer, in place, to draw without guidance what it drew with; it ends as its running average."""
    teacher = copy.deepcopy(learners.denoiser.transformer).eval().requires_grad_(False)
    for module in (teacher, learners.encoder):
        cast_parameters(module, run.dtype)
    guide = Guide(BatchedDenoiser(teacher, learners.denoiser.compiled), guidance)
    weights = Weights(list(learners.denoiser.parameters()), run.dtype, weight_decay=0.0)
    pace = Pace(seconds, rate=2e-4, warm_up=50, hold=0.3, forget=0.01)
    _train(FlowStep(learners, run.device, guide), weights, data, run, pace, GUIDED_CHECKPOINT, graphs)
    cast_parameters(learners.encoder, torch.float32)


def _train(  # noqa: PLR0917
    flow: FlowStep, weights: Weights, data: Data, run: Run, pace: Pace, checkpoint: str, graphs: bool
) -> None:
    state = run.load(checkpoint) or {}
    if state:
        weights.restore(state["weights"])
    step, clock = int(state.get("step", 0)), StageClock(pace.seconds, state.get("elapsed", 0.0))
    torch.manual_seed(step)
    rng, stage = random.Random(step), checkpoint.removesuffix(".pt")
    steps = {} if clock.over or run.must_stop else _record(flow, weights, data, Recorder(run, graphs))
    clock.restart()
    while not (clock.over or run.must_stop):
        weights.set_pace(
            learning_rate(pace.rate, step, clock.fraction, pace.warm_up, pace.hold),
            max(pace.forget, 9 / (10 + step)),
        )
        steps[_choose(data, rng, clock.fraction)]()
        step += 1
        if step % SYNC_STEPS == 0:
            run.catch_up()
        if step % LOG_STEPS == 0:
            run.log(stage, step=step, loss=round(flow.loss.item(), 5))
        if clock.checkpoint_due():
            run.save(checkpoint, _state(weights, step, clock))
    run.catch_up()
    run.save(checkpoint, _state(weights, step, clock))
    weights.settle()
    run.log(stage, step=step, worked=round(clock.elapsed, 1), done=clock.over)


def _state(weights: Weights, step: int, clock: StageClock) -> dict[str, Any]:
    return {"weights": weights.state(), "step": step, "elapsed": clock.elapsed}


def _record(flow: FlowStep, weights: Weights, data: Data, recorder: Recorder) -> dict[tuple[int, int], Step]:
    """A step for each size (by its place) and length of captions, ready to be called."""
    weights.set_pace(0.0, 0.0)

    def whole(plan: SizePlan, pool: LatentPool, table: CaptionTable) -> None:
        flow.gradients(plan, pool, table)
        weights.update()

    return {
        (i, length): recorder.record(
            f"{plan.width}x{plan.height}, {length} tokens", partial(whole, plan, pool, data.captions[length])
        )
        for i, (plan, pool) in enumerate(data.pools)
        for length, _ in plan.lengths
    }


def _choose(data: Data, rng: random.Random, fraction: float) -> tuple[int, int]:
    """The place of a size and a length of captions, by their shares at this fraction of the stage."""
    plans = [plan for plan, _ in data.pools]
    place = rng.choices(range(len(plans)), [p.early if fraction < 0.5 else p.late for p in plans])[0]
    lengths, shares = zip(*plans[place].lengths, strict=True)
    return place, rng.choices(lengths, shares)[0]
