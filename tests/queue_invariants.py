"""What must hold once a fault is over and everything has ended: the invariants I1 to I6, and each job's history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from core.job import Job, JobState, NewJob
from tests.queue_fairness import contests, unfair
from tests.queue_history import History, read_history
from tests.queue_kit import limits, make_job, violations
from tests.queue_processes import Fleet, wait_until

REST_SECONDS = 60.0
#: Three tenants who all want more than there is, with their weights.
CONTEST = {"x": 3, "y": 1, "z": 1}
#: A row of fewer jobs is over before there is anything to compare.
MANY_JOBS = 20
#: Runs of the contest from which on a tenth of a share is more than a few runs.
MANY_RUNS = 200


def assert_invariants(
    fleet: Fleet, ids: Sequence[str], *, is_contended: bool | None = None, forgot: bool = False, is_mixed: bool = False
) -> History:
    """I1 to I6, and that no step of any job was illegal: what a row of the fault matrix ends with; the history.

    Two tenants' jobs must have waited side by side (I6) unless the row has few jobs or `is_contended` says otherwise.
    `forgot`: the server lost what it had confirmed, so that what workers were told before counts for nothing.
    `is_mixed`: scripts of the release before worked along.
    """
    client = fleet.store.redis
    at_rest = partial(violations, client, list(ids), is_mixed=is_mixed)
    wait_until(lambda: not at_rest(), seconds=REST_SECONDS, why=lambda: str(wrong(fleet, ids)))
    history = read_history(fleet.server.folder)
    assert not (found := history.problems()), found[:5]
    assert set(ids) <= set(history.jobs)
    jobs = [job for job in fleet.store.get_many(ids) if job is not None]
    assert len(jobs) == len(ids), "I5: an accepted job is unknown"
    assert not (found := wrong_objects(fleet, jobs)), found[:5]
    if "STUB_FOLDER" in fleet.environ and not forgot:
        assert not (found := wrong_answers(Path(fleet.environ["STUB_FOLDER"]), history)), found[:5]
    assert_shares(history, is_contended=len(ids) >= MANY_JOBS if is_contended is None else is_contended)
    return history


def assert_shares(history: History, *, is_contended: bool) -> None:
    """I6: in every moment that two queues waited, each got its share; that some did is part of it if `is_contended`."""
    found = contests(history.moves)
    assert not (told := unfair(found)), told[:5]
    assert not is_contended or any(contest.is_telling for contest in found), "no two tenants waited side by side"
    if sum(history.jobs[job_id].tenant in CONTEST for job_id in history.runs) >= MANY_RUNS:
        assert_fair(history)
    worst = max((contest.worst for contest in found), default=0.0)
    print(f"\nI6: {sum(contest.is_telling for contest in found)} contests, at worst {worst:.2f} of what may be")


def wrong(fleet: Fleet, ids: Sequence[str]) -> list[str]:
    return violations(fleet.store.redis, list(ids))[:5]


def wrong_objects(fleet: Fleet, jobs: Sequence[Job]) -> list[str]:
    """I3: the object of each success is there under the record's key, and its bytes are the record's sha256."""
    found = []
    for job in jobs:
        if job.state is not JobState.SUCCEEDED or job.picture is None:
            continue
        stored = fleet.read_object(job.picture.key)
        if stored is None:
            found.append(f"{job.id} has no object {job.picture.key}")
        elif hashlib.sha256(stored).hexdigest() != job.picture.sha256:
            found.append(f"{job.id}: the object's bytes are others than the record's")
        elif Path(job.picture.key).stem != job.id and not job.leader:
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


def contenders(count: int) -> list[str]:
    """A tenant for each of so many jobs, in the proportion of the weights."""
    round_of_all = [tenant for tenant, weight in CONTEST.items() for _ in range(weight)]
    return [round_of_all[number % len(round_of_all)] for number in range(count)]


def submit_spread(fleet: Fleet, jobs: Sequence[NewJob]) -> list[str]:
    """Jobs of the tenants of the contest, each tenant's with its weight: ids, in their order."""
    for tenant, weight in CONTEST.items():
        fleet.store.submit_many([job for job in jobs if job.tenant == tenant], limits(weight=float(weight)))
    return [job.id for job in jobs]


def submit_contest(fleet: Fleet, count: int, **more: Any) -> list[str]:
    """Jobs in the proportion of the tenants' weights, so that all three wait until nearly the end: ids."""
    return submit_spread(fleet, [make_job(tenant=tenant, **more) for tenant in contenders(count)])


def assert_fair(history: History) -> list[float]:
    """I6: whatever happened meanwhile, each got its share of the runs within 10 %; the shares."""
    shares = history.shares(list(CONTEST))
    wanted = [weight / sum(CONTEST.values()) for weight in CONTEST.values()]
    assert all(0.9 * want <= got <= 1.1 * want for got, want in zip(shares, wanted, strict=True)), shares
    return shares
