"""The job store: each method is one arrow of the state diagram, carried out by one Lua script on the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.aside import put_aside
from core.batch_store import BatchCounts
from core.errors import Draining, ExceedsLimits, OverLimit, Overloaded, RedisUnavailable
from core.job import (
    Failure,
    GenerationRequest,
    JobState,
    Lane,
    Lease,
    LeaseStatus,
    NewJob,
    Picture,
    Progress,
    Release,
)
from core.job_reader import JobReader, QueueDepth
from core.job_record import lane_of, state_of
from core.long_list import HOLD_SECONDS, ListStep, are_stored, is_long, portions
from core.look import LimitUse, Look, QueuePlace, TenantLimits, emission_of
from core.patience import Patience
from core.reap_report import ReapReport
from core.redis_client import PREFIX, call, redis_errors
from core.refusals import refusal_of
from core.retry_policy import RetryPolicy
from core.submit_rows import as_stored, extras, row_values
from core.workers import WorkerInfo

__all__ = [
    "BatchCounts", "JobStore", "LimitUse", "QueueDepth", "QueuePlace", "ReapReport", "Submitted", "TenantLimits",
    "WorkerInfo",
]  # fmt: skip

#: The reaper runs each second: a longer gap between two runs means that it, or Redis, stood still.
STALL_SECONDS = 3.0
REAPED_AT_ONCE = 100
ASKED_AT_ONCE = 50  # jobs of one call that cancels or removes many
TOMBSTONE_SECONDS = 30 * 86_400
#: How often a submit is asked again; where patience is bounded (core/redis_client.py), after a lost connection alone.
SUBMIT_RETRIES = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submit. `replayed`: the same id or key came before; `leader`: "" or the job that is mirrored."""

    job_id: str
    state: JobState
    replayed: bool
    leader: str


def _burst_cost(jobs: Sequence[NewJob]) -> int:
    """The burst counts pictures that a person asks for; a batch is one call, bounded by the other limits."""
    interactive = sum(job.lane is Lane.INTERACTIVE for job in jobs)
    return interactive + (interactive < len(jobs))


class JobStore(JobReader):
    """Moves jobs. All methods raise RedisUnavailable on connection trouble, and all may be called again after it."""

    def submit(self, job: NewJob, limits: TenantLimits) -> Submitted:
        """Store one job; see `submit_many`."""
        return self.submit_many([job], limits)[0]

    def submit_many(
        self, jobs: Sequence[NewJob], limits: TenantLimits, before_next: Callable[[], None] = lambda: None
    ) -> list[Submitted]:
        """Store jobs of one tenant, all or none, in their order.

        Of jobs that an earlier call with the same keys made, those that were removed since are left out of the answer.
        Raises Gone if that is all of them, IdempotencyMismatch, ExceedsLimits, Draining, RateLimited, QuotaExceeded,
        QueueFull, Overloaded or Forbidden (banned); then nothing was stored. A long list is stored in portions: after
        RedisUnavailable, ListStopped, Forbidden, or what `before_next` raises before each portion but the first, a part
        of it may be, and the same call stores the rest.
        """
        if not jobs:
            return []
        tenant = jobs[0].tenant
        if any(job.tenant != tenant for job in jobs):
            raise ValueError("submit_many takes the jobs of one tenant")
        try:
            return self._submit_portions(jobs, limits, before_next)
        except (ExceedsLimits, OverLimit, Overloaded, Draining):
            # The same list came twice at once, and the other call stored what this one had looked for in vain?
            if not (is_long(jobs) and self.has_stored(jobs)):
                raise
            return self._submit_portions(jobs, limits, before_next)

    def _submit_portions(
        self, jobs: Sequence[NewJob], limits: TenantLimits, before_next: Callable[[], None]
    ) -> list[Submitted]:
        stored: list[Submitted] = []
        for part, step in portions(self.redis, jobs):
            if stored:
                before_next()
            arguments = self._arguments(part, step, limits, _burst_cost(jobs))
            answer, is_asked_again = self._ask_to_store(arguments)
            stored += self._submitted(answer, part, limits, is_asked_again=is_asked_again)
        return stored

    def has_stored(self, jobs: Sequence[NewJob]) -> bool:
        """Whether earlier calls stored all of these: sent again, they are answered and nothing is stored.

        Raises IdempotencyMismatch for a key that stands for another body.
        """
        return are_stored(self.redis, jobs)

    def submit_and_look(self, jobs: Sequence[NewJob], limits: TenantLimits) -> tuple[list[Submitted], Look]:
        """As `submit_many` for at most ROWS_AT_ONCE jobs; and how the jobs of the answer stand, mostly by one call.

        New jobs are told as they were stored where the server answers no more after that, without places and use.
        """
        ids, tenant = [job.id for job in jobs], jobs[0].tenant
        arguments = self._arguments(jobs, ListStep(), limits, _burst_cost(jobs))
        answers: list[Any] = []
        try:
            with redis_errors():
                pipeline = self.redis.pipeline(transaction=False)
                self._scripts.queue(pipeline, "submit", *arguments)
                self._ask_for_look(pipeline, ids, tenant, limits)
                answers = pipeline.execute(raise_on_error=False)
            answer, is_asked_again = self._scripts.settled(answers[0], "submit", *arguments), False
        except RedisUnavailable:
            answer, is_asked_again = self._ask_again(arguments), True
        submitted = self._submitted(answer, jobs, limits, is_asked_again=is_asked_again)
        found = [one.job_id for one in submitted]
        is_seen = found == ids and not is_asked_again and not isinstance(answers[0], Exception)
        try:
            if is_seen:
                return submitted, self._look_from(answers[1:], ids, tenant, limits)
            return submitted, self.look(found, tenant, limits)  # of a replay it looked at jobs that there are not
        except RedisUnavailable:
            if found != ids:  # what an earlier call stored is not known here
                raise
            pairs = zip(jobs, submitted, strict=True)  # stored, though the server does not say so again
            told = [as_stored(job, self.settings, state=one.state, leader=one.leader) for job, one in pairs]
            return submitted, Look(jobs=told, use=None)

    def _arguments(
        self, jobs: Sequence[NewJob], step: ListStep, limits: TenantLimits, burst_cost: int
    ) -> tuple[Any, ...]:
        """Of one call of submit.lua."""
        header = (
            jobs[0].tenant,
            limits.weight,
            limits.running_jobs,
            limits.daily_units,
            emission_of(limits),
            limits.burst,
            limits.queued_jobs,
            self.settings.queued_jobs,
            self.settings.idempotency_seconds * 1000,
            self.settings.record_retention_seconds * 1000,
            burst_cost,
        )
        rows = [value for job in jobs for value in row_values(job, self.settings)]
        return (*header, *rows, *extras(jobs, step.values(), limits, charges_hits=self.settings.charge_hits == "on"))

    def _submitted(
        self, answer: Sequence[str], jobs: Sequence[NewJob], limits: TenantLimits, *, is_asked_again: bool
    ) -> list[Submitted]:
        """Reads the answer of submit.lua; raises for a refusal."""
        if answer[0] != "ok":
            raise refusal_of(answer, limits, jobs[0], Patience(self.redis, self._scripts, self._crowds, self.live_ms))
        own = {job.id for job in jobs} if is_asked_again else set()
        return [
            Submitted(
                job_id=job_id, state=state_of(state), replayed=replayed == "1" and job_id not in own, leader=leader
            )
            for job_id, state, replayed, leader in zip(*[iter(answer[1:])] * 4, strict=True)
        ]

    def _ask_to_store(self, arguments: Sequence[Any]) -> tuple[Any, bool]:
        """The answer of submit.lua, and whether it was asked more than once."""
        try:
            return self._scripts.run("submit", *arguments), False
        except RedisUnavailable:
            return self._ask_again(arguments), True

    def _ask_again(self, arguments: Sequence[Any]) -> Any:
        """The answer of a submit that did its work may be lost, or come late behind a long list.

        The script knows by the ids that it is this very call, so it is asked again rather than the caller told that
        nothing was stored.
        """
        return call(lambda: self._scripts.run("submit", *arguments), tries=SUBMIT_RETRIES)

    def release(self, limit: int) -> list[Release]:
        """Mark up to `limit` jobs RELEASED, in fair order, as far as the windows of the models' live workers allow."""
        claim_ms = round(self.settings.claim_seconds * 1000)
        answer = self._scripts.run("release", limit, claim_ms, self.live_ms)
        pairs = zip(answer[::2], answer[1::2], strict=True)
        return [_release(job_id, str(epoch)) for job_id, epoch in pairs]

    def claim(self, job_id: str, epoch: int | None, token: str, worker: str, queue: str = "") -> Lease | None:
        """Take a released job under a lease; None for a duplicate, stale or canceled message: drop it.

        Without an epoch (a message of another release) whatever release the job is in is taken. `queue` is the model
        that the worker serves, as in NewJob; a job of another one goes back to its own queue.
        """
        known = "" if epoch is None else epoch
        answer = self._scripts.run("claim", job_id, known, token, worker, self._lease_ms, queue)
        if not answer:
            return None
        attempt, alone, tenant, lane, created, deadline, request = answer
        return Lease(
            job_id=job_id,
            token=token,
            attempt=int(attempt),
            alone=alone == "1",
            tenant=tenant,
            lane=lane_of(lane),
            created_ms=int(created),
            deadline_ms=int(deadline),
            request=GenerationRequest.from_json(request),
        )

    def take_seat(self, job_id: str, token: str) -> bool:
        """A job that must be alone gets its worker's engine for itself now: a crash is its own. False if fenced off."""
        return bool(self._scripts.run("take_seat", job_id, token))

    def leave_seat(self, worker: str, token: str) -> None:
        """It has left the engine, and others come next."""
        self._scripts.run("leave_seat", worker, token)

    def renew(self, leases: Sequence[tuple[str, str]]) -> list[LeaseStatus]:
        """Lengthen the leases of (job id, token) pairs; one answer for each, in their order."""
        if not leases:
            return []
        pairs = [value for lease in leases for value in lease]
        return [LeaseStatus(status) for status in self._scripts.run("renew", self._lease_ms, *pairs)]

    def shelve(self, job_id: str, token: str) -> bool:
        """The picture is drawn and waits for the storage: the job keeps its lease, not its seat. False: fenced off."""
        return bool(self._scripts.run("shelve", job_id, token))

    def report_progress(self, job_id: str, token: str, progress: Progress) -> bool:
        """Keep and publish how far a job is; False if fenced off. The caller sends at most two a second."""
        kept = asdict(progress)
        told = {**kept, "value": round(progress.value, 4)}
        return bool(self._scripts.run("progress", job_id, token, json.dumps(kept), json.dumps(told)))

    def complete(self, job_id: str, token: str, picture: Picture, seconds: Mapping[str, float] | None = None) -> bool:
        """The picture is stored: SUCCEEDED and charged once. False if somebody else holds the job, or it ended.

        `seconds`: how long each stage took, for the service's metrics.
        """
        measured = json.dumps({stage: round(taken * 1000, 1) for stage, taken in (seconds or {}).items()})
        return bool(self._scripts.run("complete", job_id, token, picture.to_json(), measured))

    def fail(self, job_id: str, token: str, failure: Failure) -> JobState | None:
        """RETRY or DEAD (CANCELED where the owner had asked); None if fenced off."""
        delays = RetryPolicy(max_attempts=self.settings.max_attempts).delays_ms()
        state = self._scripts.run("fail", job_id, token, failure.to_json(), int(failure.retryable), *delays)
        return state_of(state) if state else None

    def give_back(self, job_id: str, token: str) -> bool:
        """A draining worker returns a job: queued again, without costing an attempt. False if fenced off."""
        return bool(self._scripts.run("give_back", job_id, token))

    def cancel(self, job_id: str) -> JobState | None:
        """Stop a job for its owner; the state it is in now (RUNNING: asked to stop), None if unknown."""
        return self.cancel_many([job_id])[0]

    def cancel_many(self, ids: Sequence[str]) -> list[JobState | None]:
        """As `cancel`, of many: an answer for each, in their order."""
        return [state_of(state) if state else None for state in self._run_for_each("cancel", ids)]

    def move(self, job_id: str, *, to_front: bool) -> JobState | None:
        """Put a waiting job before or behind the others of its tenant's lane.

        The state it is in now: only a QUEUED one was moved; None if unknown.
        """
        state = self._scripts.run("move", job_id, "front" if to_front else "back")
        return state_of(state) if state else None

    def reap(self) -> ReapReport:
        """Take back leases, unclaimed releases, due retries and deadlines; at most 100 jobs, followers among them."""
        settings = self.settings
        answer = self._scripts.run(
            "reap",
            REAPED_AT_ONCE,
            settings.max_crashes,
            round(STALL_SECONDS * 1000),
            self._lease_ms,
            round(settings.claim_seconds * 1000),
            RetryPolicy(max_attempts=settings.max_attempts).most_delay_ms,
            HOLD_SECONDS * 1000,
        )
        report, broken = ReapReport.read(answer)
        self._put_aside(broken, "the reaper can not work with it")
        return report

    def reap_holds(self) -> int:
        """Give back what lists keep whose callers went away; how many such lists, at most 100."""
        return int(self._scripts.run("reap_holds", REAPED_AT_ONCE))

    def stop_lists(self, tenant: str) -> int:
        """Let no further portion of a tenant's lists come in; how many lists that were. Rows that are stored stay."""
        return int(self._scripts.run("stop_lists", tenant))

    def remove(self, job_id: str) -> bool:
        """Forget an ended job; `was_removed` knows it for 30 days. False if it has not ended or is unknown."""
        return self.remove_many([job_id]) == 1

    def remove_many(self, ids: Sequence[str]) -> int:
        """As `remove`, of many: how many are gone. What can not be read of them is put aside."""
        answers = list(zip(ids, self._run_for_each("remove", ids, TOMBSTONE_SECONDS * 1000), strict=True))
        self._put_aside([job_id for job_id, answer in answers if answer == 2], "removed without its picture")
        self._put_aside([job_id for job_id, answer in answers if answer == -1], "it can not be removed")
        return sum(answer in (1, 2) for _, answer in answers)

    def _put_aside(self, ids: Sequence[str], why: str) -> None:
        for job_id in ids:
            put_aside(self.redis, "job", str(job_id), why)

    def _run_for_each(self, script: str, ids: Sequence[str], *before: Any) -> list[Any]:
        """The script's answer for each id, asked in portions so that nobody else waits long for the server."""
        answers: list[Any] = []
        for first in range(0, len(ids), ASKED_AT_ONCE):
            answers += self._scripts.run(script, *before, *ids[first : first + ASKED_AT_ONCE])
        return answers

    def heartbeat(self, worker: WorkerInfo) -> None:
        """Say that a worker lives; at least every fifth of a lease."""
        fields = [value for pair in worker.to_fields().items() for value in pair]
        self._scripts.run("heartbeat", worker.name, worker.started_ms, *fields)

    def forget_worker(self, name: str) -> None:
        """A worker says goodbye; jobs it still holds are taken back when their leases run out."""
        with redis_errors():
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.zrem(f"{PREFIX}workers", name)
            pipeline.delete(f"{PREFIX}worker:{name}", f"{PREFIX}held:{name}", f"{PREFIX}shelf:{name}")
            for stopped in ("paused", "draining"):
                pipeline.srem(PREFIX + stopped, f"worker:{name}")
            pipeline.execute()

    def audit_job(self, job_id: str, *, repair: bool) -> str:
        """What is wrong with where the job stands, "" if nothing; put right if `repair`."""
        return str(self._scripts.run("audit_job", job_id, int(repair)))

    def audit_queue(self, entity: str, *, repair: bool) -> tuple[float, list[str]]:
        """Work counted too much for a queue, and what is in it but no waiting job; put right if `repair`.

        `entity`: tenant|lane, of a further model tenant|lane@model.
        """
        work, *strays = self._scripts.run("audit_queue", entity, int(repair))
        return float(work), [str(one) for one in strays]

    def audit_counts(self, *, repair: bool) -> dict[str, int]:
        """Lanes whose number of waiting jobs is off, and by how many it is too high; put right if `repair`."""
        answer = self._scripts.run("audit_counts", int(repair))
        return {str(lane): int(many) for lane, many in zip(answer[::2], answer[1::2], strict=True)}

    def pause(self, kind: str, name: str) -> None:
        """Release no more of a `lane` or `tenant`, or nothing more for a `worker`; what runs goes on."""
        self._scripts.run("stop", "paused", f"{kind}:{name}")

    def resume(self, kind: str, name: str) -> None:
        """End a pause. After RedisUnavailable a part may still stand aside: the same call lets it in."""
        cursor = "0"
        while (cursor := str(self._scripts.run("resume", kind, name, cursor))) != "0":
            pass

    def paused(self) -> list[str]:
        """What is paused, as kind:name."""
        with redis_errors():
            return sorted(str(one) for one in self.redis.smembers(f"{PREFIX}paused"))

    def wait_for_wake(self, timeout_seconds: float) -> bool:
        """Wait until a submit or an end asks for a release; False when the time is over."""
        with redis_errors():
            return self.redis.blpop([f"{PREFIX}wake"], timeout=timeout_seconds) is not None

    def expire(self, limit: int) -> tuple[int, list[str]]:
        """Mark pictures past their retention (`picture_removed`); how many, and the ids of records due for `remove`."""
        expired, broken, *ids = self._scripts.run("expire", limit)
        self._put_aside(ids[:broken], "its picture, which is past its time, can not be read")
        return int(expired), [str(job_id) for job_id in ids[broken:]]

    @property
    def _lease_ms(self) -> int:
        return round(self.settings.lease_seconds * 1000)


def _release(job_id: str, epoch: str) -> Release:
    """As release.lua says it: the epoch, and for a job of a further model epoch@model."""
    number, _, queue = epoch.partition("@")
    return Release(job_id=job_id, epoch=int(number), queue=queue)
