"""What the worker does with a picture between its engine and the storage: is it fit, and its PNG.

    python -m benchmarks.picture_end

Milliseconds at 1024x1024, the best of several, for noise (what random weights draw, the worst case) and for a smooth
picture with grain; beside them what Pillow's own encoder takes, with its size.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from core.job import GenerationRequest
from core.model_profile import ModelProfile
from worker.guards import judge
from worker.png import encode_png

SIDE = 1024
PROFILE = ModelProfile("zimg-bench", "1", (SIDE, SIDE), (SIDE, SIDE), (SIDE, SIDE))
REQUEST = GenerationRequest(prompt="a mug", width=SIDE, height=SIDE, seed=1, preset="turbo", model="zimg-bench")


def pictures() -> dict[str, Image.Image]:
    """Noise, and a smooth slope with grain."""
    random, slope = np.random.default_rng(0), np.linspace(0, 127, SIDE)
    grain = random.normal(0, 6, (SIDE, SIDE, 3))
    smooth = (slope[:, None, None] + slope[None, :, None] + grain).clip(0, 255).astype(np.uint8)
    noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return {"noise": Image.fromarray(noise), "smooth": Image.fromarray(smooth)}


def with_pillow(image: Image.Image) -> bytes:
    """Pillow's encoder at its fastest level."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def best_ms(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return round(min(times) * 1e3, 1)


def main() -> None:
    """Print a line for each picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    for name, image in pictures().items():
        line = {
            "picture": name,
            "judge_ms": best_ms(lambda: judge(image, finite=True), repeats),  # noqa: B023 - called at once
            "png_ms": best_ms(lambda: encode_png(image, REQUEST, PROFILE), repeats),  # noqa: B023
            "pillow_ms": best_ms(lambda: with_pillow(image), repeats),  # noqa: B023
            "bytes": len(encode_png(image, REQUEST, PROFILE).png),
            "pillow_bytes": len(with_pillow(image)),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
