"""What the engine's benchmarks share: clock, memory sampler, results as JSON lines, the plain pipeline."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from worker.offload.card_memory import used_bytes

warnings.filterwarnings("ignore")

SUBJECT = "a white ceramic teapot on a pure white background, studio light, product photo"


class Bench:
    """One process's run: clock, memory sampler, results."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.started = time.monotonic()
        self.size = 64 if arguments.tiny else 1024
        self.where = "cpu" if arguments.tiny else "cuda"
        self.out = Path(arguments.out).open("a") if arguments.out else None  # noqa: SIM115 - open for the whole run
        self.prompts = 0
        self.rate = 0.0  # operations per second of a large matrix product; 0: not measured
        self.anchors: dict[int, float] = {}  # seconds by forwards: compiled, everything on the card
        self.trails: dict[str, tuple[Any, Any]] = {}  # by anchor: its pipeline, and how its first picture came about
        self.base = nvml_used()
        self._peak = self._count = 0
        self._sampling = True
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while self._sampling:
            count, used = self._count, nvml_used()  # takes a while, in which another count may begin
            if count == self._count:
                self._peak = max(self._peak, used)
            time.sleep(0.01)

    def say(self, what: str, **figures: Any) -> None:
        line = json.dumps({"what": what, "at": round(time.monotonic() - self.started, 1), **figures})
        print(line, flush=True)
        if self.out:
            self.out.write(line + "\n")
            self.out.flush()

    def left(self) -> float:
        return self.arguments.minutes * 60 - (time.monotonic() - self.started)

    def attempt(self, name: str, part: Callable[[], None], needs: float = 0.0) -> None:
        """Run a part unless too little time is left; a failure is a figure too."""
        if self.left() < needs:
            self.say("skipped", part=name, seconds_left=round(self.left()))
            return
        try:
            part()
        except Exception as error:
            self.say("failed", part=name, error=f"{type(error).__name__}: {error}"[:600])
            logging.getLogger(__name__).exception(name)

    def fresh_prompt(self) -> str:
        self.prompts += 1
        return f"{self.prompts:05d} {SUBJECT}"

    @contextmanager
    def memory(self, figures: dict[str, Any]) -> Iterator[None]:
        """Peak memory while inside: the whole card's by NVML above what was there before, and torch's."""
        sync()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._count += 1
        self._peak = 0
        yield
        sync()
        time.sleep(0.03)
        figures["nvml_gib"] = round((self._peak - self.base) / 2**30, 3)
        if torch.cuda.is_available():
            figures["reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
            figures["alloc_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)


def nvml_used() -> int:
    """Bytes in use on the card that this process sees first; 0 where NVML can not tell."""
    return used_bytes(torch.device("cuda", 0))


def pools() -> dict[str, float]:
    """GiB that torch's allocator holds, by pool and stream, and what of it is free."""
    held: dict[str, float] = {}
    if not torch.cuda.is_available():
        return held
    for segment in torch.cuda.memory_snapshot():
        for name, nbytes in (
            ("held", segment["total_size"]),
            ("free", segment["total_size"] - segment["allocated_size"]),
        ):
            pool = segment.get("segment_pool_id", (0, 0))[1]
            key = f"{name} in pool {pool}, stream {segment['stream'] % 1000}"
            held[key] = round(held.get(key, 0.0) + nbytes / 2**30, 3)
    return held


def copied_back(profile: Any, file: Path) -> list[int]:
    """Bytes of each copy from the card to the host in a profile, which is written to `file` on the way."""
    profile.export_chrome_trace(str(file))
    events = json.loads(file.read_text())["traceEvents"]
    return [int(event["args"]["bytes"]) for event in events if "DtoH" in event["name"]]


def sync() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(function: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds of a call, device work included, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        sync()
        start = time.perf_counter()
        function()
        sync()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def digest(image: Any) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def plain_picture(pipe: Any, prompt: str, size: int, steps: int, seed: int) -> Any:
    return pipe(
        prompt,
        height=size,
        width=size,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=torch.Generator("cpu").manual_seed(seed),
    ).images[0]


def ride(bench: Bench, carousel: Any, in_flight: int, steps: int, pictures: int) -> float:
    """Closed loop at the bench's size, every prompt fresh; returns pictures per second."""
    names = itertools.count(bench.prompts + 1)
    bench.prompts += pictures
    return _closed_loop(
        lambda: f"{next(names):05d} {SUBJECT}", carousel, in_flight, pictures, (bench.size, bench.size), steps
    )


def ride_pictures(engine: Any, in_flight: int, pictures: int, width: int, height: int, name: str) -> float:
    """Closed loop of 4 forwards with prompts that begin with `name` and a number; returns pictures per second."""
    names = itertools.count()
    return _closed_loop(lambda: f"{name} {next(names):04d} {SUBJECT}", engine, in_flight, pictures, (width, height), 4)


def _closed_loop(
    prompt: Callable[[], str], engine: Any, in_flight: int, pictures: int, size: tuple[int, int], steps: int
) -> float:
    """`in_flight` callers, each with one ticket at a time."""
    left = threading.Semaphore(pictures)
    failures: list[BaseException] = []
    width, height = size

    def caller() -> None:
        try:
            while left.acquire(blocking=False):
                ticket = engine.submit(
                    prompt=prompt(), height=height, width=width, seed=0, steps=steps, guidance_scale=0.0,
                    lane="interactive", alone=False, on_step=None,
                )  # fmt: skip
                ticket.result(120)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=caller) for _ in range(in_flight)]
    start = time.perf_counter()
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    if failures:
        raise failures[0]
    return pictures / (time.perf_counter() - start)
