"""Our engine's curve and its anchors on one GPU: seconds per picture and memory at several budgets.

    python -m benchmarks.engine_curve --out results.jsonl --minutes 6 --parts probes,anchors,ours

Full-shape random weights, 1024x1024, text encoder and VAE inside the timer, every prompt fresh. One JSON line per
figure, flushed at once, so that a run that is cut short loses nothing. `--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
import torch

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
        self.base = nvml_used()
        self._peak = 0
        self._sampling = True
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while self._sampling:
            self._peak = max(self._peak, nvml_used())
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
        self._peak = 0
        yield
        sync()
        time.sleep(0.03)
        figures["nvml_gib"] = round((self._peak - self.base) / 2**30, 3)
        if torch.cuda.is_available():
            figures["reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
            figures["alloc_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)


def nvml_used() -> int:
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used)
    except Exception:
        return 0


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


def probe(bench: Bench, pipe: Any) -> None:
    """Times of the pieces: one block, the text encoder, the decoder; eager, compiled for one shape, for any."""
    block, where = pipe.transformer.layers[0], bench.where
    dim = pipe.transformer.dim
    angles = torch.rand(1, 4608, sum(pipe.transformer.axes_dims) // 2, device=where)
    freqs = torch.polar(torch.ones_like(angles), angles)
    timestep = torch.randn(1, min(dim, 256), device=where, dtype=torch.bfloat16)
    kinds: dict[str, Callable[..., Any]] = {"eager": block.forward}
    if not bench.arguments.tiny:
        kinds["any length"] = torch.compile(block.forward, dynamic=True)
        kinds["fixed"] = torch.compile(block.forward, dynamic=False)
    for kind, forward in kinds.items():
        for length in (4128, 4608) if not bench.arguments.tiny else (32,):
            x = torch.randn(1, length, dim, device=where, dtype=torch.bfloat16)
            with torch.no_grad():
                seconds = timed(lambda: [forward(x, None, freqs[:, :length], timestep) for _ in range(5)]) / 5  # noqa: B023
            bench.say("block", kind=kind, length=length, ms=round(seconds * 1e3, 3))
        torch._dynamo.reset()


def probe_decoder(bench: Bench, pipe: Any) -> None:
    latents = torch.randn(1, 16, bench.size // 8, bench.size // 8, device=bench.where, dtype=torch.bfloat16)
    decoder = pipe.vae.decoder
    kinds: dict[str, Callable[..., Any]] = {"eager": decoder.forward}
    if not bench.arguments.tiny:
        kinds["fixed"] = torch.compile(decoder.forward, dynamic=False)
        if "slow" in bench.arguments.parts:
            kinds["any size"] = torch.compile(decoder.forward, dynamic=True)
    for kind, forward in kinds.items():
        with torch.no_grad():
            start = time.perf_counter()
            forward(latents)
            sync()
            first = time.perf_counter() - start
            figures: dict[str, Any] = {}
            before = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
            with bench.memory(figures):
                seconds = timed(lambda: forward(latents))  # noqa: B023
        own = figures.get("alloc_gib", 0) - before / 2**30
        bench.say("decoder", kind=kind, ms=round(seconds * 1e3, 2), own_gib=round(own, 3), first_s=round(first, 1))


def probe_text(bench: Bench, pipe: Any) -> None:
    ids = torch.zeros(1, 512, dtype=torch.long, device=bench.where)
    mask = torch.ones(1, 512, dtype=torch.bool, device=bench.where)

    def encode() -> None:
        pipe.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)

    with torch.no_grad():
        bench.say("text encoder", kind="eager", ms=round(timed(encode) * 1e3, 2))
        if bench.arguments.tiny:
            return
        layers = pipe.text_encoder.layers
        torch._dynamo.config.recompile_limit = 256
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=False)
        bench.say("text encoder", kind="fixed", ms=round(timed(encode) * 1e3, 2))
        for layer in layers:
            del layer.forward


def compile_in_place(pipe: Any) -> Callable[[], None]:
    """The same compiled forms as the engine's, on the plain pipeline; returns the undoing."""
    touched = []
    torch._dynamo.config.recompile_limit = 256
    torch._dynamo.config.accumulated_recompile_limit = 1024
    pipe.text_encoder.config.use_cache = False
    transformer = pipe.transformer
    for block in (*transformer.noise_refiner, *transformer.context_refiner, *transformer.layers):
        block.forward = torch.compile(block.forward, dynamic=False)
        touched.append(block)
    for layer in pipe.text_encoder.layers:
        layer.forward = torch.compile(layer.forward, dynamic=False)
        touched.append(layer)
    pipe.vae.decoder.forward = torch.compile(pipe.vae.decoder.forward, dynamic=False)
    touched.append(pipe.vae.decoder)

    def undo() -> None:
        for module in touched:
            del module.forward

    return undo


def anchor(bench: Bench, pipe: Any, kind: str) -> dict[int, str]:
    """The plain pipeline with everything on the card; returns hashes by seed for the parity check."""
    hashes = {}
    for seed in (1, 2):
        hashes[seed] = digest(plain_picture(pipe, f"parity {seed} {SUBJECT}", bench.size, 4, seed))
    for steps in (4, 8) if kind == "compiled" else (4,):
        figures: dict[str, Any] = {}
        with bench.memory(figures):
            seconds = timed(lambda: plain_picture(pipe, bench.fresh_prompt(), bench.size, steps, 0))  # noqa: B023
        bench.say("anchor", kind=kind, forwards=steps, s_per_image=round(seconds, 4), **figures)
    return hashes


def ride(bench: Bench, carousel: Any, in_flight: int, steps: int, pictures: int) -> float:
    """Closed loop: `in_flight` callers, each with one ticket at a time; returns pictures per second."""
    left = threading.Semaphore(pictures)
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            while left.acquire(blocking=False):
                prompt = bench.fresh_prompt()
                size = bench.size
                carousel.submit(prompt=prompt, height=size, width=size, seed=0, steps=steps).result(120)
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


def parity(bench: Bench, carousel: Any, hashes: dict[int, str], kind: str) -> None:
    tickets = {
        seed: carousel.submit(
            prompt=f"parity {seed} {SUBJECT}", height=bench.size, width=bench.size, seed=seed, steps=4
        )
        for seed in hashes
    }
    got = {seed: digest(ticket.result(120)) for seed, ticket in tickets.items()}
    bench.say("parity", kind=kind, equal=got == hashes, ours=got, plain=hashes)


def repeated(bench: Bench, carousel: Any) -> None:
    """Seconds from submit to the first denoising step's end, for a fresh prompt and for a known one."""
    for kind, prompt in (("fresh", bench.fresh_prompt()), ("known", "known"), ("known", "known")):
        text = f"{prompt} {SUBJECT}" if prompt == "known" else prompt
        start = time.perf_counter()
        carousel.submit(prompt=text, height=bench.size, width=bench.size, seed=0, steps=4).result(60)
        bench.say("repeated prompt", kind=kind, s=round(time.perf_counter() - start, 4))


def paced(bench: Bench, carousel: Any) -> None:
    """The same at the bus speed of PCIe 4 cards: every copy is held until it has taken as long as there."""
    carousel.rebudget(5.8)
    device, own = carousel._engine._device, carousel.plan.facts.bandwidth
    for gigabytes in (25, 12):
        device.pace(gigabytes * 1e9, own)
        ride(bench, carousel, 1, 4, 1)
        for in_flight, pictures in ((1, 3), (4, 8)):
            rate = ride(bench, carousel, in_flight, 4, pictures)
            bench.say("paced", gb_per_s=gigabytes, in_flight=in_flight, images_per_s=round(rate, 4))
    device.pace(0, own)


def timeline(bench: Bench, carousel: Any) -> None:
    """What the copy and compute streams do during one picture: start and length in microseconds."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as profile:
        ride(bench, carousel, 1, 4, 1)
        sync()
    rows = []
    for event in profile.events():
        kind = "copy" if "HtoD" in event.name else "unpack" if "_unpack" in event.name else "compute"
        if event.device_type == torch.autograd.DeviceType.CUDA and event.time_range.elapsed_us() >= 20:
            rows.append([kind, round(event.time_range.start), round(event.time_range.elapsed_us())])
    rows.sort(key=lambda row: row[1])
    first = rows[0][1] if rows else 0
    target = Path(bench.arguments.out).with_name("timeline.json")
    target.write_text(json.dumps([[kind, start - first, length] for kind, start, length in rows]))
    bench.say("timeline", events=len(rows))


def peers(bench: Bench, pipe: Any) -> None:
    """diffusers' own ways of offloading on the same work, in this process."""
    for name in ("sequential", "group leaf"):
        if bench.left() < 30:
            bench.say("skipped", part=name)
            return
        bench.attempt(name, lambda: peer(bench, pipe, name))  # noqa: B023


def peer(bench: Bench, pipe: Any, name: str) -> None:
    pipe.remove_all_hooks()
    pipe.to("cpu")
    gc.collect()
    torch.cuda.empty_cache()
    if name == "sequential":
        pipe.enable_sequential_cpu_offload()
    else:
        from diffusers.hooks import apply_group_offloading

        where = {"onload_device": torch.device("cuda"), "offload_device": torch.device("cpu")}
        options = {"offload_type": "leaf_level", "use_stream": True, "record_stream": True, **where}
        for component in (pipe.transformer, pipe.text_encoder):
            apply_group_offloading(component, **options)
        pipe.vae.to("cuda")
    figures: dict[str, Any] = {}
    plain_picture(pipe, bench.fresh_prompt(), bench.size, 4, 0)
    with bench.memory(figures):
        start = time.perf_counter()
        pictures = 1 if name == "sequential" else 3
        for _ in range(pictures):
            plain_picture(pipe, bench.fresh_prompt(), bench.size, 4, 0)
        seconds = (time.perf_counter() - start) / pictures
    bench.say("peer", name=name, s_per_image=round(seconds, 3), **figures)


def curve_point(bench: Bench, carousel: Any, budget: float, loads: list[tuple[int, int, int]]) -> None:
    plan = carousel.plan
    bench.say("plan", budget=budget, text=str(plan))
    for in_flight, steps, pictures in loads:
        figures: dict[str, Any] = {}
        ride(bench, carousel, in_flight, steps, in_flight)
        with bench.memory(figures):
            rate = ride(bench, carousel, in_flight, steps, pictures)
        bench.say(
            "ours",
            budget=budget,
            in_flight=in_flight,
            forwards=steps,
            images_per_s=round(rate, 4),
            s_per_image=round(1 / rate, 4),
            process_gib=round(carousel.report["process_bytes"] / 2**30, 3),
            residents=len(plan.residents),
            yielding=len(plan.yielding),
            **figures,
        )


def ours(bench: Bench, pipe: Any, hashes: dict[str, dict[int, str]]) -> None:
    from worker.offload import Carousel, ImpossibleBudget

    options: dict[str, Any] = {"device": bench.where, "warm_up": ((bench.size, bench.size),)}
    if bench.arguments.tiny:
        options |= {"residents": 2, "packing": True}
    if "eager" in hashes:
        start = time.perf_counter()
        carousel = Carousel(pipe, 5.8, compile="off", **options)
        bench.say("ready", kind="eager", seconds=round(time.perf_counter() - start, 1))
        bench.attempt("parity eager", lambda: parity(bench, carousel, hashes["eager"], "eager"))
        bench.attempt("eager 5.8", lambda: curve_point(bench, carousel, 5.8, [(1, 4, 3)]))
        start = time.perf_counter()
        carousel.close()
        bench.say("closed", seconds=round(time.perf_counter() - start, 1))
    start = time.perf_counter()
    carousel = Carousel(pipe, 5.8, compile="off" if bench.arguments.tiny else "on", **options)
    bench.say("ready", kind="compiled", seconds=round(time.perf_counter() - start, 1))
    reference = hashes.get("compiled", {1: "", 2: ""})
    bench.attempt("parity compiled", lambda: parity(bench, carousel, reference, "compiled"))
    bench.attempt(
        "5.8",
        lambda: curve_point(bench, carousel, 5.8, [(1, 4, 6), (4, 4, 20), (1, 8, 4), (4, 8, 10), (16, 4, 20)]),
        30,
    )
    bench.attempt("repeated prompt", lambda: repeated(bench, carousel))
    if "timeline" in bench.arguments.parts:
        bench.attempt("timeline", lambda: timeline(bench, carousel), 20)
    least = carousel.plan.least_budget / 2**30 + 0.01
    for budget in [float(part) for part in bench.arguments.budgets.split(",")] + [least]:
        if bench.left() < 20:
            bench.say("skipped", budget=budget)
            continue
        try:
            start = time.perf_counter()
            carousel.rebudget(budget)
            bench.say("rebudgeted", budget=budget, seconds=round(time.perf_counter() - start, 2))
        except ImpossibleBudget as error:
            bench.say("refused", budget=budget, message=str(error))
            continue
        bench.attempt(f"{budget}", lambda: curve_point(bench, carousel, budget, [(1, 4, 4), (4, 4, 12)]))  # noqa: B023
        bench.attempt("parity", lambda: parity(bench, carousel, reference, f"at {budget}"))  # noqa: B023
    if "paced" in bench.arguments.parts:
        bench.attempt("paced", lambda: paced(bench, carousel), 30)
    carousel.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--parts", default="probes,eager,compiled,ours")
    parser.add_argument("--budgets", default="2.5,3.0,4.0,8.0,12.0,40.0")
    parser.add_argument("--tiny", action="store_true")
    bench = Bench(parser.parse_args())
    if not bench.arguments.tiny:
        from worker.offload.device import note_memory_before

        note_memory_before(torch.device("cuda", 0))
    from benchmarks.engine_models import build_z_image

    parts = bench.arguments.parts.split(",")
    pipe = build_z_image(bench.where, tiny=bench.arguments.tiny)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    bench.say("built", card=card, torch=torch.__version__, base_gib=round(bench.base / 2**30, 3))
    if "probes" in parts:
        for part in (probe, probe_decoder, probe_text):
            bench.attempt(part.__name__, lambda: part(bench, pipe), 60)  # noqa: B023
    hashes: dict[str, dict[int, str]] = {}
    if "eager" in parts:
        bench.attempt("anchor eager", lambda: hashes.update(eager=anchor(bench, pipe, "eager")), 30)
    if "compiled" in parts and not bench.arguments.tiny:
        undo = compile_in_place(pipe)
        bench.attempt("anchor compiled", lambda: hashes.update(compiled=anchor(bench, pipe, "compiled")), 60)
        undo()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if "ours" in parts:
        bench.attempt("ours", lambda: ours(bench, pipe, hashes), 60)
    if "peers" in parts and not bench.arguments.tiny:
        bench.attempt("peers", lambda: peers(bench, pipe), 60)
    bench.say("end")


if __name__ == "__main__":
    main()
