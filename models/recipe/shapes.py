"""Signed distances of the kinds of objects: negative inside, in units of half the picture's shorter side.

Each function takes coordinates x, y [N, H, W] (y down, object about within ±0.6) and returns (body, accent): the body
wears the asked colour; the accent (a wheel, a stand, a band) has its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Shape = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def box(x: Tensor, y: Tensor, half_width: float, half_height: float, radius: float = 0.0) -> Tensor:
    """A rectangle with rounded corners."""
    qx, qy = x.abs() - half_width + radius, y.abs() - half_height + radius
    outside = (qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + 1e-12).sqrt()
    return outside + torch.maximum(qx, qy).clamp(max=0) - radius


def circle(x: Tensor, y: Tensor, radius: float) -> Tensor:
    """A disc."""
    return (x * x + y * y + 1e-12).sqrt() - radius


def ellipse(x: Tensor, y: Tensor, a: float, b: float) -> Tensor:
    """An ellipse, nearly to scale."""
    return ((x / a) ** 2 + (y / b) ** 2 + 1e-12).sqrt().sub(1) * min(a, b)


def half_plane(x: Tensor, y: Tensor, nx: float, ny: float, offset: float) -> Tensor:
    """The side of a line that its normal points away from."""
    length = math.hypot(nx, ny)
    return (x * nx + y * ny) / length - offset


def trapezoid(x: Tensor, y: Tensor, top: float, bottom: float, half_height: float) -> Tensor:
    """A symmetric trapezoid of the given half widths."""
    slope = (bottom - top) / (2 * half_height)
    side = (x.abs() - (top + bottom) / 2 - slope * y) / math.hypot(1, slope)
    return torch.maximum(side, y.abs() - half_height)


def union(*shapes: Tensor) -> Tensor:
    """All of them."""
    out = shapes[0]
    for shape in shapes[1:]:
        out = torch.minimum(out, shape)
    return out


def nothing(x: Tensor) -> Tensor:
    """No accent."""
    return torch.full_like(x, 9.0)


def mug(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    handle = (box(x - 0.36, y, 0.17, 0.2, 0.16)).abs() - 0.05
    return union(box(x + 0.06, y, 0.34, 0.4, 0.07), torch.maximum(handle, -(x - 0.24))), nothing(x)


def bottle(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    shoulder = trapezoid(x, y + 0.24, 0.09, 0.23, 0.09)
    body = union(box(x, y - 0.2, 0.23, 0.38, 0.06), shoulder, box(x, y + 0.38, 0.09, 0.12))
    return body, box(x, y + 0.53, 0.11, 0.06, 0.02)


def ball(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return circle(x, y, 0.46), nothing(x)


def carton(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    tape = torch.maximum(box(x, y + 0.26, 0.08, 0.17), -(y + 0.44))
    return union(box(x, y, 0.44, 0.42, 0.02), box(x, y + 0.4, 0.47, 0.07, 0.01)), tape


def lamp(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    stand = union(box(x, y - 0.3, 0.035, 0.28), box(x, y - 0.56, 0.24, 0.045, 0.03))
    return trapezoid(x, y + 0.22, 0.24, 0.48, 0.3), stand


def vase(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    width = 0.21 + 0.14 * torch.cos((y - 0.12) * 4.6)
    return torch.maximum((x.abs() - width) * 0.8, y.abs() - 0.56), nothing(x)


def bowl(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    half = torch.maximum(ellipse(x, y + 0.16, 0.56, 0.52), -(y + 0.16))
    return union(half, box(x, y - 0.36, 0.2, 0.05, 0.02)), ellipse(x, y + 0.17, 0.5, 0.05)


def chair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    legs = union(box(x + 0.3, y - 0.36, 0.05, 0.26), box(x - 0.3, y - 0.36, 0.05, 0.26))
    return union(box(x, y + 0.3, 0.32, 0.3, 0.06), box(x, y - 0.08, 0.4, 0.12, 0.05)), legs


def umbrella(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    canopy = torch.maximum(circle(x, y - 0.06, 0.58), y - 0.06)
    scallops = union(*(ellipse(x - c, y - 0.06, 0.145, 0.07) for c in (-0.435, -0.145, 0.145, 0.435)))
    hook = torch.maximum((circle(x - 0.08, y - 0.52, 0.08)).abs() - 0.028, -(y - 0.52))
    return torch.maximum(canopy, -scallops), union(box(x, y - 0.27, 0.028, 0.26), hook, box(x, y + 0.55, 0.02, 0.05))


def hat(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    crown = trapezoid(x, y + 0.08, 0.34, 0.3, 0.36)
    return union(crown, ellipse(x, y - 0.32, 0.6, 0.1)), trapezoid(x, y - 0.19, 0.305, 0.3, 0.06)


def car(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    cabin = trapezoid(x + 0.02, y + 0.2, 0.22, 0.36, 0.17)
    wheels = union(circle(x + 0.32, y - 0.24, 0.13), circle(x - 0.32, y - 0.24, 0.13))
    windows = torch.maximum(trapezoid(x + 0.02, y + 0.2, 0.17, 0.29, 0.11), -(x.abs() - 0.025))
    return union(cabin, box(x, y - 0.08, 0.6, 0.18, 0.1)), union(wheels, windows)


def tent(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return trapezoid(x, y, 0.03, 0.62, 0.46), trapezoid(x, y - 0.22, 0.01, 0.17, 0.24)


def heart(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    px, py = x.abs() / 1.05, (0.56 - y) / 1.05
    lobe = ((px - 0.25) ** 2 + (py - 0.75) ** 2 + 1e-12).sqrt() - math.sqrt(2) / 4
    along = 0.5 * (px + py).clamp(min=0)
    near = torch.minimum(px**2 + (py - 1) ** 2, (px - along) ** 2 + (py - along) ** 2)
    wedge = (near + 1e-12).sqrt() * torch.sign(px - py)
    return torch.where(px + py > 1, lobe, wedge) * 1.05, nothing(x)


def star(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    sector = 2 * math.pi / 5
    angle = torch.atan2(x, -y + 1e-9)
    folded = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
    radius = (x * x + y * y + 1e-12).sqrt()
    px, py = radius * torch.cos(folded), radius * torch.sin(folded)
    outer, inner = 0.6, 0.29
    ix, iy = inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    nx, ny = iy, outer - ix
    return ((px - outer) * nx + py * ny) / math.hypot(nx, ny), nothing(x)


SHAPES: tuple[Shape, ...] = (
    mug,
    bottle,
    ball,
    carton,
    lamp,
    vase,
    bowl,
    chair,
    umbrella,
    hat,
    car,
    tent,
    heart,
    star,
)

#: Depth of the rounded edge of each kind: large for round things, small for flat ones.
BEVEL = (0.18, 0.14, 0.46, 0.06, 0.35, 0.30, 0.35, 0.08, 0.45, 0.28, 0.16, 0.10, 0.25, 0.16)
#: A spot of the body that no accent covers in either mirror, and half the side of a square there, in object units.
BODY_SPOT = (
    (0.0, 0.0, 0.12),
    (0.0, 0.2, 0.08),
    (0.0, 0.0, 0.14),
    (0.0, 0.15, 0.12),
    (0.0, -0.2, 0.1),
    (0.0, 0.1, 0.1),
    (0.0, 0.06, 0.08),
    (0.0, -0.3, 0.1),
    (0.0, -0.25, 0.1),
    (0.0, -0.14, 0.1),
    (0.0, 0.09, 0.06),
    (0.0, -0.14, 0.05),
    (0.0, -0.02, 0.1),
    (0.0, 0.0, 0.1),
)
#: Colour of each kind's accent: dark steel, white lid, wood, glass.
ACCENT = (
    (0.2, 0.2, 0.2),
    (0.25, 0.25, 0.28),
    (0.2, 0.2, 0.2),
    (0.86, 0.78, 0.6),
    (0.3, 0.3, 0.33),
    (0.2, 0.2, 0.2),
    (0.3, 0.28, 0.27),
    (0.45, 0.36, 0.28),
    (0.36, 0.3, 0.26),
    (0.15, 0.15, 0.17),
    (0.2, 0.22, 0.26),
    (0.2, 0.18, 0.17),
    (0.2, 0.2, 0.2),
    (0.2, 0.2, 0.2),
)
