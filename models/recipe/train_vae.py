"""First stage: the VAE learns to pack the drawn pictures, then its latents are put on unit scale."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from models.recipe.data import random_subjects, render
from models.recipe.model import Vae
from models.recipe.progress import Run, StageClock, learning_rate
from models.recipe.replay import Recorder
from models.recipe.weights import Weights

CHECKPOINT = "vae.pt"
#: Per number of a latent, in units of the loss of a number of a picture.
KL_WEIGHT = 1e-3
LEARNING_RATE = 1.5e-3
FORGET = 0.005
#: Side in pixels of the squares whose mean colour is compared too: colours come right before edges do.
COLOUR_CELL = 8
SYNC_STEPS, LOG_STEPS = 20, 200


@dataclass(frozen=True, slots=True)
class Lesson:
    """Pictures of size x size pixels, how many a step and in the pool, until this share of the stage's time."""

    size: int
    batch: int
    pool: int
    until: float


class PicturePool:
    """Drawn pictures as bytes [N, 3, size, size] on the device, so that a step needs a look-up and no renderer."""

    def __init__(self, lesson: Lesson, device: torch.device, seed: int) -> None:
        rng, generator, size = random.Random(seed), torch.Generator(device).manual_seed(seed), lesson.size
        self.pictures = torch.empty(lesson.pool, 3, size, size, dtype=torch.uint8, device=device)
        for part in self.pictures.split(max(2, 256 * 65536 // size**2)):
            part.copy_((render(random_subjects(len(part), rng), size, size, generator) * 127.5 + 127.5).round_())

    def sample(self, count: int) -> Tensor:
        """Pictures [count, 3, size, size] in -1..1, each mirrored or not."""
        device = self.pictures.device
        chosen = self.pictures.index_select(0, torch.randint(len(self.pictures), (count,), device=device))
        mirrored = torch.rand(count, 1, 1, 1, device=device) < 0.5
        return torch.where(mirrored, chosen.flip(-1), chosen).float() / 127.5 - 1


def train_vae(vae: Vae, run: Run, seconds: float, lessons: tuple[Lesson, ...], *, graphs: bool = True) -> None:
    """Train `vae` in place for `seconds` (resuming), and set its scaling and shift factors."""
    state = run.load(CHECKPOINT) or {}
    if state.get("done"):
        vae.load_state_dict(state["vae"])
        vae.register_to_config(**state["factors"])
        return
    weights = Weights(list(vae.parameters()), run.dtype, weight_decay=0.0)
    if state:
        weights.restore(state["weights"])
    if _learn(vae, weights, run, StageClock(seconds, state.get("elapsed", 0.0)), state.get("step", 0), lessons, graphs):
        weights.settle()
        run.save(CHECKPOINT, {"vae": vae.state_dict(), "factors": _set_scale(vae, run, lessons[-1]), "done": True})


def _learn(  # noqa: PLR0917
    vae: Vae, weights: Weights, run: Run, clock: StageClock, step: int, lessons: tuple[Lesson, ...], graphs: bool
) -> bool:
    """Take steps until the stage's time is over (then True) or this process must stop."""
    torch.manual_seed(1000 + step)
    torch.backends.cudnn.benchmark = True  # few shapes only; later stages have many and would search for each
    recorder, figures = Recorder(run, graphs), torch.zeros(2, device=run.device)
    for i, lesson in enumerate(lessons):
        if clock.fraction >= lesson.until or run.must_stop:
            continue
        pool = PicturePool(lesson, run.device, 1000 + 10 * step + i)
        weights.set_pace(0.0, 0.0)
        work = recorder.record(f"vae {lesson.size}", partial(_step, vae, weights, pool, lesson.batch, figures))
        while clock.fraction < lesson.until and not run.must_stop:
            weights.set_pace(learning_rate(LEARNING_RATE, step, clock.fraction, 200, 0.4), FORGET)
            work()
            step += 1
            if step % SYNC_STEPS == 0:
                run.catch_up()
            if step % LOG_STEPS == 0:
                loss, error = figures.tolist()
                run.log("vae", step=step, size=lesson.size, loss=round(loss, 5), l1=round(error, 5))
            if clock.checkpoint_due() or run.must_stop:
                run.save(CHECKPOINT, {"weights": weights.state(), "step": step, "elapsed": clock.elapsed})
    torch.backends.cudnn.benchmark = False
    run.log("vae", step=step, done=clock.over)
    return clock.over


def _step(vae: Vae, weights: Weights, pool: PicturePool, count: int, figures: Tensor) -> None:
    pictures = pool.sample(count)
    loss, error = reconstruction_loss(vae, pictures, next(vae.parameters()).dtype)
    loss.backward()
    weights.update()
    figures.copy_(torch.stack((loss.detach(), error)))


def reconstruction_loss(vae: Vae, pictures: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The loss of pictures in -1..1 through a noisy latent, and its mean absolute error."""
    mean, spread = vae.encoder(pictures.to(dtype)).float().chunk(2, dim=1)
    spread = spread.clamp(-20, 10)
    latents = mean + (spread / 2).exp() * torch.randn_like(mean)
    difference = vae.decoder(latents.to(dtype)).float() - pictures
    # L1 plus the error of gradients: sharp edges without an adversary.
    error = difference.abs().mean()
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    colours = functional.avg_pool2d(difference, COLOUR_CELL).abs().mean()
    surprise = (mean.square() + spread.exp() - 1 - spread).mean() / 2
    return error + 0.5 * edges + colours + KL_WEIGHT * surprise, error.detach()


@torch.no_grad()
def _set_scale(vae: Vae, run: Run, lesson: Lesson) -> dict[str, float]:
    """Put the latents on unit scale and log how well fresh pictures come back, as they will be used: in float32."""
    generator = torch.Generator(run.device).manual_seed(7)
    pictures = render(random_subjects(2 * lesson.batch, random.Random(7)), lesson.size, lesson.size, generator)
    latents = vae.encoder(pictures).chunk(2, dim=1)[0]
    factors = {"scaling_factor": float(1 / latents.std()), "shift_factor": float(latents.mean())}
    vae.register_to_config(**factors)
    error = float((vae.decoder(latents) - pictures).abs().mean())
    spread = [round(float(s), 2) for s in latents.std((0, 2, 3))]
    run.log("vae", l1_of_fresh_pictures=round(error, 5), channels=spread, **factors)
    return factors
