"""A second opinion on the kind of object in a picture, fitted in a second from edges in the renderer's own pictures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.recipe.captions import Subject
from models.recipe.catalog import KINDS
from models.recipe.data import random_subjects, render

LOOK = 48
CELLS = 12
#: How much large weights are held down: pictures of a thing are alike, so there are more numbers than independent ones.
RIDGE = 0.1


@dataclass(frozen=True, slots=True)
class KindRuler:
    """Reads the kind by one weight for each kind, direction and cell; no chance, no training steps."""

    weights: Tensor

    def read(self, pictures: Tensor) -> list[int]:
        """The kind of each picture [N, 3, H, W] in 0..1."""
        return [int(kind) for kind in (_edges(pictures) @ self.weights).argmax(1)]


def fit_kinds(count: int = 512) -> KindRuler:
    """The ruler that fits `count` rendered pictures of combinations that the model was trained on, by least squares."""
    subjects, pictures = rendered(count, LOOK, seed=3, held_out=False)
    seen, kinds = _edges(pictures), torch.tensor([s.kind for s in subjects])
    named = functional.one_hot(kinds, len(KINDS)).float()
    return KindRuler(torch.linalg.solve(seen.T @ seen + RIDGE * torch.eye(seen.shape[1]), seen.T @ named))


def rendered(count: int, size: int, *, seed: int, held_out: bool) -> tuple[Sequence[Subject], Tensor]:
    """Subjects and the renderer's own pictures of them, [count, 3, size, size] in 0..1."""
    subjects = random_subjects(count, random.Random(seed), held_out)
    generator = torch.Generator().manual_seed(seed)
    parts = [render(subjects[i : i + 64], size, size, generator) for i in range(0, count, 64)]
    return subjects, torch.cat(parts) / 2 + 0.5


def _edges(pictures: Tensor) -> Tensor:
    """How far neighbours differ, across and down, in a grid of cells; the colour and its strength don't count."""
    small = functional.interpolate(pictures, (LOOK, LOOK), mode="area")
    steps = [small.diff(dim=direction).abs().amax(1, keepdim=True) for direction in (-1, -2)]
    cells = torch.cat([functional.adaptive_avg_pool2d(step, CELLS) for step in steps], 1).flatten(1).sqrt()
    return functional.normalize(cells - cells.mean(1, keepdim=True), dim=1)
