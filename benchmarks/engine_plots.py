"""Draws the engine's figures as SVG from the recorded runs: `python -m benchmarks.engine_plots`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
COLOURS = {"copy": "#3b82c4", "unpack": "#e0a030", "compute": "#4f9d69"}
#: The runs of the curve, each on one H200; a later one's figures here take the place of an earlier one's at the same
#: budget.
RUNS = (17, 18)
#: What stood beside it (offloaders: runs 6 and 18): name, GiB of the process by NVML, seconds per picture; a label
#: that would lie on another one is written in the line above, or below its dot.
HIGHER = ("cache-dit's layers", "0.91")
LOWER = ("SGLang's layers", "diffusers group, block", "all resident")
LEFT = "0.88"
PEERS = (
    ("all resident, compiled", 21.1, 0.461),
    ("SGLang's layers, compiled", 5.91, 0.981),
    ("vLLM-Omni's layers, as they are", 6.78, 1.111),
    ("diffusers group, leaf", 4.76, 1.414),
    ("cache-dit's layers", 4.96, 2.062),
    ("diffusers group, block", 5.14, 1.943),
    ("diffusers sequential", 3.13, 12.374),
)


def timeline() -> str:
    """Copy engine and compute during one picture at 5.8 GiB."""
    rows = json.loads((HERE / "engine_timeline.json").read_text())
    end = max(start + length for _, start, length in rows)
    scale = 1100 / end
    parts = [
        _text(10, 20, f"One picture at 5.8 GiB, 4 forwards: {end / 1000:.0f} ms (H200, PCIe 5; under the profiler)")
    ]
    for kind, y in (("copy", 40), ("unpack", 90), ("compute", 90)):
        for name, start, length in rows:
            if name == kind:
                x, width = 80 + start * scale, max(length * scale, 0.4)
                parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="36" fill="{COLOURS[kind]}"/>')
    parts += [_text(10, 62, "copies"), _text(10, 112, "compute"), _text(80, 150, "blue: weights over the bus")]
    parts += [_text(330, 150, "green: kernels of 20 us and more"), _text(620, 150, "yellow: unpacking")]
    return _svg(1200, 165, parts)


def curve() -> str:
    """Seconds per picture against memory, one in flight."""
    rows = [json.loads(line) for line in (HERE / "engine_results.jsonl").read_text().splitlines()]
    ours = [row for row in rows if row["run"] in RUNS and row["what"] == "ours"]
    alone = [row for row in ours if row["in_flight"] == 1 and row["forwards"] == 4]
    # of a run's processes the fastest last
    ordered = sorted(alone, key=lambda row: (RUNS.index(row["run"]), -row["s_per_image"]))
    by_budget = {row["budget"]: row for row in ordered}
    points = sorted((row["process_gib"], row["s_per_image"]) for row in by_budget.values())
    parts = [_text(60, 20, "Seconds per picture (4 forwards, 1024x1024, 1 in flight) against GiB of the whole process")]
    path = " ".join(f"{'M' if not at else 'L'}{_x(g):.0f},{_y(s):.0f}" for at, (g, s) in enumerate(points))
    parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS["copy"]}" stroke-width="2"/>')
    parts += [_dot(gib, seconds, COLOURS["copy"], f"{seconds:.2f}") for gib, seconds in points]
    parts += [_dot(gib, seconds, "#888888", f"{name} {seconds:.2f}") for name, gib, seconds in PEERS if seconds < 4]
    parts += [_text(_x(gib) - 8, 385, str(gib)) for gib in (0, 4, 8, 12, 16, 20, 24)]
    parts += [_text(20, _y(seconds) + 4, str(seconds)) for seconds in (0, 1, 2, 3)]
    parts.append(
        _text(60, 404, "blue: the carousel; grey: others on such machines; off: sequential 12.4, model offload 17.4")
    )
    return _svg(900, 415, parts)


def _x(gib: float) -> float:
    return 60 + gib * 33


def _y(seconds: float) -> float:
    return 360 - seconds * 100


def _dot(gib: float, seconds: float, colour: str, label: str) -> str:
    x, y = _x(gib), _y(seconds)
    side = -230 if gib > 18 and colour != COLOURS["copy"] else -32 if label == LEFT else 6
    up = 21 if label.startswith(HIGHER) else -16 if label.startswith(LOWER) else 7
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{colour}"/>' + _text(x + side, y - up, label)


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-family="sans-serif" font-size="12" fill="#333">{words}</text>'


def _svg(width: int, height: int, parts: list[str]) -> str:
    box = f'<rect width="{width}" height="{height}" fill="white"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    return "\n".join([head, box, *parts, "</svg>\n"])


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    (DOCS / "engine-timeline.svg").write_text(timeline())
    (DOCS / "engine-curve.svg").write_text(curve())


if __name__ == "__main__":
    main()
