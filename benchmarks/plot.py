"""Line plots as SVG, drawn by hand: a picture for the log without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 400, 70, 50, 30, 60
COLORS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed")


@dataclass(frozen=True)
class Line:
    """One curve and its name in the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def write_svg(path: Path, title: str, x_name: str, y_name: str, lines: Sequence[Line], *, log_x: bool = False) -> None:
    """Draw all lines over one pair of axes; y starts at 0."""
    scale = math.log10 if log_x else float
    xs = [scale(value) for line in lines for value in line.x]
    top = max(value for line in lines for value in line.y) * 1.1 or 1.0
    low, high = min(xs), max(xs)

    def place(x: float, y: float) -> str:
        across = (scale(x) - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)
        return f"{LEFT + across:.1f},{HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 24, title, anchor="middle", size=16),
        _text(WIDTH / 2, HEIGHT - 14, x_name, anchor="middle"),
        _text(LEFT, TOP - 8, y_name, anchor="middle"),
    ]
    for step in range(5):
        value = top * step / 4
        y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * step / 4
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{value:.3g}", anchor="end"))
    marks = sorted({value for line in lines for value in line.x})
    for value in marks if len(marks) <= 6 else (marks[0], marks[len(marks) // 2], marks[-1]):
        x = float(place(value, 0).split(",")[0])
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{value:,.0f}", anchor="middle"))
    for number, line in enumerate(lines):
        points = " ".join(place(x, y) for x, y in zip(line.x, line.y, strict=True))
        color = COLORS[number % len(COLORS)]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(_text(WIDTH - RIGHT - 4, TOP + 16 * number + 12, line.name, anchor="end", color=color))
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, color: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{escape(words)}</text>'
    )
