"""The page in Chromium against a live api; the worker is played."""

from tests.integration.api.conftest import (
    live,
    live_process,
    parts,
    settings,
    storage_environment,
    worker,
)

__all__ = ["live", "live_process", "parts", "settings", "storage_environment", "worker"]
