"""Many pictures of mixed sizes on one engine: none fails, none is black, memory stays flat, no size waits unfairly.

    python -m benchmarks.engine_soak --seconds 300 --state soak.json --out soak.jsonl

1,000 pictures, four in flight; what a part drew is kept in the state file, so that parts add up over several calls, and
told as it comes, so that a part that is cut off is not lost. Each part first draws every size in company, uncounted.
Never may the allocator hold more than when the engine was ready; where it does is told, with its requests to the card
since every size was drawn once.
Full-shape random weights draw noise, so black means: not finite, or one colour. Exit 1 when something was wrong.
`--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine_bench import SUBJECT, Bench, pools
from benchmarks.engine_models import build_z_image
from worker.guards import classify, judge
from worker.offload import Carousel

#: So many of the sizes are named at the start: the shapes that come with the model.
NAMED = 3
#: (width, height): those, and some others.
SIZES = ((1024, 1024), (832, 1216), (1216, 832), (768, 768), (512, 512), (1024, 768))
TINY_SIZES = ((64, 64), (48, 64), (64, 48), (32, 32))
IN_FLIGHT = 4
#: p95 of a size at most so many times its median.
WORST_SPREAD = 1.2
#: Pictures of a size before its spread means anything.
LEAST_SAMPLES = 20
#: Pictures between two savings of the state: a part that is cut off loses no more.
SAVE_EVERY = 25
#: Captions from short to long, in copies of the subject.
LENGTHS = (1, 1, 2, 4)


@dataclass
class Tally:
    """What all parts together drew: seconds per size, each part's first and highest reserved bytes, and each growth
    (after so many pictures, by so many bytes, at so many allocations from the card).
    """

    drawn: int = 0
    black: int = 0
    out_of_memory: int = 0
    failed: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    reserved: list[list[int]] = field(default_factory=list)
    growth: list[list[int]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Tally:
        """The state so far; a new one where there is no file."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, path: Path) -> None:
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(vars(self)))
        draft.rename(path)

    def faults(self) -> list[str]:
        """What must not be; an empty list for a good run."""
        counts = {"black": self.black, "out of memory": self.out_of_memory, "failed": self.failed}
        found = [f"{count} {name}" for name, count in counts.items() if count]
        found += [f"reserved memory grew by {most - first} bytes" for first, most in self.reserved if most > first]
        for size, row in self.by_size().items():
            if row["pictures"] >= LEAST_SAMPLES and row["spread"] > WORST_SPREAD:
                found.append(f"{size}: p95 is {row['spread']} times the median")
        return found

    def note_reserved(self, nbytes: int) -> None:
        """Compare with what this part began with."""
        first, most = self.reserved[-1]
        if nbytes > most:
            self.growth.append([self.drawn, nbytes - most, device_allocations()])
        self.reserved[-1] = [first, max(most, nbytes)]

    def by_size(self) -> dict[str, dict[str, float]]:
        """Median, p95 and their quotient per size."""
        rows = {}
        for size, seconds in sorted(self.seconds.items()):
            middle, ordered = statistics.median(seconds), sorted(seconds)
            late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
            rows[size] = {
                "pictures": len(seconds),
                "median_s": round(middle, 4),
                "p95_s": round(late, 4),
                "spread": round(late / middle, 3),
            }
        return rows


class Soak:
    """One part: four callers in a closed loop until the pictures or the time are up."""

    def __init__(self, bench: Bench, carousel: Any, tally: Tally, sizes: tuple[tuple[int, int], ...]) -> None:
        self._bench, self._carousel, self._tally, self._sizes = bench, carousel, tally, sizes
        self._state = Path(bench.arguments.state)
        self._lock = threading.Lock()
        self._begun = tally.drawn + tally.failed + tally.out_of_memory
        self.asked = 0  # of the card for memory, until all sizes had been drawn once

    def run(self, pictures: int, deadline: float) -> None:
        """Draw until `pictures` in all, or until the `deadline` (monotonic seconds)."""
        self._tally.reserved.append([reserved_bytes()] * 2)
        self._warm_up()
        self._tally.note_reserved(reserved_bytes())
        self.asked = device_allocations()
        callers = [threading.Thread(target=self._call, args=(pictures, deadline)) for _ in range(IN_FLIGHT)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def _warm_up(self) -> None:
        """Every size with every caption length, all of them in flight at once."""
        orders = [(size, copies) for copies in sorted(set(LENGTHS)) for size in self._sizes]
        tickets = [
            self._carousel.submit(prompt=f"warm {at} {caption(copies)}", height=height, width=width, seed=at, steps=4)
            for at, ((width, height), copies) in enumerate(orders)
        ]
        for ticket in tickets:
            ticket.result(120)

    def _call(self, pictures: int, deadline: float) -> None:
        while time.monotonic() < deadline:
            with self._lock:
                number, self._begun = self._begun, self._begun + 1
            if number >= pictures:
                return
            self._draw(number)

    def _draw(self, number: int) -> None:
        width, height = self._sizes[number % len(self._sizes)]
        prompt = f"{number:05d} {caption(LENGTHS[number // len(self._sizes) % len(LENGTHS)])}"
        start = time.perf_counter()
        try:
            ticket = self._carousel.submit(prompt=prompt, height=height, width=width, seed=number, steps=4)
            image = ticket.result(120)
        except Exception as error:
            with self._lock:
                if classify(error) == "memory":
                    self._tally.out_of_memory += 1
                else:
                    self._tally.failed += 1
            self._bench.say("failed", number=number, error=f"{type(error).__name__}: {error}"[:300])
            return
        seconds = time.perf_counter() - start
        good = judge(image, finite=ticket.finite).is_good
        with self._lock:
            self._tally.drawn += 1
            self._tally.black += not good
            self._tally.seconds.setdefault(f"{width}x{height}", []).append(round(seconds, 4))
            self._tally.note_reserved(reserved_bytes())
            if self._tally.drawn % SAVE_EVERY == 0:
                self._tally.save(self._state)
                asked = device_allocations() - self.asked
                self._bench.say("soak so far", drawn=self._tally.drawn, faults=self._tally.faults(), asked=asked)


def overdrawn(peak_gib: float, budget_gib: float) -> list[str]:
    """The fault of a card that held more than the budget at any time; an empty list where it did not."""
    over = peak_gib - budget_gib
    return [f"the card held {peak_gib} GiB, {over:.3f} over the budget"] if over > 0 else []


def caption(copies: int) -> str:
    return " ".join([SUBJECT] * copies)


def device_allocations() -> int:
    """How often torch's allocator asked the card for memory so far; 0 on a CPU."""
    return int(torch.cuda.memory_stats().get("num_device_alloc", 0)) if torch.cuda.is_available() else 0


def reserved_bytes() -> int:
    """What torch's allocator holds; 0 on a CPU."""
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0


def ready_carousel(bench: Bench, sizes: tuple[tuple[int, int], ...], budget: float) -> Any:
    """The engine over full-shape weights, warmed up as a worker's."""
    pipe = build_z_image(bench.where, tiny=bench.arguments.tiny)
    options: dict[str, Any] = {"device": bench.where, "seats": IN_FLIGHT, "compile_cache": bench.arguments.forms}
    if bench.arguments.tiny:
        options |= {"residents": 2, "packing": True, "compile": "off"}
    warm_up = tuple(sorted(((height, width) for width, height in sizes[:NAMED]), key=lambda size: -size[0] * size[1]))
    start = time.perf_counter()
    carousel = Carousel(pipe, budget, warm_up=warm_up, **options)
    bench.say("ready", seconds=round(time.perf_counter() - start, 1), plan=str(carousel.plan))
    return carousel


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="")
    parser.add_argument("--state", default="engine_soak.json")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=480.0, help="of this part, loading and the start counted")
    parser.add_argument("--budget", type=float, default=5.8)
    parser.add_argument("--forms", default="", help="a folder where compiled forms are kept")
    parser.add_argument("--named", action="store_true", help="only the sizes that the start is told of")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    arguments.minutes = 60.0
    state, sizes = Path(arguments.state), TINY_SIZES if arguments.tiny else SIZES
    sizes = sizes[:NAMED] if arguments.named else sizes
    tally, bench = Tally.load(state), Bench(arguments)
    with contextlib.closing(ready_carousel(bench, sizes, arguments.budget)) as carousel:
        figures: dict[str, Any] = {}
        begun, before, healed = time.perf_counter(), tally.drawn, carousel.report["out_of_memory"]
        bench.say("pools", when="before", **pools())
        soak = Soak(bench, carousel, tally, sizes)
        with bench.memory(figures):
            soak.run(arguments.pictures, bench.started + arguments.seconds)
        figures["images_per_s"] = round((tally.drawn - before) / (time.perf_counter() - begun), 3)
        bench.say("pools", when="after", **pools())
        figures["device_allocations"] = device_allocations() - soak.asked
        healed = carousel.report["out_of_memory"] - healed
        figures["process_gib"] = round(carousel.report["process_bytes"] / 2**30, 3)
    tally.save(state)
    faults = [*tally.faults(), *overdrawn(figures["nvml_gib"], arguments.budget)]
    faults += [f"{healed} times out of memory, and drawn at another try"] if healed else []
    for size, row in tally.by_size().items():
        bench.say("soak size", size=size, **row)
    bench.say("soak", drawn=tally.drawn, of=arguments.pictures, faults=faults, growth=tally.growth, **figures)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
