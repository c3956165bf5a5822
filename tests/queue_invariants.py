"""What must hold once a fault is over and everything has ended: the invariants I1 to I6, and each job's history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from core.job import Job, JobState
from tests.queue_history import History, read_history
from tests.queue_kit import limits, make_job, violations
from tests.queue_processes import Fleet, wait_until

REST_SECONDS = 10.0
#: Three tenants who all want more than there is, with their weights.
CONTEST = {"x": 3, "y": 1, "z": 1}


def assert_invariants(fleet: Fleet, ids: Sequence[str]) -> History:
    """All accepted jobs ended and are known, settled once, with one object each; nothing is held; no step was illegal.

    With the stub worker's folder the objects and the answers to its results are looked at too.
    """
    client = fleet.store.redis
    wait_until(lambda: not violations(client, list(ids)), seconds=REST_SECONDS, why=lambda: str(wrong(fleet, ids)))
    history = read_history(fleet.server.folder)
    assert not (found := history.problems()), found[:5]
    assert set(ids) <= set(history.jobs)
    if "STUB_FOLDER" in fleet.environ:
        folder = Path(fleet.environ["STUB_FOLDER"])
        jobs = [job for job in fleet.store.get_many(ids) if job is not None]
        assert not (found := wrong_objects(folder, jobs)), found[:5]
        assert not (found := wrong_answers(folder, history)), found[:5]
    return history


def wrong(fleet: Fleet, ids: Sequence[str]) -> list[str]:
    return violations(fleet.store.redis, list(ids))[:5]


def wrong_objects(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """I3: the object of each success is there under the record's key, and its bytes are the record's sha256."""
    found = []
    for job in jobs:
        if job.state is not JobState.SUCCEEDED or job.picture is None:
            continue
        path = folder / Path(job.picture.key).name
        if not path.exists():
            found.append(f"{job.id} has no object {job.picture.key}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != job.picture.sha256:
            found.append(f"{job.id}: the object's bytes are others than the record's")
        elif path.stem != job.id and not job.leader:
            found.append(f"{job.id} shows the object of another")
    return found


def wrong_answers(folder: Path, history: History) -> list[str]:
    """The fence: of each job at most one run's result was taken, that of its latest claim."""
    found, taken = [], dict[str, set[str]]()
    path = folder / "answers"
    for line in path.read_text().splitlines() if path.exists() else []:
        job_id, token, is_taken = line.split()
        if is_taken == "1":
            taken.setdefault(job_id, set()).add(token)
    for job_id, tokens in taken.items():
        if tokens != {history.jobs[job_id].tokens[-1]}:
            found.append(f"{job_id}: results of {tokens} were taken, claims were {history.jobs[job_id].tokens}")
    return found


def submit_contest(fleet: Fleet, count: int) -> list[str]:
    """Jobs in the proportion of the tenants' weights, so that all three wait until nearly the end: ids."""
    ids = []
    for tenant, weight in CONTEST.items():
        jobs = [make_job(tenant=tenant) for _ in range(count * weight // sum(CONTEST.values()))]
        fleet.store.submit_many(jobs, limits(weight=float(weight)))
        ids += [job.id for job in jobs]
    return ids


def assert_fair(history: History) -> list[float]:
    """I6: whatever happened meanwhile, each got its share of the runs within 10 %; the shares."""
    shares = history.shares(list(CONTEST))
    wanted = [weight / sum(CONTEST.values()) for weight in CONTEST.values()]
    assert all(0.9 * want <= got <= 1.1 * want for got, want in zip(shares, wanted, strict=True)), shares
    return shares
