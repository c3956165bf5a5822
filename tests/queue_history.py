"""What happened to every job, read offline from the server's append-only file, and whether it may happen.

The file holds each write of each script in its order, a script's writes as one transaction, from before the first fault
to after the last: nothing has to be recorded by the processes under test, and a killed server's history goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.redis_client import PREFIX
from tests.queue_fairness import LANE_WEIGHTS, Move, Queue

#: The state diagram of docs/architecture.md. None: not stored yet. From QUEUED and RETRY to SUCCEEDED: a late result of
#: the latest run.
NEXT_STATES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"QUEUED", "FOLLOWING", "SUCCEEDED"}),
    "QUEUED": frozenset({"RELEASED", "SUCCEEDED", "DEAD", "CANCELED"}),
    "RELEASED": frozenset({"RUNNING", "QUEUED", "SUCCEEDED", "DEAD", "CANCELED"}),
    "RUNNING": frozenset({"SUCCEEDED", "RETRY", "QUEUED", "DEAD", "CANCELED"}),
    "RETRY": frozenset({"QUEUED", "SUCCEEDED", "DEAD", "CANCELED"}),
    "FOLLOWING": frozenset({"QUEUED", "SUCCEEDED", "DEAD", "CANCELED"}),
}
#: What a job's stream tells. A row of a list is told of from its first run on.
NEXT_TOLD: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"queued", "running", "succeeded", "failed", "canceled"}),
    "queued": frozenset({"running", "succeeded", "failed", "canceled"}),
    "running": frozenset({"queued", "canceling", "succeeded", "failed", "canceled"}),
    "canceling": frozenset({"queued", "succeeded", "failed", "canceled"}),
}
TOLD_KEYS = tuple(f"{PREFIX}{kind}".encode() for kind in ("job:", "ev:", "ledger", "lim:"))
TOLD_ENDS = {"SUCCEEDED": "succeeded", "DEAD": "failed", "CANCELED": "canceled"}


@dataclass
class JobHistory:
    """One job's writes, in their order."""

    id: str
    tenant: str = ""
    lane: str = ""
    model: str = ""
    work: float = 1.0
    leads_to: str = ""  # the leader that it ever followed
    states: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)  # one for each release
    tokens: list[str] = field(default_factory=list)  # one for each claim
    settled: list[str] = field(default_factory=list)  # its entries of the ledger
    is_settled_apart: bool = False  # in another step than its end
    told: list[tuple[str, str]] = field(default_factory=list)  # type and, of a status, which

    @property
    def state(self) -> str | None:
        """The last one."""
        return self.states[-1] if self.states else None

    @property
    def queue(self) -> Queue:
        """Where it waits, or would."""
        return Queue(self.tenant, self.lane, self.model)

    def problems(self) -> Iterator[str]:
        """Everything that may not happen to one job."""
        yield from self._wrong_states()
        ends = [state for state in self.states if state in TOLD_ENDS]
        if len(ends) != 1 or self.states[-1:] != ends:
            yield f"ends as {ends} in {self.states}"
        elif self.settled != ["charge" if ends == ["SUCCEEDED"] else "refund"] or self.is_settled_apart:
            yield f"{ends} was settled as {self.settled}{', apart from its end' * self.is_settled_apart}"
        if self.epochs != list(range(1, len(self.epochs) + 1)):
            yield f"releases are counted {self.epochs}"
        if len(set(self.tokens)) < len(self.tokens):
            yield f"a fencing token came twice: {self.tokens}"
        if ends == ["SUCCEEDED"] and not self.tokens and not self.leads_to:
            yield "succeeded and was never claimed"
        yield from self._wrong_events(ends)

    def _wrong_states(self) -> Iterator[str]:
        for before, after in zip([None, *self.states], self.states, strict=False):
            if after not in NEXT_STATES.get(before, frozenset()):
                yield f"{before} -> {after} in {self.states}"
        if self.states.count("RUNNING") != len(self.tokens):
            yield f"{self.states.count('RUNNING')} runs with {len(self.tokens)} tokens"

    def _wrong_events(self, ends: list[str]) -> Iterator[str]:
        statuses = [what for kind, what in self.told if kind == "status"]
        for before, after in zip([None, *statuses], statuses, strict=False):
            if after not in NEXT_TOLD.get(before, frozenset()):
                yield f"told {before}, then {after}: {statuses}"
        if ends and statuses[-1:] != [TOLD_ENDS[ends[0]]]:
            yield f"told {statuses} of one that ended as {ends}"
        if self.told and self.told[-1][0] != "status":
            yield f"told {self.told[-1]} after its end"
        pictures = sum(kind == "output" for kind, _ in self.told)
        if pictures != (ends == ["SUCCEEDED"]):
            yield f"told of {pictures} pictures and ended as {ends}"


@dataclass
class History:
    """All jobs of a server, and the order in which runs began."""

    jobs: dict[str, JobHistory] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)  # job ids, one for each claim
    moves: list[Move] = field(default_factory=list)  # into queues, out of them, and what releases cost
    weights: dict[str, float] = field(default_factory=dict)  # by tenant, as they are now

    def note_move(self, job: JobHistory, before: str | None, queue_before: Queue) -> None:
        """What a step means to the queues; it is noted in `job` already."""
        queue, was_waiting, waits = job.queue, before == "QUEUED", job.state == "QUEUED"
        turn = job.work / (self.weights.get(job.tenant, 1.0) * LANE_WEIGHTS.get(queue_before.lane, 1.0))
        if was_waiting and job.state == "RELEASED":
            self.moves.append(Move(queue, turn, leaves=True, taken=1))
        elif before == "RELEASED" and job.state not in ("RELEASED", "RUNNING"):  # it never ran
            self.moves.append(Move(queue_before, turn, taken=-1))
            self.moves += [Move(queue, turn, enters=True)] * waits
        elif (was_waiting, queue_before) != (waits, queue):
            self.moves += [Move(queue_before, turn, leaves=True)] * was_waiting
            self.moves += [Move(queue, turn, enters=True)] * waits

    def problems(self) -> list[str]:
        """Everything that may not happen; [] is right."""
        found = [f"{job.id}: {problem}" for job in self.jobs.values() for problem in job.problems()]
        owners = Counter(token for job in self.jobs.values() for token in job.tokens)
        return found + [f"token {token} was used {count} times" for token, count in owners.items() if count > 1]

    def shares(self, tenants: list[str], upto: float = 0.8) -> list[float]:
        """Each tenant's share of the work that was begun for them, until `upto` of all their runs."""
        runs = [self.jobs[one] for one in self.runs if self.jobs[one].tenant in tenants]
        served: Counter[str] = Counter()
        for job in runs[: round(len(runs) * upto)]:
            served[job.tenant] += job.work  # type: ignore[assignment]
        return [served[tenant] / sum(served.values()) for tenant in tenants]


def read_history(folder: Path) -> History:
    """The history that the server with this folder has written so far. AssertionError where there is no file of one."""
    history, paths = History(), sorted((folder / "appendonlydir").glob("*.incr.aof"))
    assert paths, f"no server keeps its append-only file in {folder}"
    for path in paths:
        for step in _steps(path.read_bytes()):
            _take(history, step)
    return history


def _steps(text: bytes) -> Iterator[list[list[bytes]]]:
    """Commands that were written as one; what a crash left unfinished at the end is none."""
    at, step, is_open = 0, list[list[bytes]](), False
    while at < len(text):
        try:
            command, at = _command(text, at)
        except (ValueError, IndexError):
            return
        if command == [b"MULTI"]:
            is_open = True
        elif command == [b"EXEC"]:
            yield step
            step, is_open = [], False
        elif is_open:
            step.append(command)
        else:
            yield [command]


def _command(text: bytes, at: int) -> tuple[list[bytes], int]:
    """The command that begins there, and where the next one does."""
    end = text.index(b"\r\n", at)
    words, count, at = list[bytes](), int(text[at + 1 : end]), end + 2
    for _ in range(count):
        end = text.index(b"\r\n", at)
        begin = end + 2
        at = begin + int(text[at + 1 : end]) + 2
        if at > len(text):
            raise ValueError("cut off")
        words.append(text[begin : at - 2])
    return words, at


def _take(history: History, step: list[list[bytes]]) -> None:
    """Add what one script wrote."""
    ours = ([word.decode(errors="replace") for word in command] for command in step if _is_told(command))
    states: dict[str, str] = {}  # a script may pass through a state, as submit does for a follower
    before: dict[str, tuple[str | None, Queue]] = {}
    settled: list[tuple[str, str]] = []
    for name, key, *values in ours:
        kind, _, job_id = key.removeprefix(PREFIX).partition(":")
        if name == "HSET" and kind == "job":
            if known := history.jobs.get(job_id):
                before.setdefault(job_id, (known.state, known.queue))
            _note_fields(history, states, job_id, dict(zip(values[::2], values[1::2], strict=True)))
        elif name == "HINCRBY" and kind == "job" and values[0] == "epoch":  # as a release before wrote it
            history.jobs[job_id].epochs.append(len(history.jobs[job_id].epochs) + int(values[1]))
        elif name == "HSET" and kind == "lim" and "weight" in values[::2]:
            history.weights[job_id] = float(values[values.index("weight") + 1])
        elif name == "XADD" and kind == "ev":
            entry = dict(zip(values[-4::2], values[-3::2], strict=True))
            what = json.loads(entry["data"])["status"] if entry["type"] == "status" else ""
            history.jobs.setdefault(job_id, JobHistory(job_id)).told.append((entry["type"], what))
        elif name == "XADD" and kind == "ledger":
            entry = dict(zip(values[1::2], values[2::2], strict=True))  # behind its id
            settled.append((entry["job"], entry["kind"]))
    for job_id, state in states.items():
        history.jobs[job_id].states.append(state)
    for job_id in dict.fromkeys([*before, *states]):
        job = history.jobs[job_id]
        history.note_move(job, *before.get(job_id, (None, job.queue)))
    for job_id, kind in settled:
        job = history.jobs[job_id]
        job.settled.append(kind)
        job.is_settled_apart |= states.get(job_id) not in TOLD_ENDS


def _is_told(command: list[bytes]) -> bool:
    return command[0] in (b"HSET", b"HINCRBY", b"XADD") and command[1].startswith(TOLD_KEYS)


def _note_fields(history: History, states: dict[str, str], job_id: str, fields: dict[str, str]) -> None:
    job = history.jobs.setdefault(job_id, JobHistory(job_id))
    if state := fields.get("state"):
        states[job_id] = state
    job.tenant = fields.get("tenant", job.tenant)
    job.lane = fields.get("lane", job.lane)
    job.model = fields.get("model", job.model)
    job.work = float(fields.get("work", job.work))
    job.leads_to = fields.get("leader", job.leads_to)
    if fields.get("epoch", "0") != "0":
        job.epochs.append(int(fields["epoch"]))
    if "token" in fields:
        job.tokens.append(fields["token"])
        history.runs.append(job_id)
