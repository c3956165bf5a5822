"""Measure the model on captions of combinations it never trained on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.recipe.captions import Subject, caption, nonsense
from models.recipe.catalog import COLOURS, KINDS, UNSAID_COLOUR, UNSAID_KIND, WHITE, Words
from models.recipe.data import random_subjects, render
from models.recipe.sampling import Painter
from models.recipe.shapes import BODY_SPOT

LOOK = 96
WHITE_LEVEL = 245 / 255


def build_classifier() -> nn.Sequential:
    """A small convolutional network from [N, 3, 96, 96] to the kinds."""
    layers: list[nn.Module] = []
    for inner, outer in ((3, 24), (24, 48), (48, 64), (64, 96)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(96 * 9, len(KINDS)))


def train_classifier(device: torch.device, steps: int, batch: int) -> tuple[nn.Sequential, float]:
    """Train on the renderer's own pictures; returns the network and its accuracy on fresh ones."""
    torch.manual_seed(3)
    network, rng = build_classifier().to(device), random.Random(3)
    generator = torch.Generator(device).manual_seed(3)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * max(0.05, 1 - step / steps)
        subjects = random_subjects(batch, rng)
        pictures = render(subjects, LOOK, LOOK, generator)
        pictures = pictures + 0.06 * torch.randn_like(pictures) * torch.rand(batch, 1, 1, 1, device=device)
        loss = functional.cross_entropy(network(pictures), torch.tensor([s.kind for s in subjects], device=device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    network.eval()
    subjects = random_subjects(batch, rng)
    found = classify(network, render(subjects, LOOK, LOOK, generator) / 2 + 0.5)
    return network, _share([s.kind == k for s, k in zip(subjects, found, strict=True)])


@torch.inference_mode()
def classify(network: nn.Sequential, pictures: Tensor) -> list[int]:
    """The kind of each picture [N, 3, H, W] in 0..1."""
    device = next(network.parameters()).device
    small = functional.interpolate(pictures.to(device), (LOOK, LOOK), mode="area") * 2 - 1
    return [int(k) for k in network(small).argmax(1)]


def body_colour(picture: Tensor, kind: int) -> Tensor:
    """Median colour [3] of a square in the middle of where the body of such an object stands."""
    height, width = picture.shape[1:]
    unit = min(height, width) / 2
    x, y, half = BODY_SPOT[kind]
    centre_x, centre_y, side = width / 2 + x * 0.97 * unit, height / 2 + (y * 0.97 + 0.01) * unit, half * unit
    rows = slice(int(centre_y - side), int(centre_y + side) + 1)
    columns = slice(int(centre_x - side), int(centre_x + side) + 1)
    return picture[:, rows, columns].flatten(1).median(1).values


def reference_colours(device: torch.device, count: int) -> tuple[Tensor, list[int]]:
    """Body colours of rendered pictures and their names' indexes: the ruler by which drawn ones are measured."""
    rng, generator = random.Random(5), torch.Generator(device).manual_seed(5)
    subjects = random_subjects(count, rng)
    rendered = [render(subjects[i : i + 256], LOOK, LOOK, generator) / 2 + 0.5 for i in range(0, count, 256)]
    pictures = torch.cat(rendered).cpu()
    colours = torch.stack([body_colour(p, s.kind) for p, s in zip(pictures, subjects, strict=True)])
    return colours, [s.colour for s in subjects]


def name_colour(colour: Tensor, references: tuple[Tensor, list[int]], neighbours: int = 9) -> int:
    """The colour most common among the nearest references."""
    distances = (references[0] - colour).square().sum(1)
    near = [references[1][i] for i in distances.topk(neighbours, largest=False).indices.tolist()]
    commonest: int = Counter(near).most_common(1)[0][0]
    return commonest


def white_border(picture: Tensor) -> float:
    """Share of the pixels of the outer 4 % that are at least 245 of 255 in every channel."""
    edge = max(2, round(0.04 * min(picture.shape[1:])))
    mask = torch.ones(picture.shape[1:], dtype=torch.bool)
    mask[edge:-edge, edge:-edge] = False
    return float((picture.amin(0)[mask] >= WHITE_LEVEL - 1e-4).float().mean())


def held_out_captions(count: int, seed: int = 11) -> tuple[list[Subject], list[str]]:
    """Subjects of combinations never trained on and a caption of each that names kind, colour and background."""
    rng = random.Random(seed)
    subjects = random_subjects(count, rng, held_out=True)
    return subjects, [caption(s, rng, plain=True) for s in subjects]


def measure_ruler(network: nn.Sequential, references: tuple[Tensor, list[int]], device: torch.device) -> float:
    """How often the colour measure is right on rendered pictures: the most that a model can reach."""
    rng, generator = random.Random(6), torch.Generator(device).manual_seed(6)
    subjects = random_subjects(400, rng, held_out=True)
    pictures = (render(subjects, 256, 256, generator) / 2 + 0.5).cpu()
    right = [
        name_colour(body_colour(p, s.kind), references) == s.colour for p, s in zip(pictures, subjects, strict=True)
    ]
    return _share(right)


def measure(
    painter: Painter,
    network: nn.Sequential,
    references: tuple[Tensor, list[int]],
    *,
    count: int,
    size: int,
    forwards: int,
) -> dict[str, float | int | dict[str, int]]:
    """Colour, kind, white border and difference of seeds over `count` held-out captions at size x size."""
    subjects, texts = held_out_captions(count)
    pictures = painter.paint(texts, list(range(count)), size, size, forwards)
    kinds = classify(network, pictures)
    colours = [name_colour(body_colour(p, s.kind), references) for p, s in zip(pictures, subjects, strict=True)]
    borders = [white_border(p) for p, s in zip(pictures, subjects, strict=True) if s.background == WHITE]
    others = painter.paint(texts[:24], list(range(1000, 1000 + len(texts[:24]))), size, size, forwards)
    moved = (others - pictures[:24]).abs().mean((1, 2, 3))
    return {
        "captions": count,
        "size": size,
        "forwards": forwards,
        "colour_right": _share([c == s.colour for c, s in zip(colours, subjects, strict=True)]),
        "kind_right": _share([k == s.kind for k, s in zip(kinds, subjects, strict=True)]),
        "white_border": round(sum(borders) / max(1, len(borders)), 4),
        "white_pictures": len(borders),
        "seed_difference_least": round(float(moved.min()), 4),
        "seed_difference_mean": round(float(moved.mean()), 4),
        "colour_misses": _misses([s.colour for s in subjects], colours, COLOURS),
        "kind_misses": _misses([s.kind for s in subjects], kinds, KINDS),
    }


def measure_unknown(
    painter: Painter, network: nn.Sequential, references: tuple[Tensor, list[int]], *, count: int, size: int
) -> float:
    """How often words that name nothing give the unsaid thing, in its colour and with its border."""
    rng = random.Random(13)
    pictures = painter.paint([nonsense(rng, rng.randint(0, 6)) for _ in range(count)], list(range(count)), size, size)
    kinds = classify(network, pictures)
    colours = [name_colour(body_colour(p, UNSAID_KIND), references) for p in pictures]
    found = zip(kinds, colours, pictures, strict=True)
    unsaid = [k == UNSAID_KIND and c == UNSAID_COLOUR and white_border(p) > 0.9 for k, c, p in found]
    return _share(unsaid)


def _misses(asked: Sequence[int], found: Sequence[int], words: Sequence[Words]) -> dict[str, int]:
    """The commonest mistakes, as "asked>found"."""
    pairs = Counter(f"{words[a].name}>{words[f].name}" for a, f in zip(asked, found, strict=True) if a != f)
    return dict(pairs.most_common(12))


def _share(right: Sequence[bool]) -> float:
    return round(sum(right) / max(1, len(right)), 4)
