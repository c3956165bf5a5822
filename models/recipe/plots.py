"""Pictures for the documentation: the contact sheet and the losses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from models.recipe.captions import Subject
from models.recipe.catalog import BACKGROUNDS, COLOURS, KINDS
from models.recipe.sampling import Painter

INK, GRID = (40, 40, 40), (225, 225, 225)
LINES = {"vae": (200, 80, 40), "flow": (40, 90, 200), "words": (30, 140, 70)}


def to_image(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] in 0..1 as PIL's."""
    return Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def sheet_subjects() -> list[Subject]:
    """Seventy subjects: every kind five times, in colours and places of which no pair comes twice."""
    kinds, colours, places = len(KINDS), len(COLOURS), len(BACKGROUNDS)
    return [Subject(i % kinds, i * 5 % colours, (i + i // colours) % places, i % 3) for i in range(kinds * 5)]


def describe(subject: Subject) -> str:
    """The plainest caption of a subject."""
    article = "an" if COLOURS[subject.colour].name[0] in "aeiou" else "a"
    return f"{article} {COLOURS[subject.colour].name} {KINDS[subject.kind].name} {BACKGROUNDS[subject.background].name}"


def contact_sheet(painter: Painter, size: int, tile: int, columns: int, count: int | None = None) -> Image.Image:
    """Pictures of the sheet's subjects at size x size in 4 forwards, shown at `tile` pixels."""
    texts = [describe(s) for s in sheet_subjects()[:count]]
    pictures = painter.paint(texts, list(range(len(texts))), size, size)
    return grid([to_image(p) for p in pictures], tile, columns)


def grid(images: Sequence[Image.Image], tile: int, columns: int) -> Image.Image:
    """The images, each fitted to tile x tile, row by row."""
    sheet = Image.new("RGB", (columns * tile, math.ceil(len(images) / columns) * tile), "white")
    for i, image in enumerate(images):
        small = image.copy()
        small.thumbnail((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(small, (i % columns * tile, i // columns * tile))
    return sheet


def _one_clock(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a log with their seconds counted from the first process on: a run that resumes begins at 0 again."""
    before, last, counted = 0.0, 0.0, []
    for row in rows:
        if row["seconds"] < last:
            before += last
        last = row["seconds"]
        counted.append({**row, "seconds": before + last})
    return counted


def loss_plot(log: Path) -> Image.Image:
    """Losses of the three stages over the run's seconds, on a logarithmic scale."""
    rows = _one_clock([json.loads(line) for line in log.read_text().splitlines()])
    series = {s: [(r["seconds"], r["loss"]) for r in rows if r["stage"] == s and "loss" in r] for s in LINES}
    points = [p for line in series.values() for p in line] or [(0.0, 1.0)]
    last, low, high = max(p[0] for p in points), min(p[1] for p in points), max(p[1] for p in points)
    floor, ceiling = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    ceiling = max(ceiling, floor + 1)
    image = Image.new("RGB", (900, 420), "white")
    draw = ImageDraw.Draw(image)

    def place(seconds: float, loss: float) -> tuple[float, float]:
        return 60 + 800 * seconds / max(last, 1e-9), 370 - 330 * (math.log10(loss) - floor) / (ceiling - floor)

    for decade in range(floor, ceiling + 1):
        y = place(0, 10.0**decade)[1]
        draw.line([(60, y), (860, y)], fill=GRID)
        draw.text((8, y - 6), f"1e{decade}", fill=INK)
    for i in range(6):
        draw.text((50 + 160 * i, 380), f"{last * i / 5:.0f} s", fill=INK)
    for i, (name, line) in enumerate(series.items()):
        draw.text((700, 20 + 16 * i), name, fill=LINES[name])
        if len(line) > 1:
            draw.line([place(*p) for p in line], fill=LINES[name], width=2)
    return image
