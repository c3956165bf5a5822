"""First stage: the VAE learns to pack the drawn pictures, then its latents are put on unit scale."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.recipe.data import random_subjects, render
from models.recipe.model import Vae
from models.recipe.progress import Run, StageClock, learning_rate, set_learning_rate

CHECKPOINT = "vae.pt"
KL_WEIGHT = 1e-5
LEARNING_RATE = 1e-3
#: Steps that share one call of the renderer, whose many small kernels cost more than its pixels.
STEPS_PER_DRAWING = 4
#: Side in pixels of the squares whose mean colour is compared too: colours come right before edges do.
COLOUR_CELL = 8


def train_vae(vae: Vae, run: Run, seconds: float, batch: int, size: int, *, compiled: bool = True) -> None:
    """Train `vae` in place for `seconds` (resuming), and set its scaling and shift factors."""
    state = run.load(CHECKPOINT) or {}
    optimizer = torch.optim.AdamW(vae.parameters(), LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    step = _restore(vae, optimizer, state)
    if state.get("done"):
        return
    clock = StageClock(seconds, state.get("elapsed", 0.0))
    rng = random.Random(1000 + step)
    generator = torch.Generator(run.device).manual_seed(1000 + step)
    measure = torch.compile(_loss) if run.device.type == "cuda" and compiled else _loss
    torch.backends.cudnn.benchmark = True  # one shape only; later stages have many and would search for each
    while not clock.over:
        drawn = render(random_subjects(batch * STEPS_PER_DRAWING, rng), size, size, generator)
        for pictures in drawn.split(batch):
            set_learning_rate(optimizer, learning_rate(LEARNING_RATE, step, clock.fraction, 100, 0.4))
            loss, error = measure(vae, pictures)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 200 == 0:
                run.log("vae", step=step, loss=round(loss.item(), 5), l1=round(error.item(), 5))
        if clock.checkpoint_due():
            run.save(CHECKPOINT, _state(vae, optimizer, step, clock.elapsed, done=False))
    torch.backends.cudnn.benchmark = False
    _set_scale(vae, run, 2 * batch, size)
    run.log("vae", step=step, scaling_factor=vae.config.scaling_factor, shift_factor=vae.config.shift_factor)
    run.save(CHECKPOINT, _state(vae, optimizer, step, clock.elapsed, done=True))


def _loss(vae: Vae, pictures: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.is_cuda):
        posterior = vae.encode(pictures).latent_dist
        decoded = vae.decode(posterior.sample()).sample
    difference = decoded.float() - pictures
    # L1 plus the error of gradients: sharp edges without an adversary.
    error = difference.abs().mean()
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    colours = functional.avg_pool2d(difference, COLOUR_CELL).abs().mean()
    return error + 0.5 * edges + colours + KL_WEIGHT * posterior.kl().mean() / 1000, error.detach()


@torch.no_grad()
def _set_scale(vae: Vae, run: Run, batch: int, size: int) -> None:
    generator = torch.Generator(run.device).manual_seed(7)
    pictures = render(random_subjects(batch, random.Random(7)), size, size, generator)
    latents = vae.encode(pictures).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))


def _state(vae: Vae, optimizer: torch.optim.Optimizer, step: int, elapsed: float, done: bool) -> dict[str, object]:
    return {
        "vae": vae.state_dict(),
        "optimizer": None if done else optimizer.state_dict(),
        "step": step,
        "elapsed": elapsed,
        "done": done,
        "scaling_factor": vae.config.scaling_factor,
        "shift_factor": vae.config.shift_factor,
    }


def _restore(vae: Vae, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> int:
    if not state:
        return 0
    vae.load_state_dict(state["vae"])
    vae.register_to_config(scaling_factor=state["scaling_factor"], shift_factor=state["shift_factor"])
    if state["optimizer"]:
        optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
