"""Times of the engine's pieces alone, and the anchors: the plain pipeline with everything on the card."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.engine_bench import SUBJECT, Bench, digest, plain_picture, sync, timed
from benchmarks.engine_trail import trail_of
from worker.offload.kept_forms import BY_RULE


def probe(bench: Bench, pipe: Any) -> None:
    """Times of the pieces: one block, the text encoder, the decoder; eager, compiled for one shape, for any."""
    block, where = pipe.transformer.layers[0], bench.where
    dim = pipe.transformer.dim
    angles = torch.rand(1, 4608, sum(pipe.transformer.axes_dims) // 2, device=where)
    freqs = torch.polar(torch.ones_like(angles), angles)
    timestep = torch.randn(1, min(dim, 256), device=where, dtype=torch.bfloat16)
    kinds: dict[str, Callable[..., Any]] = {"eager": block.forward}
    if not bench.arguments.tiny:
        kinds["any length"] = torch.compile(block.forward, dynamic=True, options=dict(BY_RULE))
        kinds["fixed"] = torch.compile(block.forward, dynamic=False, options=dict(BY_RULE))
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
        kinds["fixed"] = torch.compile(decoder.forward, dynamic=False, options=dict(BY_RULE))
        if "slow" in bench.arguments.parts:
            kinds["any size"] = torch.compile(decoder.forward, dynamic=True, options=dict(BY_RULE))
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


def probe_strips(bench: Bench, pipe: Any) -> None:
    """The decode in strips of several heights beside the plain eager one: difference, time, memory."""
    from worker.offload.strips import decode_in_strips

    decoder, scale = pipe.vae.decoder, 1.0
    latents = torch.randn(1, 16, bench.size // 8, bench.size // 8, device=bench.where, dtype=torch.bfloat16)
    with torch.no_grad():
        plain = decoder(latents).float()
        scale = float(1 / plain.std() / 4)  # random weights: bring the picture to the spread of a real one
        shown = ((plain * scale + 0.5).clamp(0, 1) * 255).round()
        for mib in (64, 32, 16, 8):
            figures: dict[str, Any] = {}
            before = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
            with bench.memory(figures):
                seconds = timed(lambda: decode_in_strips(decoder, latents, mib << 20))  # noqa: B023
            strips = decode_in_strips(decoder, latents, mib << 20).float()
            most = int((((strips * scale + 0.5).clamp(0, 1) * 255).round() - shown).abs().max())
            own = figures.get("alloc_gib", 0) - before / 2**30
            same = bool(torch.equal(strips, plain))
            bench.say("strips", mib=mib, equal=same, most=most, ms=round(seconds * 1e3, 1), own_gib=round(own, 3))


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
            layer.forward = torch.compile(layer.forward, dynamic=False, options=dict(BY_RULE))
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
        block.forward = torch.compile(block.forward, dynamic=False, options=dict(BY_RULE))
        touched.append(block)
    for layer in pipe.text_encoder.layers:
        layer.forward = torch.compile(layer.forward, dynamic=False, options=dict(BY_RULE))
        touched.append(layer)
    pipe.vae.decoder.forward = torch.compile(pipe.vae.decoder.forward, dynamic=False, options=dict(BY_RULE))
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
    with trail_of(pipe) as trail:
        plain_picture(pipe, f"parity 1 {SUBJECT}", bench.size, 4, 1)
    bench.trails[kind] = (pipe, trail)
    for steps in (4, 8) if kind == "compiled" else (4,):
        figures: dict[str, Any] = {}
        with bench.memory(figures):
            seconds = timed(lambda: plain_picture(pipe, bench.fresh_prompt(), bench.size, steps, 0))  # noqa: B023
        if kind == "compiled":
            bench.anchors[steps] = seconds
        bench.say("anchor", kind=kind, forwards=steps, s_per_image=round(seconds, 4), **figures)
    return hashes
