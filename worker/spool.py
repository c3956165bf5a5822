"""Finished pictures that the storage would not take yet, kept on disk so that no retry here draws them again."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from core.logs import get_logger
from worker.png import EncodedPicture

KEPT_SECONDS = 86_400.0
#: A long outage of the storage must not fill the disk: the oldest go first, and are drawn again.
KEPT_FILES = 500

log = get_logger(__name__)


class Spool:
    """A folder of PNG files named by their jobs; trouble with the disk is logged and costs a drawing at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, job_id: str, picture: EncodedPicture) -> None:
        """Keep a picture, whole or not at all."""
        beside = self._path(job_id).with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            beside.write_bytes(picture.sha256.encode() + picture.png)
            beside.replace(self._path(job_id))
        except OSError as error:
            beside.unlink(missing_ok=True)
            log.warning("a picture could not be spooled", job_id=job_id, error=str(error))

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
        """Remove what is too old or too much."""
        files = sorted(self._folder.glob("*"), key=lambda path: path.stat().st_mtime)
        expired = time.time() - KEPT_SECONDS
        for path in [one for one in files if one.stat().st_mtime < expired] + files[:-KEPT_FILES]:
            path.unlink(missing_ok=True)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.spooled"
