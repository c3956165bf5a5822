"""How gunicorn serves the api: one process, many plain threads, bounded heads."""

from __future__ import annotations

import gc
import signal
import threading
from ipaddress import ip_network
from pathlib import Path
from types import FrameType
from typing import Any

from core.settings import Settings

_settings = Settings.from_env()

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "api.bounded_worker.BoundedWorker"  # gthread, one address after another, that waits for no client
threads = _settings.api_threads
worker_connections = 2_000  # open connections, idle kept-alive ones included
keepalive = 30
# Whose X-Forwarded-Proto is believed, as X-Forwarded-For is. gunicorn takes no network with host bits.
forwarded_allow_ips = ",".join(str(ip_network(network, strict=False)) for network in _settings.trusted_proxies)
timeout = 60  # of the worker's own heartbeat, not of requests
graceful_timeout = 8
limit_request_line = 8_190
limit_request_fields = 64
limit_request_field_size = 8_190
if Path("/dev/shm").is_dir():  # noqa: S108 - gunicorn's heartbeat file must not wait for a disk
    worker_tmp_dir = "/dev/shm"  # noqa: S108
accesslog = None
loglevel = "warning"
proc_name = "zimg-api"


def post_worker_init(worker: Any) -> None:
    """What the process is made of is set aside from garbage collection, and it stops as `_end_waits_first` says."""
    spare_collections()
    _end_waits_first(worker)


def spare_collections() -> None:
    """What lives as long as the process is looked through no more: a full collection took 90 ms, in which all wait.

    And fewer collections of what is young: one for about five requests, not several for each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _end_waits_first(worker: Any) -> None:
    """When asked to stop, end streams and waiting calls first: they would use up the graceful time."""
    parts, stop = worker.wsgi.extensions["zimg"], signal.getsignal(signal.SIGTERM)

    def on_term(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=parts.close, name="close-waits", daemon=True).start()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, on_term)
