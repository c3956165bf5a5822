"""Second stage: text encoder and transformer learn together, by flow matching from pictures."""

from __future__ import annotations

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
    encode_text,
    inference_sigmas,
    trained_parameters,
)
from models.recipe.progress import Run, StageClock, learning_rate
from models.recipe.replay import Recorder, Step
from models.recipe.weights import Weights

CHECKPOINT = "flow.pt"
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


class FlowStep:
    """The gradients of one flow-matching step on static data; `loss` holds the last one's."""

    def __init__(self, learners: Learners, device: torch.device) -> None:
        self._learners, self._sigmas = learners, SigmaSource(device)
        self.loss = torch.zeros((), device=device)

    def gradients(self, plan: SizePlan, pool: LatentPool, table: CaptionTable) -> None:
        """Add the gradients of a batch of the plan's size; nothing in here waits for the device."""
        clean, groups = pool.sample(plan.batch)
        ids, lengths = table.sample(groups)
        sigma, noise = self._sigmas.sample(plan.batch), torch.randn_like(clean)
        s = sigma[:, None, None, None]
        noised, target = (1 - s) * clean + s * noise, noise - clean
        features = encode_text(self._learners.encoder, ids)
        velocity = self._learners.denoiser(noised, sigma, features, lengths)
        loss = (velocity - target).square().mean()
        loss.backward()
        self.loss.copy_(loss.detach())


def train_flow(learners: Learners, data: Data, run: Run, seconds: float, *, graphs: bool = True) -> None:
    """Train encoder and transformer in place for `seconds` (resuming); they end as their running average."""
    flow = FlowStep(learners, run.device)
    weights = Weights(learners.parameters(), run.dtype, weight_decay=0.01)
    pace = Pace(seconds, rate=1.2e-3, warm_up=300, hold=0.45, forget=0.001)
    state = run.load(CHECKPOINT) or {}
    if state:
        weights.restore(state["weights"])
    step, clock = int(state.get("step", 0)), StageClock(pace.seconds, state.get("elapsed", 0.0))
    torch.manual_seed(step)
    rng = random.Random(step)
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
            run.log("flow", step=step, loss=round(flow.loss.item(), 5))
        if clock.checkpoint_due():
            run.save(CHECKPOINT, _state(weights, step, clock))
    run.catch_up()
    run.save(CHECKPOINT, _state(weights, step, clock))
    weights.settle()
    run.log("flow", step=step, worked=round(clock.elapsed, 1), done=clock.over)


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
