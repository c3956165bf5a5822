"""What a worker says of itself with each heartbeat, and what everybody may read of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker process. `slots` is how many jobs it carries at once; times are milliseconds since the epoch."""

    name: str  # unique per process start where possible: host-pid-random
    slots: int
    host: str = ""
    model: str = ""
    queue: str = ""  # the model's id if it is a further one of the service (Settings.models); "" = the default
    device: str = ""
    version: str = ""
    plan: str = ""  # the engine's memory plan, for people
    started_ms: int = 0
    heartbeat_ms: int = 0  # the server's clock; read back, never sent
    gauges: Mapping[str, float] = field(default_factory=dict)  # names as in core.metrics.WORKER_GAUGES
    paused: bool = False  # read back, never sent

    def to_fields(self) -> dict[str, str]:
        """As stored in the worker's hash."""
        return {
            "slots": str(self.slots),
            "host": self.host,
            "model": self.model,
            "queue": self.queue,
            "device": self.device,
            "version": self.version,
            "plan": self.plan,
            "gauges": json.dumps(dict(self.gauges)),
        }

    @classmethod
    def from_fields(cls, name: str, heartbeat_ms: float, fields: Mapping[str, str], paused: bool) -> WorkerInfo:
        """As read back from Redis."""
        return cls(
            name=name,
            slots=int(fields.get("slots", 0)),
            host=fields.get("host", ""),
            model=fields.get("model", ""),
            queue=fields.get("queue", ""),
            device=fields.get("device", ""),
            version=fields.get("version", ""),
            plan=fields.get("plan", ""),
            started_ms=int(fields.get("started", 0)),
            heartbeat_ms=int(heartbeat_ms),
            gauges=json.loads(fields.get("gauges", "{}")),
            paused=paused,
        )
