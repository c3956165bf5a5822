"""Which programs the local service runs, in which order they stop, and what stands in their environment. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from core.settings import Settings
from deploy.local import embedded

ROOT = Path(__file__).resolve().parents[2]
PROGRESS_SUFFIX = ".progress"  # after the program's name, by which the keeper finds it; of the scheduler as it is

#: The whole stop takes less than 20 s: the services together, then storage, then Redis, each of them its seconds.
DRAIN_SECONDS = 10.0  # a worker finishes what it can, and gives the rest back
SERVICE_STOP_SECONDS = 12
STORAGE_STOP_SECONDS = 2
REDIS_STOP_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised process. Groups with a higher `stop_first` stop earlier; `start_seconds` makes it count as up."""

    name: str
    command: list[str]
    group: str
    stop_first: int
    stop_seconds: int
    start_seconds: int
    signal_when_orphaned: str
    environment: dict[str, str] = field(default_factory=dict)
    is_listener: bool = False


def embedded_environment(
    environ: Mapping[str, str], ports: Mapping[str, int], keys: Mapping[str, str]
) -> dict[str, str]:
    """REDIS_URL and S3 variables of the embedded parts, for those that `environ` does not replace by real ones."""
    added: dict[str, str] = {}
    if not environ.get("REDIS_URL"):
        added["REDIS_URL"] = embedded.valkey_url(ports["redis"], password=keys["redis_password"])
    if not environ.get("S3_ENDPOINT_URL"):
        added |= embedded.seaweedfs_environment(
            ports, access_key=keys["s3_access_key"], secret_key=keys["s3_secret_key"]
        )
    return added


def make_programs(
    settings: Settings,
    environ: Mapping[str, str],
    ports: Mapping[str, int],
    keys: Mapping[str, str],
    cards: Sequence[str] = (),
) -> list[Program]:
    """All programs; the embedded Redis and storage only where `environ`, the caller's own, names no others.

    A worker for each of `cards` (see cards.py), and one where there is none or no choice.
    """
    shared = embedded_environment(environ, ports, keys) | {
        "ZIMG_DATA_DIR": str(settings.data_dir),
        "ZIMG_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }
    workers = _workers(settings, environ, shared, cards)
    programs = [_service("api", shared), _service("scheduler", shared), *workers]
    programs.append(_keeper(settings, ["scheduler", *(worker.name for worker in workers)]))
    if not environ.get("S3_ENDPOINT_URL"):
        programs.append(_storage(settings, ports, shared))
    if not environ.get("REDIS_URL"):
        programs.append(_redis(settings, ports, keys))
    return programs


def _service(module: str, shared: Mapping[str, str], **more: str) -> Program:
    return Program(
        name=module,
        command=[sys.executable, "-m", module],
        group="services",
        stop_first=40,
        stop_seconds=SERVICE_STOP_SECONDS,
        start_seconds=3,
        signal_when_orphaned="SIGKILL",  # nothing of theirs needs a farewell: Redis and S3 hold all there is
        environment={**shared, **more},
    )


def _workers(
    settings: Settings, environ: Mapping[str, str], shared: Mapping[str, str], cards: Sequence[str]
) -> list[Program]:
    drain = min(DRAIN_SECONDS, float(environ.get("ZIMG_DRAIN_SECONDS") or DRAIN_SECONDS))
    made = []
    for number, card in enumerate(cards or [""]):
        name = f"worker-{number}" if number else "worker"
        more = {"ZIMG_DRAIN_SECONDS": str(drain), "ZIMG_PROGRESS_FILE": str(_progress_file(settings, name))}
        if len(cards) > 1:  # each sees its own card alone, so that no worker leaves a context on another's
            more["CUDA_VISIBLE_DEVICES"] = card
        made.append(replace(_service("worker", shared, **more), name=name))
    return made


def _progress_file(settings: Settings, program: str) -> Path:
    return settings.data_dir / f"{program}{PROGRESS_SUFFIX}"


def _keeper(settings: Settings, watched: Sequence[str]) -> Program:
    files = [str(_progress_file(settings, program)) for program in watched]
    return Program(
        name="keeper",
        command=[sys.executable, "-m", "deploy.local.keeper", *files],
        group="keeper",
        stop_first=50,  # first of all: it must not start again what is being stopped
        stop_seconds=1,
        start_seconds=1,
        signal_when_orphaned="SIGKILL",
        is_listener=True,
    )


def _storage(settings: Settings, ports: Mapping[str, int], shared: Mapping[str, str]) -> Program:
    return Program(
        name="storage",
        command=embedded.seaweedfs_command(settings.data_dir, ports, bucket=settings.s3_bucket),
        group="storage",
        stop_first=20,
        stop_seconds=STORAGE_STOP_SECONDS,
        start_seconds=1,
        signal_when_orphaned="SIGTERM",
        environment=dict(shared),
    )


def _redis(settings: Settings, ports: Mapping[str, int], keys: Mapping[str, str]) -> Program:
    return Program(
        name="redis",
        command=embedded.valkey_command(
            settings.data_dir, ports["redis"], password=keys["redis_password"], memory_gib=settings.redis_memory_gib
        ),
        group="redis",
        stop_first=10,  # last, so that every other part can still write its last words
        stop_seconds=REDIS_STOP_SECONDS,
        start_seconds=1,
        signal_when_orphaned="SIGTERM",
    )
