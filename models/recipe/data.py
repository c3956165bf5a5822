"""The renderer: product pictures drawn on the GPU in batches, every size from the same relative coordinates."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.recipe.captions import Subject
from models.recipe.catalog import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    MATERIALS,
    ONE_SIDED,
    PALETTE,
    PLAIN_COLOURS,
    SCENES,
    WHITE,
    is_held_out,
)
from models.recipe.shapes import ACCENT, BEVEL, SHAPES

#: Index of the night scene, where objects get a rim of light.
NIGHT = 5
#: How far a ridge is smoothed, in units of half the picture's shorter side.
RIDGE = 0.045


@dataclass(frozen=True, slots=True)
class Canvas:
    """Coordinates [N, H, W] of a batch's pixels, the shorter side spanning -1..1, and one uniform draw per picture."""

    x: Tensor
    y: Tensor
    generator: torch.Generator

    def draw(self, low: float, high: float) -> Tensor:
        """One uniform number per picture, [N, 1, 1]."""
        u = torch.rand(len(self.x), 1, 1, device=self.x.device, generator=self.generator)
        return low + (high - low) * u

    def pick(self, rows: Tensor) -> Canvas:
        return Canvas(self.x[rows], self.y[rows], self.generator)


def random_subjects(count: int, rng: random.Random, held_out: bool = False) -> list[Subject]:
    """Subjects drawn evenly from the combinations that are (not) held out."""
    subjects: list[Subject] = []
    while len(subjects) < count:
        kind, colour, background = (rng.randrange(len(x)) for x in (KINDS, COLOURS, BACKGROUNDS))
        if is_held_out(kind, colour, background) == held_out:
            subjects.append(Subject(kind, colour, background, rng.randrange(len(MATERIALS))))
    return subjects


@torch.no_grad()
def render(subjects: Sequence[Subject], height: int, width: int, generator: torch.Generator) -> Tensor:
    """Pictures [N, 3, height, width] in -1..1 of the subjects; everything else comes from the generator."""
    device = generator.device
    canvas = _canvas(len(subjects), height, width, generator)
    shift_x, shift_y, scale = canvas.draw(-0.08, 0.08), canvas.draw(-0.04, 0.06), canvas.draw(0.86, 1.08)
    one_sided = torch.tensor([s.kind in ONE_SIDED for s in subjects], device=device)[:, None, None]
    flip = torch.where(one_sided, 1.0, torch.sign(canvas.draw(-1, 1)))
    ox, oy = (canvas.x - shift_x) / scale * flip, (canvas.y - shift_y) / scale
    pixel = 2.0 / min(height, width)
    light_x = torch.sign(canvas.draw(-1, 1)) * canvas.draw(0.25, 0.7)
    surface = Surface(*_distances(subjects, ox, oy, device), light_x, pixel)
    below = oy - torch.where(surface.outline < 0, oy, -9.0).amax((1, 2), keepdim=True)
    picture = _background(subjects, canvas) * (1 - _shadow(canvas, ox * flip, below, light_x)[:, None])
    cover = torch.sigmoid(-surface.outline * scale / pixel * 2.5)[:, None]
    lit = _shade(subjects, surface, generator)
    return (picture * (1 - cover) + lit * cover).clamp(0, 1) * 2 - 1


def _canvas(count: int, height: int, width: int, generator: torch.Generator) -> Canvas:
    short, device = min(height, width), generator.device
    ys = (torch.arange(height, device=device) + 0.5 - height / 2) * (2 / short)
    xs = (torch.arange(width, device=device) + 0.5 - width / 2) * (2 / short)
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    return Canvas(grid_x.expand(count, height, width), grid_y.expand(count, height, width), generator)


def _groups(values: Sequence[int], device: torch.device) -> list[tuple[int, Tensor]]:
    """Rows of each value; computed on the CPU, so the GPU is never waited for."""
    found: dict[int, list[int]] = {}
    for row, value in enumerate(values):
        found.setdefault(value, []).append(row)
    return [(value, torch.tensor(rows, device=device)) for value, rows in found.items()]


def _distances(
    subjects: Sequence[Subject], x: Tensor, y: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    body, accent = torch.empty_like(x), torch.empty_like(x)
    kinds = [s.kind for s in subjects]
    for kind, rows in _groups(kinds, device):
        body[rows], accent[rows] = SHAPES[kind](x[rows], y[rows])
    bevel = torch.tensor([BEVEL[k] for k in kinds], device=device).view(-1, 1, 1)
    return body, accent, bevel


def _slopes(depth: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    dx = torch.zeros_like(depth)
    dy = torch.zeros_like(depth)
    dx[:, :, 1:-1] = (depth[:, :, 2:] - depth[:, :, :-2]) / (2 * pixel)
    dy[:, 1:-1] = (depth[:, 2:] - depth[:, :-2]) / (2 * pixel)
    return dx, dy


@dataclass(frozen=True, slots=True)
class Surface:
    """An object's distances [N, H, W], the depth of its rounded edge, the light's side and the size of a pixel."""

    body: Tensor
    accent: Tensor
    bevel: Tensor
    light_x: Tensor
    pixel: float

    @property
    def outline(self) -> Tensor:
        return torch.minimum(self.body, self.accent)

    @property
    def inside(self) -> Tensor:
        """1 at the outline, 0 from the bevel's depth on."""
        return (1 + self.outline.clamp(max=0) / self.bevel).clamp(0, 1)


def _without_ridges(height: Tensor, surface: Surface) -> Tensor:
    """The height, smooth in the middle of a shape, where distances have ridges, and as it was at the outline."""
    reach, smooth = round(RIDGE / surface.pixel), height
    for _ in range(2):
        for kernel, margin in (((1, 2 * reach + 1), (reach, reach, 0, 0)), ((2 * reach + 1, 1), (0, 0, reach, reach))):
            smooth = functional.avg_pool2d(functional.pad(smooth, margin, mode="replicate"), kernel, stride=1)
    return torch.lerp(smooth, height, surface.inside)


def _column(values: list[float] | list[int] | list[bool], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)


def _shade(subjects: Sequence[Subject], surface: Surface, generator: torch.Generator) -> Tensor:
    """Lambert light, a highlight by material and an edge light at night, on a surface swollen from the distances."""
    height = _without_ridges(surface.bevel * (1 - surface.inside**2).clamp(min=1e-4).sqrt() * 0.8, surface)
    slope_x, slope_y = _slopes(height, surface.pixel)
    norm = (slope_x**2 + slope_y**2 + 1).rsqrt()
    nx, ny = -slope_x * norm, -slope_y * norm
    unit = (surface.light_x**2 + 0.36 + 0.8).rsqrt()
    toward = (nx * surface.light_x - ny * 0.6) * unit
    diffuse = (toward + norm * 0.894 * unit).clamp(min=0)
    half = (toward + norm * (1 + 0.894 * unit)) / (2 * (1 + 0.894 * unit)).sqrt()
    device = surface.body.device
    material = _column([s.material for s in subjects], device)
    power = torch.where(material == 1, 60.0, 12.0)
    shine = torch.where(material == 0, 0.03, torch.where(material == 1, 0.75, 0.28)) * half.clamp(0, 1) ** power
    bands = torch.where(material == 2, 0.14 * torch.sin(ny * 7 + nx * 3), 0.0)
    rim = torch.where(_column([s.background == NIGHT for s in subjects], device), 0.45, 0.06) * surface.inside**4
    glow = torch.tensor((0.55, 0.75, 1.0), device=device).view(1, 3, 1, 1) * rim[:, None]
    light = (0.42 + 0.62 * diffuse + bands)[:, None]
    return (_albedo(subjects, surface, generator) * light + shine[:, None] + glow).clamp(0, 1)


def _albedo(subjects: Sequence[Subject], surface: Surface, generator: torch.Generator) -> Tensor:
    """The body's asked colour, a little off each time, and the accent's own."""
    device = surface.body.device
    colour = torch.tensor([PALETTE[s.colour] for s in subjects], device=device)
    wobble = 1 + 0.06 * (2 * torch.rand(colour.shape, device=device, generator=generator) - 1)
    second = torch.tensor([ACCENT[s.kind] for s in subjects], device=device)
    soft = torch.sigmoid(-surface.accent / surface.pixel * 2.5)[:, None]
    return (colour * wobble).clamp(0, 1)[:, :, None, None] * (1 - soft) + second[:, :, None, None] * soft


def _shadow(canvas: Canvas, x: Tensor, below: Tensor, light_x: Tensor) -> Tensor:
    """A soft contact shadow at the object's foot, drawn away from the light; it never reaches the picture's border."""
    spread = torch.exp(-(((x + light_x * 0.18) / 0.5) ** 2 + (below / 0.06) ** 2))
    border = ((0.97 - canvas.x.abs()).clamp(min=0) * 8).clamp(max=1) * ((0.95 - canvas.y.abs()).clamp(min=0) * 8).clamp(
        max=1
    )
    return canvas.draw(0.25, 0.5) * spread * border


def _background(subjects: Sequence[Subject], canvas: Canvas) -> Tensor:
    out = torch.ones(len(subjects), 3, *canvas.x.shape[1:], device=canvas.x.device)
    for index, rows in _groups([s.background for s in subjects], canvas.x.device):
        if index == WHITE:
            continue
        part = canvas.pick(rows)
        out[rows] = PAINTERS[index](part) if index < len(SCENES) else _plain(part, PLAIN_COLOURS[index - len(SCENES)])
    return out


def _rgb(canvas: Canvas, red: float, green: float, blue: float) -> Tensor:
    return torch.tensor((red, green, blue), device=canvas.x.device).view(1, 3, 1, 1)


def _plain(canvas: Canvas, colour: tuple[float, float, float]) -> Tensor:
    vignette = 1.03 - 0.10 * (canvas.x**2 + canvas.y**2) * canvas.draw(0.3, 1.0)
    return (_rgb(canvas, *colour) * vignette[:, None]).clamp(0, 1)


def _wood(canvas: Canvas) -> Tensor:
    edge = torch.sigmoid((canvas.y - canvas.draw(-0.1, 0.12)) * 60)[:, None]
    wave = torch.sin(canvas.y * 30 + canvas.draw(0, 6) + 0.9 * torch.sin(canvas.x * 2.5 + canvas.draw(0, 6)))
    planks = 0.05 * torch.sign(torch.sin(canvas.y * 11 + canvas.draw(0, 6)))
    table = _rgb(canvas, 0.62, 0.41, 0.23) * (1 + 0.09 * wave + planks)[:, None]
    wall = _rgb(canvas, 0.88, 0.84, 0.77) * (1 - 0.06 * canvas.y)[:, None]
    return (table * edge + wall * (1 - edge)).clamp(0, 1)


def _kitchen(canvas: Canvas) -> Tensor:
    counter = torch.sigmoid((canvas.y - canvas.draw(0.22, 0.34)) * 60)[:, None]
    step = 0.34
    u, v = (canvas.x + canvas.draw(0, step)) / step, (canvas.y + canvas.draw(0, step)) / step
    line = torch.minimum((u - u.round()).abs(), (v - v.round()).abs())
    tiles = _rgb(canvas, 0.80, 0.90, 0.90) * (1 - 0.22 * torch.exp(-((line / 0.035) ** 2)))[:, None]
    cabinet = torch.sigmoid((-canvas.y - canvas.draw(0.66, 0.76)) * 60)[:, None]
    wall = tiles * (1 - cabinet) + _rgb(canvas, 0.45, 0.56, 0.60) * cabinet
    return wall * (1 - counter) + _rgb(canvas, 0.72, 0.70, 0.68) * counter


def _beach(canvas: Canvas) -> Tensor:
    horizon, shore = canvas.draw(-0.3, -0.12), canvas.draw(0.05, 0.18)
    sky = _rgb(canvas, 0.55, 0.78, 0.97) * (1 - 0.12 * canvas.y)[:, None]
    sea = _rgb(canvas, 0.12, 0.50, 0.68) * (1 + 0.08 * torch.sin(canvas.y * 60 + 2 * torch.sin(canvas.x * 4)))[:, None]
    sand = _rgb(canvas, 0.92, 0.82, 0.60) * (1 - 0.06 * canvas.y)[:, None]
    wet = torch.sigmoid((canvas.y - horizon) * 80)[:, None]
    dry = torch.sigmoid((canvas.y - shore - 0.03 * torch.sin(canvas.x * 5 + canvas.draw(0, 6))) * 60)[:, None]
    return ((sky * (1 - wet) + sea * wet) * (1 - dry) + sand * dry).clamp(0, 1)


def _forest(canvas: Canvas) -> Tensor:
    ground = torch.sigmoid((canvas.y - canvas.draw(0.18, 0.3)) * 40)[:, None]
    phase = canvas.draw(0, 6)
    trunks = torch.sigmoid((torch.sin(canvas.x * 7 + phase + 0.8 * torch.sin(canvas.x * 3 + phase)) - 0.72) * 14)
    leaves = torch.sigmoid((-canvas.y - 0.42 - 0.12 * torch.sin(canvas.x * 9 + phase)) * 14)
    air = _rgb(canvas, 0.42, 0.60, 0.36) * (1.05 - 0.25 * canvas.y)[:, None]
    wood = _rgb(canvas, 0.27, 0.19, 0.13)
    scene = air * (1 - trunks[:, None]) + wood * trunks[:, None]
    scene = scene * (1 - leaves[:, None]) + _rgb(canvas, 0.13, 0.33, 0.14) * leaves[:, None]
    return (scene * (1 - ground) + _rgb(canvas, 0.33, 0.36, 0.17) * ground).clamp(0, 1)


def _night(canvas: Canvas) -> Tensor:
    scene = _rgb(canvas, 0.05, 0.05, 0.12) * (1.3 + 0.4 * canvas.y)[:, None]
    for red, green, blue in ((1.0, 0.15, 0.65), (0.1, 0.8, 1.0), (0.7, 0.3, 1.0)):
        cx, cy = canvas.draw(-0.95, 0.95), canvas.draw(-0.85, -0.35)
        bar = torch.exp(-(((canvas.x - cx) / 0.05) ** 2)) * torch.sigmoid((0.22 - (canvas.y - cy).abs()) * 40)
        halo = 0.5 * torch.exp(-(((canvas.x - cx) / 0.35) ** 2 + ((canvas.y - cy) / 0.4) ** 2))
        below = 0.25 * torch.exp(-(((canvas.x - cx) / 0.16) ** 2 + ((canvas.y - 0.78) / 0.3) ** 2))
        scene = scene + _rgb(canvas, red, green, blue) * (bar + halo + below)[:, None]
    return scene.clamp(0, 1)


def _white(canvas: Canvas) -> Tensor:
    return torch.ones(len(canvas.x), 3, *canvas.x.shape[1:], device=canvas.x.device)


PAINTERS: tuple[Callable[[Canvas], Tensor], ...] = (_white, _wood, _kitchen, _beach, _forest, _night)
