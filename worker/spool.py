"""Finished pictures that the storage would not take yet, kept on disk so that no retry here draws them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from core.errors import RedisUnavailable
from core.logs import get_logger
from worker.png import EncodedPicture

SUFFIX = ".spooled"
#: What a worker that was killed had half written is removed then.
KEPT_SECONDS = 86_400.0
SWEEP_SECONDS = 60.0
#: Also where nothing is spooled any more: a picture that nobody wants, prompt inside, lies here no longer than that.
SWEEP_AT_LEAST_SECONDS = 3_600.0

log = get_logger(__name__)


def _none_ended(ids: Sequence[str]) -> Collection[str]:
    return ()


class Spool:
    """A folder of PNG files named by their jobs; trouble with the disk is logged and costs a drawing at most."""

    def __init__(self, folder: Path, ended: Callable[[Sequence[str]], Collection[str]] = _none_ended) -> None:
        """`ended` says which of some jobs need no picture any more; it may raise RedisUnavailable."""
        self._folder, self._ended = folder, ended
        self._lock = threading.Lock()
        self._swept_at = float("-inf")

    def keep(self, job_id: str, picture: EncodedPicture) -> bool:
        """Keep a picture, whole or not at all; whether that worked."""
        beside = self._path(job_id).with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep_now_and_then()
            beside.write_bytes(picture.sha256.encode() + picture.png)
            beside.replace(self._path(job_id))
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            log.warning("a picture could not be spooled", job_id=job_id, error=str(error))
            return False
        return True

    def find(self, job_id: str) -> EncodedPicture | None:
        """The picture of a job, if it lies here unharmed."""
        try:
            data = self._path(job_id).read_bytes()
        except OSError:
            return None
        sha256, png = data[:64].decode("ascii", "replace"), data[64:]
        return EncodedPicture(png, sha256) if hashlib.sha256(png).hexdigest() == sha256 else None

    def drop(self, job_id: str) -> None:
        """The picture is stored, or nobody wants it any more."""
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            log.warning("a spooled picture could not be removed", job_id=job_id, error=str(error))

    def sweep(self) -> None:
        """Remove pictures of jobs that ended, whoever ended them, and old remains of half written ones."""
        paths = {path.stem: path for path in self._folder.glob(f"*{SUFFIX}")}
        over = [paths[job_id] for job_id in self._ended_jobs(list(paths)) if job_id in paths]
        over += [path for path in self._folder.glob("*.part") if _age_seconds(path) > KEPT_SECONDS]
        for path in over:
            path.unlink(missing_ok=True)

    def _sweep_now_and_then(self) -> None:
        with self._lock:
            if time.monotonic() - self._swept_at < SWEEP_SECONDS:
                return
            self._swept_at = time.monotonic()
        self.sweep()

    def _ended_jobs(self, ids: Sequence[str]) -> Collection[str]:
        try:
            return set(self._ended(ids)) if ids else ()
        except RedisUnavailable:
            return ()

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}{SUFFIX}"


class Sweeper:
    """Sweeps a spool at its start and every hour, in a thread of its own."""

    def __init__(self, spool: Spool, every_seconds: float = SWEEP_AT_LEAST_SECONDS) -> None:
        self._spool, self._every = spool, every_seconds
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while True:
            try:
                self._spool.sweep()
            except Exception as error:
                log.warning("the spool could not be swept", action="sweep", error=str(error))
            if self._closed.wait(self._every):
                return


def _age_seconds(path: Path) -> float:
    """0 for a file that another worker took away meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
