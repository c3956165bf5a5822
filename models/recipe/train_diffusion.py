"""Second and third stage: flow matching from pictures, then distillation to the four forwards of the preset."""

from __future__ import annotations

import copy
import itertools
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.recipe.batches import CAPTION_PLANS, CaptionTable, LatentPool, SizePlan
from models.recipe.model import BatchedDenoiser, TextEncoder, encode_text, inference_sigmas
from models.recipe.progress import Run, StageClock, learning_rate, set_learning_rate

FLOW_CHECKPOINT, DISTILLED_CHECKPOINT = "flow.pt", "distilled.pt"
FLOW_RATE, DISTILL_RATE = 1.2e-3, 1e-4
DROP_CAPTION = 0.03
EMA_DECAY = 0.9985
#: Share of samples trained exactly at the sigmas of the preset.
ANCHOR_SHARE = 0.5
FORWARDS = 4
TEACHER_STEPS_EACH = 3


@dataclass(frozen=True, slots=True)
class Learners:
    """The two networks that learn together, and the transformer's batched pass."""

    encoder: TextEncoder
    denoiser: BatchedDenoiser

    def parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.denoiser.parameters()]


@dataclass(frozen=True, slots=True)
class Data:
    """Caption tables by padded length and latent pools by size."""

    captions: dict[int, CaptionTable]
    pools: list[tuple[SizePlan, LatentPool]]


def sample_sigmas(count: int, device: torch.device) -> Tensor:
    """Noise levels [count]: uniform under the shift of the noise scheduler, a share of them at the preset's own."""
    u = torch.rand(count, device=device)
    sigma = 3 * u / (1 + 2 * u)
    anchors = torch.tensor(inference_sigmas(FORWARDS)[:-1], device=device)
    pick = anchors[torch.randint(len(anchors), (count,), device=device)]
    return torch.where(torch.rand(count, device=device) < ANCHOR_SHARE, pick, sigma)


def train_flow(learners: Learners, data: Data, run: Run, seconds: float) -> None:
    """Train encoder and transformer in place for `seconds` (resuming); they end as their running average."""
    parameters = learners.parameters()
    optimizer = torch.optim.AdamW(
        parameters, FLOW_RATE, betas=(0.9, 0.95), weight_decay=0.01, fused=run.device.type == "cuda"
    )
    average = [p.detach().clone() for p in parameters]
    state = run.load(FLOW_CHECKPOINT) or {}
    step = _restore(parameters, average, optimizer, state)
    if state.get("done"):
        _assign(parameters, average)
        return
    clock, rng = StageClock(seconds, state.get("elapsed", 0.0)), random.Random(step)
    torch.manual_seed(step)
    while not (clock.over or run.must_stop):
        set_learning_rate(optimizer, learning_rate(FLOW_RATE, step, clock.fraction, 300, 0.45))
        loss = _flow_loss(learners, data, rng)
        _update(optimizer, parameters, loss)
        step += 1
        _follow(average, parameters, min(EMA_DECAY, (1 + step) / (10 + step)))
        if step % 200 == 0:
            run.log("flow", step=step, loss=round(loss.item(), 5))
        if clock.checkpoint_due():
            run.save(FLOW_CHECKPOINT, _state(parameters, average, optimizer, step, clock.elapsed))
    run.save(FLOW_CHECKPOINT, _state(parameters, average, None if clock.over else optimizer, step, clock.elapsed))
    _assign(parameters, average)
    run.log("flow", step=step, done=clock.over)


def train_distilled(learners: Learners, data: Data, run: Run, seconds: float, guidance: float) -> None:
    """Teach the transformer, in place, to go in four forwards where its own guided average goes in twelve."""
    learners.encoder.requires_grad_(False)
    teacher = _frozen_copy(learners.denoiser)
    parameters = list(learners.denoiser.parameters())
    optimizer = torch.optim.AdamW(parameters, DISTILL_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    average = [p.detach().clone() for p in parameters]
    state = run.load(DISTILLED_CHECKPOINT) or {}
    step = _restore(parameters, average, optimizer, state)
    if state.get("done"):
        return
    clock, rng = StageClock(seconds, state.get("elapsed", 0.0)), random.Random(50_000 + step)
    torch.manual_seed(50_000 + step)
    while not clock.over:
        set_learning_rate(optimizer, learning_rate(DISTILL_RATE, step, clock.fraction, 30, 0.3))
        optimizer.zero_grad(set_to_none=True)
        loss = _distill(learners, teacher, data, rng, guidance)
        _update(optimizer, parameters, None)
        step += 1
        _follow(average, parameters, min(0.99, (1 + step) / (10 + step)))
        if step % 20 == 0:
            run.log("distill", step=step, loss=round(loss, 5))
        if clock.checkpoint_due():
            run.save(DISTILLED_CHECKPOINT, _state(parameters, average, optimizer, step, clock.elapsed))
    _assign(parameters, average)
    run.save(DISTILLED_CHECKPOINT, _state(parameters, average, None, step, clock.elapsed))
    run.log("distill", step=step, done=True)


def _draw(data: Data, rng: random.Random) -> tuple[SizePlan, LatentPool, CaptionTable]:
    plan, pool = rng.choices(data.pools, [p.share for p, _ in data.pools])[0]
    length = rng.choices(list(data.captions), [p.share for p in CAPTION_PLANS])[0]
    return plan, pool, data.captions[length]


def _flow_loss(learners: Learners, data: Data, rng: random.Random) -> Tensor:
    plan, pool, table = _draw(data, rng)
    clean, groups = pool.sample(plan.batch)
    ids, lengths = table.sample(groups, DROP_CAPTION)
    sigma = sample_sigmas(plan.batch, clean.device)
    noise = torch.randn_like(clean)
    s = sigma[:, None, None, None]
    with torch.autocast(clean.device.type, torch.bfloat16, enabled=clean.is_cuda):
        features = encode_text(learners.encoder, ids)
        velocity = learners.denoiser((1 - s) * clean + s * noise, sigma, features, lengths)
    loss: Tensor = (velocity - (noise - clean)).square().mean()
    return loss


def _distill(learners: Learners, teacher: BatchedDenoiser, data: Data, rng: random.Random, guidance: float) -> float:
    """Each of the four strides once, from noised pictures; the gradients are left in the student's parameters.

    Starting from the student's own path instead diverged: off the data the guided teacher answers wildly, and the
    student that copies it drifts further off.
    """
    plan, pool, table = _draw(data, rng)
    count = max(2, plan.batch // 4)
    clean, groups = pool.sample(count)
    ids, lengths = table.sample(groups, 0.0)
    with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
        features = encode_text(learners.encoder, torch.cat([ids, table.empty.expand_as(ids)]))
    both = torch.cat([lengths, torch.full_like(lengths, table.empty_length)])
    guide = Guide(teacher, features, both, guidance)
    noise = torch.randn_like(clean)
    line, fine = inference_sigmas(FORWARDS), inference_sigmas(FORWARDS * TEACHER_STEPS_EACH)
    losses = []
    for i in range(FORWARDS):
        x = (1 - line[i]) * clean + line[i] * noise
        path = fine[i * TEACHER_STEPS_EACH : (i + 1) * TEACHER_STEPS_EACH + 1]
        target = (guide.follow(x, path) - x) / (path[-1] - path[0])
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            velocity = learners.denoiser(x, x.new_full((count,), line[i]), features[:count], lengths)
        loss = (velocity - target).square().mean()
        loss.backward()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


@dataclass(frozen=True, slots=True)
class Guide:
    """The teacher with the features and lengths of the captions and, behind them, of as many empty ones."""

    teacher: BatchedDenoiser
    features: Tensor
    lengths: Tensor
    guidance: float

    @torch.no_grad()
    def follow(self, x: Tensor, path: list[float]) -> Tensor:
        """Where the teacher comes from x by the sigmas of the path."""
        for here, there in itertools.pairwise(path):
            sigma = x.new_full((2 * len(x),), here)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
                velocity = self.teacher(torch.cat([x, x]), sigma, self.features, self.lengths)
            asked, unasked = velocity.chunk(2)
            x = x + (there - here) * (asked + self.guidance * (asked - unasked))
        return x


def _frozen_copy(denoiser: BatchedDenoiser) -> BatchedDenoiser:
    teacher = copy.deepcopy(denoiser.transformer)
    return BatchedDenoiser(teacher.eval().requires_grad_(False), compile_blocks=denoiser.compiled)


def _update(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor | None) -> None:
    if loss is not None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


@torch.no_grad()
def _follow(average: list[Tensor], parameters: list[nn.Parameter], decay: float) -> None:
    torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)


@torch.no_grad()
def _assign(parameters: list[nn.Parameter], average: list[Tensor]) -> None:
    for parameter, value in zip(parameters, average, strict=True):
        parameter.copy_(value)


def _state(
    parameters: list[nn.Parameter],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer | None,
    step: int,
    elapsed: float,
) -> dict[str, Any]:
    return {
        "parameters": [p.detach() for p in parameters],
        "average": average,
        "optimizer": optimizer.state_dict() if optimizer else None,
        "step": step,
        "elapsed": elapsed,
        "done": optimizer is None,
    }


def _restore(
    parameters: list[nn.Parameter], average: list[Tensor], optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> int:
    if not state:
        return 0
    _assign(parameters, state["parameters"])
    for mine, value in zip(average, state["average"], strict=True):
        mine.copy_(value)
    if state["optimizer"]:
        optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
