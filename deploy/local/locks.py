"""One service per data folder: who may start, and when the processes of the last run are gone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigurationError

LOCK, IN_USE = "lock", "in-use"


@contextmanager
def single_service(data_dir: Path) -> Iterator[None]:
    """Hold the data folder while the body runs; raises ConfigurationError if another service holds it."""
    descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConfigurationError(
            f"Another zimg (process {owner or 'unknown'}) runs on the data folder {data_dir}. Stop it first, or start "
            "this one beside it with: make run PORT=8081 DATA_DIR=data2"
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    try:
        yield
    finally:
        os.close(descriptor)


def wait_until_unused(data_dir: Path, *, seconds: float, say: Callable[[str], None]) -> None:
    """Return once no process of an earlier run lives; raises ConfigurationError if one still does after `seconds`."""
    deadline = time.monotonic() + seconds
    descriptor = os.open(data_dir / IN_USE, os.O_RDWR | os.O_CREAT, 0o600)
    said = False
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"Processes of an earlier run still use {data_dir}; `fuser {data_dir / IN_USE}` names them."
                )
            if not said:
                say("waiting for the processes of the last run to end")
                said = True
            time.sleep(0.1)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
