"""Other ways to offload, on the engine's work: each peer in a process of its own, with a time limit.

    python -m benchmarks.engine_peers --peers sequential,model,block,leaf,mmgp --out peers.jsonl --limit 110

A peer is tuned with its own options: `--peers block,block:low_cpu_mem_usage=true,leaf:record_stream=false` measures
three; `--sweep` those of TUNINGS. `compiled=true` compiles the blocks first, as the engine compiles its own.

Z-Image at its full shape with random weights, 1024x1024, 4 forwards, text encoder and decode inside the timer, every
prompt fresh. One in flight is the median of a few pictures; four in flight is one batch of four, or four pictures one
after the other, whichever is faster. JSON lines as they come, a table last. `--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import engine_peer_files
from benchmarks.engine_bench import Bench, sync
from benchmarks.engine_models import build_z_image
from benchmarks.engine_probes import compile_in_place

FORWARDS = 4
#: A peer slower than this is timed with as few pictures as give a median.
SLOW_SECONDS = 5.0
#: mmgp's own unit: MB of weights of one model on the card.
MMGP_BUDGET = 2500
#: What is tried beside each peer's usual options, where they have some that change speed against memory. With streams
#: diffusers' groups are of one block, whatever is asked for.
TUNINGS = (
    "block:record_stream=false",
    "block:low_cpu_mem_usage=true",
    "leaf:record_stream=false",
    "leaf:non_blocking=true",
    "leaf:non_blocking=true:record_stream=false",
    "cache-dit:transfer_buckets=8",
    "cache-dit:transfer_buckets=16",
    "mmgp:budget=1200",
    "mmgp:budget=4000",
    "block:compiled=true",
    "sglang:compiled=true",
    "vllm-omni:compiled=true",
)
#: Tells a peer's process what `--files` said.
FILES_VARIABLE = "ZIMG_PEER_FILES"


def resident(pipe: Any, where: str) -> None:
    """Everything on the card."""
    pipe.to(where)


def compiled(pipe: Any, where: str) -> None:
    """Everything on the card, blocks and decoder compiled as the engine compiles its own."""
    pipe.to(where)
    if where != "cpu":
        compile_in_place(pipe)


def sequential(pipe: Any, where: str) -> None:
    """accelerate's hooks on every leaf module."""
    pipe.enable_sequential_cpu_offload(device=where)


def model(pipe: Any, where: str) -> None:
    """One whole component on the card at a time."""
    pipe.enable_model_cpu_offload(device=where)


def block(pipe: Any, where: str, **tuned: Any) -> None:
    """diffusers' group offloading, one block a group."""
    _group(pipe, where, **{"offload_type": "block_level", "num_blocks_per_group": 1} | tuned)


def leaf(pipe: Any, where: str, **tuned: Any) -> None:
    """diffusers' group offloading, one leaf module a group."""
    _group(pipe, where, offload_type="leaf_level", **tuned)


def _group(pipe: Any, where: str, **options: Any) -> None:
    from diffusers.hooks import apply_group_offloading

    streams = {"use_stream": True, "record_stream": True} if where != "cpu" else {}
    options = {"onload_device": torch.device(where), "offload_device": torch.device("cpu"), **streams, **options}
    for component in (pipe.transformer, pipe.text_encoder):
        apply_group_offloading(component, **options)
    pipe.vae.to(where)


def mmgp(pipe: Any, _where: str, budget: int = MMGP_BUDGET) -> None:
    """mmgp with pinned memory, asynchronous copies and no quantising."""
    from mmgp import offload

    parts = {"transformer": pipe.transformer, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
    budgets = {"transformer": budget, "text_encoder": budget, "*": 3000}
    offload.all(parts, pinnedMemory=True, quantizeTransformer=False, budgets=budgets, asyncTransfers=True)


def cache_dit(pipe: Any, where: str, **tuned: Any) -> None:
    """cache-dit's layerwise offload of every leaf module (with streams of their own it moves no others)."""
    from cache_dit.offload.layerwise import layerwise_offload

    options: dict[str, Any] = {"onload_device": where, "offload_device": "cpu", "output_device": where}
    if where != "cpu":
        options |= {"async_transfer": True, "non_blocking": True, "transfer_buckets": 4, "prefetch_limit": True}
    options |= tuned
    for component in (pipe.transformer, pipe.text_encoder):
        leaves = [name for name, module in component.named_modules() if name and not any(module.children())]
        _move_rest(component, leaves, where)
        layerwise_offload(component, **options)
    pipe.vae.to(where)
    _execute_on(pipe, where)


def _move_rest(component: torch.nn.Module, targets: list[str], where: str) -> None:
    """Everything outside the targets to the card."""
    for name, module in component.named_modules():
        if not any(name == target or name.startswith(f"{target}.") for target in targets):
            for tensors in (module._parameters, module._buffers):
                for key, tensor in tensors.items():
                    if tensor is not None:
                        tensors[key] = (
                            torch.nn.Parameter(tensor.to(where), requires_grad=False)
                            if isinstance(tensor, torch.nn.Parameter)
                            else tensor.to(where)
                        )


def _execute_on(pipe: Any, where: str) -> None:
    """Pipelines ask their first component where to compute; here weights lie elsewhere."""
    kind = type(pipe)
    pipe.__class__ = type(kind.__name__, (kind,), {"_execution_device": property(lambda _: torch.device(where))})


def from_files(peer: Callable[[Any, Path], None]) -> Callable[[Any, str], None]:
    """A peer whose own file is loaded from the folder `--files`; what it does not stream goes to the card."""

    def start(pipe: Any, where: str) -> None:
        for component, path in ((pipe.transformer, "layers"), (pipe.text_encoder, "layers")):
            _move_rest(component, [path], where)
        pipe.vae.to(where)
        peer(pipe, Path(os.environ[FILES_VARIABLE]))
        _execute_on(pipe, where)

    return start


PEERS: dict[str, Callable[..., None]] = {
    "resident": resident,
    "compiled": compiled,
    "sequential": sequential,
    "model": model,
    "block": block,
    "leaf": leaf,
    "mmgp": mmgp,
    "cache-dit": cache_dit,
    "sglang": from_files(engine_peer_files.sglang),
    "vllm-omni": from_files(engine_peer_files.vllm_omni),
}


def read_peer(spec: str) -> tuple[str, dict[str, Any]]:
    """A peer's name and options from `name:option=value:…`; values are JSON. Raises ValueError."""
    name, *pairs = spec.split(":")
    if name not in PEERS:
        raise ValueError(f"no such peer: {name}; there are {', '.join(PEERS)}")
    if not all("=" in pair for pair in pairs):
        raise ValueError(f"{spec}: options are written as name:option=value")
    return name, {key: json.loads(value) for key, value in (pair.split("=", 1) for pair in pairs)}


def draw(bench: Bench, pipe: Any, batch: int) -> float:
    """Seconds of one call for `batch` fresh prompts; raises ValueError when a picture is flat or missing."""
    prompts = [bench.fresh_prompt() for _ in range(batch)]
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in range(batch)]
    size = {"height": bench.size, "width": bench.size}
    start = time.perf_counter()
    images = pipe(prompts, **size, num_inference_steps=FORWARDS, guidance_scale=0.0, generator=generators).images
    sync()
    seconds = time.perf_counter() - start
    if len(images) != batch or any(low == high for image in images for low, high in image.getextrema()):
        raise ValueError("a picture is flat or missing")
    return seconds


def measure(bench: Bench, spec: str) -> None:
    """One peer's figures."""
    name, options = read_peer(spec)
    start = time.perf_counter()
    home = bench.where if name in ("resident", "compiled") else "cpu"
    pipe = build_z_image(bench.where, tiny=bench.arguments.tiny)
    if home == "cpu":
        pipe.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    built = time.perf_counter()
    if options.pop("compiled", False) and not bench.arguments.tiny:
        compile_in_place(pipe)
    PEERS[name](pipe, bench.where, **options)
    bench.say("peer ready", peer=spec, build_s=round(built - start, 1), setup_s=round(time.perf_counter() - built, 1))
    for batch in (1, 4):
        figures: dict[str, Any] = {}
        with bench.memory(figures):
            warm = draw(bench, pipe, batch)  # compiles, where this peer compiles
            times = [draw(bench, pipe, batch)]
            more = (2 if batch == 1 else 1) - (times[0] > SLOW_SECONDS)
            times += [draw(bench, pipe, batch) for _ in range(more)]
        seconds = statistics.median(times)
        rate = round(batch / seconds, 4)
        bench.say(
            "peer", peer=spec, batch=batch, s=round(seconds, 3), images_per_s=rate, warm_s=round(warm, 3), **figures
        )


def run_all(arguments: argparse.Namespace) -> int:
    """Every peer in its own process; the number of those that failed."""
    out = Path(arguments.out or "engine_peers.jsonl")
    already = out.stat().st_size if out.exists() else 0
    failed = 0
    for name in chosen(arguments):
        command = [sys.executable, "-m", "benchmarks.engine_peers", "--one", name, "--out", str(out)]
        start = time.monotonic()
        try:
            code = subprocess.run(
                [*command, *(["--tiny"] if arguments.tiny else [])], timeout=arguments.limit, check=False
            ).returncode
            reason = f"exit {code}" if code else ""
        except subprocess.TimeoutExpired:
            reason = f"over its limit of {arguments.limit:.0f} s"
        failed += bool(reason)
        ended = {"what": "peer ended", "peer": name, "seconds": round(time.monotonic() - start, 1), "failure": reason}
        with out.open("a") as file:
            file.write(json.dumps(ended) + "\n")
        print(json.dumps(ended), flush=True)
    with out.open() as file:
        file.seek(already)
        print(table([json.loads(line) for line in file]))
    return failed


def chosen(arguments: argparse.Namespace) -> list[str]:
    """The peers to run, as they are named on the command line."""
    return [*filter(None, arguments.peers.split(",")), *(TUNINGS if arguments.sweep else ())]


def table(rows: list[dict[str, Any]]) -> str:
    """A short table of recorded lines: one row per peer; `-` where a figure is missing.

    Where the peer `compiled` is among them, each figure of one in flight is also told as so many times its own.
    """
    anchor = (_of_batch([row for row in rows if row.get("peer") == "compiled"], 1) or {}).get("s")
    wide = max((len(row.get("peer", "")) for row in rows), default=0) + 2
    heads = f"{'s/picture':>10}{'of compiled':>13}{'1: GiB':>8}{'4: pictures/s':>15}{'4: GiB':>8}"
    lines = [f"{'peer':<{wide}}{heads}  how; failure"]
    for name in dict.fromkeys(row["peer"] for row in rows if "peer" in row):
        own = [row for row in rows if row.get("peer") == name]
        one, four = ({**row} if (row := _of_batch(own, batch)) else {} for batch in (1, 4))
        rate, how = max((one.get("images_per_s", 0.0), "one by one"), (four.get("images_per_s", 0.0), "batch of 4"))
        gib = (four if how == "batch of 4" else one).get("nvml_gib", "-")
        share = f"{one['s'] / anchor:.2f}" if anchor and "s" in one else "-"
        reasons = [row["error"] if row["what"] == "failed" else row.get("failure", "") for row in own]
        failure = next(filter(None, reasons), "")[:90]
        row = f"{name:<{wide}}{one.get('s', '-'):>10}{share:>13}{one.get('nvml_gib', '-'):>8}{rate or '-':>15}{gib:>8}"
        lines.append(f"{row}  {how if rate else ''}; {failure}".rstrip("; "))
    return "\n".join(lines)


def _of_batch(rows: list[dict[str, Any]], batch: int) -> dict[str, Any] | None:
    return next((row for row in rows if row["what"] == "peer" and row["batch"] == batch), None)


def run_one(arguments: argparse.Namespace) -> int:
    """This process's peer: 1 when it failed, its reason recorded."""
    bench = Bench(arguments)
    try:
        measure(bench, arguments.one)
    except Exception as error:
        bench.say("failed", peer=arguments.one, error=f"{type(error).__name__}: {error}"[:600])
        traceback.print_exc()
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="sequential,model,block,leaf,mmgp")
    parser.add_argument("--out", default="")
    parser.add_argument("--limit", type=float, default=110.0, help="seconds for each peer")
    parser.add_argument("--sweep", action="store_true", help="and the tunings that are listed in TUNINGS")
    parser.add_argument("--one", default="", help="run this peer in this process")
    parser.add_argument("--files", default="", help="folder of the peers that are single files (engine_peer_files.py)")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    try:
        for spec in filter(None, [*chosen(arguments), arguments.one]):
            read_peer(spec)
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault(FILES_VARIABLE, arguments.files)
    return run_one(arguments) if arguments.one else run_all(arguments)


if __name__ == "__main__":
    sys.exit(main())
