"""The machine: memory, the container's limit of it, shared memory, disk, open files, the port, the model's files."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import sys
from pathlib import Path

from .findings import GIB, Finding, Surroundings, failed, gib, ok, skipped, warning

OLDEST_PYTHON = (3, 11)
#: What a worker needs beside the weights: Python, torch, CUDA's own, pictures on their way.
WORKER_BYTES = 4 * GIB
DISK_LEAST, DISK_GOOD = 1 * GIB, 10 * GIB
OPEN_FILES = 4096
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: Where workers of one machine share the weights (worker/offload/host_weights.py).
SHARED_WEIGHTS = "zimg-weights-*/data"
#: No limit, as version 1 of control groups writes it.
UNLIMITED = 1 << 60


def check_machine(around: Surroundings) -> list[Finding]:
    """Findings about this machine, for the model that is named."""
    return [
        _python(),
        *_for_drawing(around),
        _disk(around.data_dir),
        _open_files(),
        _port(around),
        _public_address(around),
    ]


def _for_drawing(around: Surroundings) -> list[Finding]:
    """What a worker needs. Where only the client is, or the service elsewhere, nothing of it is a fault."""
    if not around.model:
        why = "not checked here: no worker draws here that is known of (ZIMG_MODEL would say with which model one does)"
        return [skipped(name, why) for name in ("model", "memory", "shared memory")]
    weights = model_bytes(Path(around.model))
    return [_model(around), _memory(around, weights), _shared_memory(around, weights)]


def model_bytes(folder: Path) -> int:
    """Bytes of a model's weights; 0 where they are not on this machine."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors")) if folder.is_dir() else 0


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return failed("python", f"Python {version} is too old", "Use Python 3.11 or newer.")
    return ok("python", version)


def _model(around: Surroundings) -> Finding:
    folder = Path(around.model)
    if not folder.exists():
        if around.model.startswith((".", "/", "~", "models/")):
            fix = "Name a folder in diffusers format, or a hub id, in ZIMG_MODEL; `models/starter` comes with zimg."
            return failed("model", f"{around.model} does not exist", fix)
        return skipped("model", f"{around.model} is taken from the hub at the first start")
    missing = missing_files(folder)
    if missing:
        fix = "Copy the folder again, whole: it must hold model_index.json and every *.safetensors of each part."
        return failed("model", f"{around.model} lacks {', '.join(missing[:5])}", fix)
    return ok("model", f"{around.model}: {gib(model_bytes(folder))} of weights, every file there")


def missing_files(folder: Path) -> list[str]:
    """What a folder in diffusers format ought to hold and does not."""
    index = folder / "model_index.json"
    if not index.is_file():
        return ["model_index.json"]
    try:
        parts = [name for name, kind in json.loads(index.read_text()).items() if isinstance(kind, list) and kind[0]]
    except (ValueError, AttributeError):
        return ["a readable model_index.json"]
    missing = [f"{part}/" for part in parts if not (folder / part).is_dir()]
    for shards in folder.rglob("*.safetensors.index.json"):
        wanted = set(json.loads(shards.read_text())["weight_map"].values())
        missing += [str((shards.parent / name).relative_to(folder)) for name in sorted(wanted)
                    if not (shards.parent / name).is_file()]  # fmt: skip
    return missing


def _memory(around: Surroundings, weights: int) -> Finding:
    available, limit = _available(around.root), memory_limit(around.root)
    room = min(available, limit) if limit else available
    if not room:
        return skipped("memory", "this system does not say how much memory is free")
    what = f"{gib(available)} available" + (f", this container may use {gib(limit)}" if limit else "")
    needed = weights + WORKER_BYTES
    if room < needed:
        fix = (
            f"Give it {gib(needed)}: raise the container's or pod's memory limit, add memory, or use a smaller model. "
            "Weights are kept in host memory once per machine."
        )
        return failed("memory", f"{what}; a worker with this model needs about {gib(needed)}", fix)
    return ok("memory", f"{what}; a worker with this model needs about {gib(needed)}")


def _available(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return 0


def memory_limit(root: Path) -> int:
    """The least memory limit of the control groups that hold this process, in bytes; 0 without one."""
    limits = [_limit(path) for path in _limit_files(root)]
    return min((limit for limit in limits if 0 < limit < UNLIMITED), default=0)


def _limit_files(root: Path) -> list[Path]:
    """memory.max of this group and of those above it (version 2), or memory.limit_in_bytes (version 1)."""
    base = root / "sys/fs/cgroup"
    files = [base / "memory/memory.limit_in_bytes"]
    try:
        own = next(
            line.split(":", 2)[2].strip("/")
            for line in (root / "proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
    except (OSError, StopIteration):
        own = ""
    folder = base / own
    while folder.is_relative_to(base):
        files.append(folder / "memory.max")
        folder = folder.parent
    return files


def _limit(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return 0


def _shared_memory(around: Surroundings, weights: int) -> Finding:
    folder = around.root / "dev/shm"
    if not folder.is_dir():
        return skipped("shared memory", "there is no /dev/shm")
    usage = shutil.disk_usage(folder)
    shared = sum(path.stat().st_size for path in folder.glob(SHARED_WEIGHTS))
    what = f"{gib(usage.free)} of {gib(usage.total)} free at /dev/shm" + (
        f", {gib(shared)} of weights there" * bool(shared)
    )
    if usage.free + shared < weights:
        fix = (
            f"Start the container with --shm-size={-(-weights // GIB) + 1}g (Kubernetes: an emptyDir of medium Memory "
            "there). Without it each worker keeps weights of its own, and a restarted one reads them anew."
        )
        return warning("shared memory", f"{what}; the weights have {gib(weights)}", fix)
    return ok("shared memory", what)


def _disk(folder: Path) -> Finding:
    there = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return failed("disk", f"{there}: {error.strerror}", "Name a readable folder in ZIMG_DATA_DIR.")
    fix = "Free some, or put ZIMG_DATA_DIR on a larger disk: a picture takes 1 to 2 MB."
    if free < DISK_LEAST:
        return failed("disk", f"{gib(free)} free at {there}", fix)
    if free < DISK_GOOD:
        return warning("disk", f"{gib(free)} free at {there}", fix)
    return ok("disk", f"{gib(free)} free at {there}")


def _open_files() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        fix = f"Raise the limit (`ulimit -n`, LimitNOFILE= of systemd) to {OPEN_FILES}: each open stream needs one."
        return warning("open files", f"at most {hard}", fix)
    return ok("open files", "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}")


def _port(around: Surroundings) -> Finding:
    host, told = around.environ.get("ZIMG_HOST") or "127.0.0.1", around.environ.get("ZIMG_PORT") or "8080"
    if not told.isdigit() or not 0 < int(told) < 65_536:
        return failed("port", f"ZIMG_PORT={told} is no port", "Use a number from 1 to 65535.")
    try:
        with socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, int(told)), timeout=2):  # noqa: S104
            return ok("port", f"{host}:{told} is taken; whether by zimg, the service's line says")
    except OSError:
        return ok("port", f"{host}:{told} is free")


def _public_address(around: Surroundings) -> Finding:
    """Whether a service for other machines knows the address by which they reach it."""
    name, address = "public address", around.environ.get("ZIMG_PUBLIC_BASE_URL", "")
    host = around.environ.get("ZIMG_HOST") or LOOPBACK[0]
    if address and not address.startswith(("http://", "https://")):
        return failed(name, f"{address} is no URL", "Write ZIMG_PUBLIC_BASE_URL as https://… with the host's name.")
    if not address and host not in LOOPBACK:
        fix = "Set ZIMG_PUBLIC_BASE_URL to the address that others use; links, in webhook events too, then name it."
        return warning(name, f"the service listens at {host}, and nothing says what others call it", fix)
    return ok(name, address or "this machine's own")
