"""What a carousel achieved so far, in figures."""

from __future__ import annotations

from typing import Any

from worker.offload.device import Device
from worker.offload.placement import Placement
from worker.offload.stopwatch import Stopwatch


def report_of(device: Device, placement: Placement | None, watch: Stopwatch) -> dict[str, Any]:
    """Bytes held and carried, and what the start did; zeros where nothing is placed yet."""
    figures: dict[str, Any] = {
        "process_bytes": device.process_bytes(),
        "fetched_bytes": device.fetched_bytes,
        "state_bytes": device.state_bytes,
        "start_seconds": watch.seconds,
    }
    if placement is None:
        return figures | {"host_bytes": 0, "parkings": 0, "forms": {}, "corrections": 0, "prompt_cache_hits": 0}
    return figures | {
        "host_bytes": placement.assembly.host_bytes,
        "parkings": placement.lot.parkings if placement.lot else 0,
        "forms": placement.forms,
        "corrections": placement.corrections,
        "prompt_cache_hits": placement.assembly.cache.hits,
    }
