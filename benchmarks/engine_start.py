"""How long a worker's engine takes from the import of torch to its first picture, by where its weights are found.

    python -m benchmarks.engine_start --folder /tmp/full --out starts.jsonl

Starts of the worker's own code: a parent imports all, and its fork loads and draws, as with `python -m worker`.
*cold*: weights packed from the model's files; *packed*: read from the packed store on disk; *restart*: found in shared
memory; *warm*: as *restart*, of a worker that died while its parent lives: seconds count from the fork. The model is
written to the folder first, full shape, random weights; its files then lie in the page cache, unless `--evict` asks the
system to forget them. Seconds count from just before the import of torch; `cpu_s` is the processor's. `settled_s`:
nothing is owed any more (a restart rides its warm-up behind the first tickets). `parts_s` tells what the engine did
till then, `host_held_gib` its most host memory but for pages of files (also in each five seconds since the fork),
`card_peak_gib` the card's most in use by NVML,
`compiler_s` what torch's compiler did meanwhile, `forms` whether it found them.
`--tiny` tries the script out on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.sampling import HostMemory, Sampler

KINDS = ("cold", "packed", "restart", "warm")
CHILD_SECONDS = 400.0
STORE_SECONDS = 150.0
#: Functions of the compiler that took less in all are not told.
LEAST_SECONDS = 0.1


class Stamps:
    """Seconds of each milestone, by the clock and of the processor, and what else a start tells."""

    def __init__(self, kind: str) -> None:
        self.told: dict[str, Any] = {"what": "start", "kind": kind, "cpu_s": {}}
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self.begun, self._spent, self.has_spent = time.perf_counter(), time.process_time(), 0.0

    def go_on_in_fork(self) -> None:
        """In the child, whose processor time begins anew, with what the parent `has_spent`."""
        self._spent = time.process_time() - self.has_spent

    def __call__(self, name: str) -> None:
        self.told[f"{name}_s"] = round(time.perf_counter() - self.begun, 2)
        self.has_spent = time.process_time() - self._spent
        self.told["cpu_s"][name] = round(self.has_spent, 2)


def start_once(kind: str, *, profiled: bool = False) -> None:
    """In the child: start as the worker does and draw one picture; prints the seconds of each milestone."""
    gc.disable()  # as the worker does
    stamp = Stamps(kind)
    import torch  # noqa: F401 - how long it takes is told

    stamp("torch")
    from core.settings import Settings
    from worker import pipeline
    from worker.offload import host_weights
    from worker.warm_parent import cuda_asleep, end_with

    host_weights.SETTLE_SECONDS = 20.0  # long enough for the first picture to come first
    stamp("imported")
    settings = Settings.from_env()
    with cuda_asleep():
        pipeline.import_ahead(settings)
    stamp("classes")
    gc.freeze()
    parent = os.getpid()
    if pid := os.fork():  # as the worker's parent does
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    end_with(parent)
    stamp.go_on_in_fork()
    if kind == "warm":
        stamp.begin()
    memory, sampler = HostMemory(), Sampler()
    memory.start()
    if profiled:
        sampler.start()
    model = pipeline.load_model(settings)
    pipeline.collect_garbage_from_now_on()
    stamp("loaded")
    engine: Any = pipeline.make_engine(settings, model)
    stamp("ready")
    if profiled:
        sampler.stop()
        stamp.told["profile_s"] = sampler.inclusive()
        sampler = Sampler()
        sampler.start()
    stamp.told |= what_was_found(engine)
    width, height = model.profile.default_size
    image = engine.submit(prompt="a red mug", height=height, width=width, seed=0, steps=4).result(120)
    stamp("picture")
    if profiled:
        sampler.stop()
        stamp.told["picture_profile_s"] = sampler.inclusive()
    engine.settle()
    stamp("settled")
    memory.stop()
    stamp.told |= what_was_drawn(image)
    stamp.told["forms when settled"] = engine.report["forms"]
    stamp.told |= {"host_held_gib": gib(memory.held), "host_files_gib": gib(memory.files)}
    stamp.told["host_held_each_5s_gib"] = [gib(held) for held in memory.held_each_5s]
    stamp.told["card_peak_gib"] = round(memory.card / 2**30, 3)  # beside a budget of so many hundredths
    stamp.told["weights_gib"] = gib(engine.report["host_bytes"])
    if kind == "cold":
        stamp.told["kept_s"] = wait_for_store(Path(settings.weights_dir), stamp.begun)
    engine.close()
    print(json.dumps(stamp.told), flush=True)


def what_was_found(engine: Any) -> dict[str, Any]:
    """What the engine did until it was ready, and how much of it an earlier start had left."""
    report, plan = engine.report, engine.plan
    return {
        "parts_s": report["start_seconds"],
        "compiler_s": compiler_seconds(),
        "forms": {**report["forms"], **compiled_forms()},
        "packing": plan.packing_fault or plan.packing,
        "corrections": report["corrections"],
    }


def what_was_drawn(image: Any) -> dict[str, Any]:
    """The first picture's size and a hash of its pixels, the same in every kind of start; and on what.

    `pinned_cached_gib`: the most that torch pinned by itself, for pictures and for copies of kernels that it timed.
    """
    import torch

    return {
        "pinned_cached_gib": gib(torch.cuda.host_memory_stats().get("allocated_bytes.peak", 0)),
        "size": list(image.size),
        "pixels": hashlib.sha256(image.tobytes()).hexdigest()[:16],
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def gib(nbytes: int) -> float:
    """GiB, to two places."""
    return round(nbytes / 2**30, 2)


def compiler_seconds() -> dict[str, float]:
    """What torch itself says its compiler spent, by function; outer ones contain inner ones."""
    from torch._dynamo.utils import compilation_time_metrics

    sums = {name: round(sum(seconds), 2) for name, seconds in compilation_time_metrics.items()}
    return {
        name: seconds for name, seconds in sorted(sums.items(), key=lambda pair: -pair[1]) if seconds >= LEAST_SECONDS
    }


def compiled_forms() -> dict[str, int]:
    """How many forms were traced, and how many of them were found whole, found in part, or compiled.

    Those that were loaded as they are were not traced; the engine counts them.
    """
    from torch._dynamo.utils import counters

    whole, kernels = counters["aot_autograd"], counters["inductor"]
    names = {
        "traced": counters["stats"]["unique_graphs"],
        "found": whole["autograd_cache_hit"],
        "not found": whole["autograd_cache_miss"],
        "not to be kept": whole["autograd_cache_bypass"],
        "kernels found": kernels["fxgraph_cache_hit"],
        "kernels compiled": kernels["fxgraph_cache_miss"],
    }
    return {name: int(count) for name, count in names.items()}


def wait_for_store(weights: Path, begun: float) -> float | None:
    """Seconds until the engine has kept its packed weights on disk, for the next start; None where it does not."""
    from worker.offload import host_weights

    if not any(host_weights.SHARED_MEMORY.glob(f"{host_weights.PREFIX}*")):
        return None
    deadline = time.monotonic() + STORE_SECONDS
    while not any(weights.glob(f"{host_weights.PREFIX}*/index.json")) and time.monotonic() < deadline:
        time.sleep(0.2)
    return round(time.perf_counter() - begun, 2)


def forget(kind: str, weights: Path) -> None:
    """Remove what a start of this kind must not find."""
    from worker.offload import drop_stores
    from worker.offload.host_weights import SHARED_MEMORY

    if kind in ("cold", "packed"):
        drop_stores(SHARED_MEMORY)
    if kind == "cold":
        drop_stores(weights)


def evict(folder: Path) -> None:
    """Ask the system to forget the cached pages of these files."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the model's files are, or go")
    parser.add_argument("--out", default="")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--evict", action="store_true", help="read from the disk, not from cached pages")
    parser.add_argument("--keep", action="store_true", help="leave the weights in shared memory and on disk")
    parser.add_argument(
        "--profile", action="store_true", help="tell where threads were; slower, and memory may be short"
    )
    parser.add_argument("--float32", action="store_true", help="store the denoiser in float32, as the published one is")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one", default="", choices=["", *KINDS])
    arguments = parser.parse_args()
    if arguments.one:
        start_once(arguments.one, profiled=arguments.profile)
        return 0
    make = "from pathlib import Path; from benchmarks.engine_models import saved_model; "
    make += f"saved_model(Path({str(arguments.folder)!r}), tiny={arguments.tiny}, float32={arguments.float32})"
    subprocess.run([sys.executable, "-c", make], check=True)  # in a child: it takes the card and 20 GB
    failed = 0
    for kind in arguments.kinds.split(","):
        line = run_child(kind, arguments)
        failed += "failure" in line
        print(json.dumps(line), flush=True)
        if arguments.out:
            with Path(arguments.out).open("a") as file:
                file.write(json.dumps(line) + "\n")
    if not arguments.keep:
        forget("cold", arguments.folder.with_name("weights"))
    return failed


def run_child(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One start's line; `failure` in it when there was no picture."""
    weights = arguments.folder.with_name("weights")
    forget(kind, weights)
    if arguments.evict:
        for folder in (arguments.folder, weights):
            evict(folder)
    environ = {**os.environ, "ZIMG_MODEL": str(arguments.folder), "ZIMG_WEIGHTS_DIR": str(weights)}
    command = [sys.executable, "-m", "benchmarks.engine_start", "--folder", str(arguments.folder), "--one", kind]
    command += ["--profile"] if arguments.profile else []
    try:
        done = subprocess.run(
            command, env=environ, stdout=subprocess.PIPE, text=True, timeout=CHILD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"what": "start", "kind": kind, "failure": f"no picture within {CHILD_SECONDS:.0f} s"}
    if done.returncode:
        return {"what": "start", "kind": kind, "failure": f"exit {done.returncode}"}
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**line, "evicted": arguments.evict}


if __name__ == "__main__":
    sys.exit(main())
