"""The job and everything that travels with it: frozen values, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

Named = TypeVar("Named", bound=StrEnum)


def known_value(kind: type[Named], text: str, otherwise: Named) -> Named:
    """The value of `kind` that `text` names; `otherwise` where it names none: a newer release may have written it."""
    try:
        return kind(text)
    except ValueError:
        return otherwise


def known_fields(kind: Any, text: str) -> dict[str, Any]:
    """The JSON object in `text`, less what the dataclass `kind` does not know: a newer release may have written it."""
    names = _names_of(kind)
    return {name: value for name, value in json.loads(text).items() if name in names}


@cache
def _names_of(kind: Any) -> frozenset[str]:
    return frozenset(one.name for one in fields(kind))


class JobState(StrEnum):
    """Where a stored job stands; only a JobStore script moves it (docs/architecture.md has the diagram)."""

    QUEUED = "QUEUED"  # in its tenant's queue; the scheduler releases it
    RELEASED = "RELEASED"  # a Celery message is out; a worker claims it, or the reaper queues it again
    RUNNING = "RUNNING"  # a worker holds the lease; it completes or fails, or the reaper takes it back
    RETRY = "RETRY"  # waits out its backoff; the reaper queues it when due
    FOLLOWING = "FOLLOWING"  # mirrors the running job with the same fingerprint
    SUCCEEDED = "SUCCEEDED"
    DEAD = "DEAD"
    CANCELED = "CANCELED"

    @property
    def is_terminal(self) -> bool:
        """No transition leaves a terminal state."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELED})

#: state -> the states that one transition may lead to. The Lua scripts carry the same table in their conditions.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RELEASED, JobState.CANCELED, JobState.DEAD, JobState.SUCCEEDED}),
    JobState.RELEASED: frozenset(
        {JobState.RUNNING, JobState.QUEUED, JobState.CANCELED, JobState.DEAD, JobState.SUCCEEDED}
    ),
    JobState.RUNNING: frozenset(
        {JobState.SUCCEEDED, JobState.RETRY, JobState.QUEUED, JobState.DEAD, JobState.CANCELED}
    ),
    JobState.RETRY: frozenset({JobState.QUEUED, JobState.CANCELED, JobState.DEAD, JobState.SUCCEEDED}),
    JobState.FOLLOWING: frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELED, JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.DEAD: frozenset(),
    JobState.CANCELED: frozenset(),
}


class Priority(StrEnum):
    """Where a job stands among those of its own tenant and lane; others' jobs are never touched by it."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def head_start_ms(self) -> int:
        """As if the job had come so much earlier. Bounded, so that even a low one has its turn."""
        return {Priority.LOW: -PRIORITY_MS, Priority.NORMAL: 0, Priority.HIGH: PRIORITY_MS}[self]


PRIORITY_MS = 600_000


class Lane(StrEnum):
    """Who waits: a person (interactive) or a list (batch)."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """All that determines the pixels. Sizes in pixels; `seed` is always set (the api draws a missing one).

    `variation` is the part of the prompt that varies another picture's; it stands in the PNG and determines no pixel.
    """

    prompt: str
    width: int
    height: int
    seed: int
    preset: str
    model: str
    variation: str = ""

    def to_json(self) -> str:
        """As JSON, without a variation where there is none: such a request reads as it always did."""
        said = {name: value for name in _REQUEST_FIELDS if (value := getattr(self, name)) or name != "variation"}
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> GenerationRequest:
        return cls(**known_fields(cls, text))


_REQUEST_FIELDS = tuple(one.name for one in fields(GenerationRequest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One stored PNG: its object key in the bucket and what can be checked about it."""

    key: str
    sha256: str
    width: int
    height: int
    size_bytes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Picture:
        return cls(**known_fields(cls, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job did not succeed: a stable code, a sentence for a person, and whether another try may end better."""

    code: str
    message: str
    retryable: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Failure:
        return cls(**known_fields(cls, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running job is. `stage` is one of waiting, encode, denoise, decode, upload; steps are forwards."""

    stage: str
    step: int
    steps: int

    @property
    def value(self) -> float:
        """Share of the whole job that is done, 0 to 1; encode and decode together weigh one step."""
        return min(1.0, self.step / (self.steps + 1)) if self.stage != "upload" else self.steps / (self.steps + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What submit stores, in one script, with its reservation. Times in server milliseconds are the script's own."""

    id: str
    tenant: str
    lane: Lane
    request: GenerationRequest
    fingerprint: str = ""  # "" = never deduplicated
    idempotency_key: str = ""
    body_hash: str = ""  # of the client's body: the same key with another body is refused
    repeat_key: str = ""  # of a call without a key, for a double click; "" = each call is a new job
    repeat_seconds: float = 0.0  # the same call within this time is answered with the same job
    cost_units: int = 1
    work: float = 0.0  # for fairness and ETA: 1 = a usual picture; 0 = as its cost
    deadline_seconds: int = 3600
    max_attempts: int = 5
    priority: Priority = Priority.NORMAL
    webhook_url: str = ""  # its end is told there, besides the tenant's endpoints
    base_url: str = ""  # of the request that made it, for the links in events; "" = the service's own
    batch_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    retention_seconds: int = 0  # 0 = the service's default
    queue: str = ""  # the id of a further model of the service; "" = the default model's
    again: str = ""  # the dead job that it tries again: in its batch it is the same picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stored job as read back from Redis. Times are server milliseconds since the epoch, 0 = not yet."""

    id: str
    tenant: str
    lane: Lane
    state: JobState
    request: GenerationRequest
    fingerprint: str
    cost_units: int
    created_ms: int
    deadline_ms: int
    started_ms: int = 0
    finished_ms: int = 0
    epoch: int = 0  # counts releases; a message of an older epoch is void
    attempt: int = 0  # claims so far
    crashes: int = 0  # leases that ran out while the job ran alone
    alone: bool = False  # the next claim runs by itself
    cancel_requested: bool = False
    leader: str = ""
    worker: str = ""
    batch_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    picture: Picture | None = None
    failure: Failure | None = None
    expires_ms: int = 0  # when the picture is removed
    picture_removed: bool = False  # or past its retention, by the server's clock when it was read
    queue: str = ""  # as in NewJob
    priority: Priority = Priority.NORMAL
    webhook_url: str = ""
    base_url: str = ""  # as in NewJob
    work: float = 0.0  # as in NewJob
    retention_seconds: int = 0  # of its picture
    key: str = ""  # the counters of the key that asked, if that has limits of its own (core.look.KeyLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A Celery message: the hint that a job may be claimed."""

    job_id: str
    epoch: int
    queue: str = ""  # as in NewJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run a job until it runs out; `token` is the fencing token that every write must carry."""

    job_id: str
    token: str
    attempt: int
    alone: bool
    tenant: str
    lane: Lane
    created_ms: int
    deadline_ms: int
    request: GenerationRequest


class LeaseStatus(StrEnum):
    """What a renewal answers."""

    HELD = "held"
    LOST = "lost"  # somebody else has the job, or it ended: drop the work
    CANCEL = "cancel"  # held, but its owner wants it stopped
    LATE = "late"  # held, drawn, and past its deadline: the storage did not come back in time
