"""How much host memory a cold start takes: a model's files loaded, and every block packed, as the engine does it.

    python -m benchmarks.engine_host_memory --folder /tmp/full --limit-gib 16.2

Told apart are the memory that the process holds (its own and shared) and the pages of files that it looks at, which the
system takes back when others want room. `--limit-gib` runs it in a memory cgroup of that size (root's right): a start
that needs more is killed there, as in a container. `--tiny` tries the script out on a small model that it makes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine_start import evict, gib
from benchmarks.sampling import HostMemory, resident_bytes

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


def load_and_pack(folder: Path, *, casts_later: bool) -> dict[str, Any]:
    """In the child: what it took."""
    memory = HostMemory()
    memory.start()
    begun = time.perf_counter()
    import torch

    from worker import pipeline
    from worker.offload import drop_stores, folder_identity
    from worker.offload.assembly import Assembly
    from worker.offload.device import Device
    from worker.offload.host_weights import SHARED_MEMORY
    from worker.offload.stopwatch import Stopwatch
    from worker.offload.strategies import find_strategy

    class Card(Device):
        """The host, taken for a card: weights are cast on their way to it."""

        is_cuda = True

    pipe, cast = pipeline.read_pipeline(str(folder), torch.bfloat16, casts_later=casts_later)
    before, _ = resident_bytes()
    assembly = Assembly(pipe, find_strategy(pipe), Card(torch.device("cpu")), cast)
    assembly.fill_host(True, folder_identity(folder), "", Stopwatch())
    memory.stop()
    assert assembly.host is not None
    packed, is_shared = assembly.host.nbytes, assembly.host.is_shared
    assembly.host.close()
    drop_stores(SHARED_MEMORY)
    return {
        "what": "host memory",
        "cast_on_the_way": list(cast),
        "packed_gib": gib(packed),
        "is_shared": is_shared,
        "loaded_gib": gib(before),
        "held_gib": gib(memory.held),
        "beyond_packed_gib": gib(memory.held - packed),
        "files_gib": gib(memory.files),
        "seconds": round(time.perf_counter() - begun, 1),
    }


@contextmanager
def cgroup_of(limit_bytes: int) -> Iterator[Path]:
    """A memory cgroup of this size, for as long as the context lasts; raises OSError where it can not be made."""
    is_v1 = V1.is_dir()
    group = (V1 if is_v1 else V2) / f"zimg-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if is_v1 else "memory.max")).write_text(str(limit_bytes))
        yield group
    finally:
        group.rmdir()


def peak_of(group: Path) -> int:
    """Most bytes that the group was charged, cached file pages included."""
    names = ("memory.max_usage_in_bytes", "memory.peak")
    return next((int((group / name).read_text()) for name in names if (group / name).exists()), 0)


def run_limited(command: list[str], limit_gib: float) -> int:
    """Run it in a cgroup of that size; its exit status."""
    with cgroup_of(int(limit_gib * 2**30)) as group:

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        status = subprocess.run(command, check=False, preexec_fn=enter).returncode
        print(json.dumps({"what": "cgroup", "limit_gib": limit_gib, "peak_gib": gib(peak_of(group)), "exit": status}))
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the model's files are")
    parser.add_argument("--limit-gib", type=float, default=0.0)
    parser.add_argument("--evict", action="store_true", help="read from the disk, not from cached pages")
    parser.add_argument("--casts-first", action="store_true", help="cast what is stored otherwise while it is loaded")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(load_and_pack(arguments.folder, casts_later=not arguments.casts_first)), flush=True)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "tiny"
        if arguments.tiny:
            from benchmarks.engine_models import saved_model

            saved_model(folder, tiny=True)
        if arguments.evict:
            evict(folder)
        command = [sys.executable, "-m", "benchmarks.engine_host_memory", "--child", "--folder", str(folder)]
        command += ["--casts-first"] if arguments.casts_first else []
        if arguments.limit_gib:
            return run_limited(command, arguments.limit_gib)
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
