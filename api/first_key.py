"""The first start of a service that needs keys and has none: make an admin key, and say once where it was put."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import structlog

from api.context import Services
from core.errors import RedisUnavailable

REDIS_SECONDS = 120.0

log = structlog.get_logger(__name__)


def offer_first_key(parts: Services) -> None:
    """Where a key is required and nobody set ZIMG_ADMIN_KEY, make one, as soon as Redis answers."""
    if not parts.settings.is_loopback and not parts.settings.admin_key:
        threading.Thread(target=_make, args=(parts,), name="first-key", daemon=True).start()


def _make(parts: Services) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while time.monotonic() < deadline:
        try:
            key = parts.tenants.first_admin_key()
        except RedisUnavailable:
            time.sleep(1.0)
            continue
        if key is not None:
            path = write_key(parts.settings.first_key_file, key)
            log.warning("an admin key was made; it is kept nowhere else", action="first_key", path=str(path))
        return


def write_key(path: Path, key: str) -> Path:
    """Put the key into a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return path.resolve()
