"""A fleet of up to 1,000 simulated workers on one Redis: where one scheduler and one Redis end.

`python -m benchmarks.queue_fleet 10 100 1000`. The workers are simulated (no process, no picture, no waiting: a job is
claimed as soon as it is released, told of twice, and completed), the scripts and the server are real, with each write
on disk before it is answered. What a call costs the server is the server's own measurement (INFO commandstats); the
waiting for the disk is not in it, and clients that wait at the same time share it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import deque
from collections.abc import Callable

from core.job import Progress, Release
from core.redis_client import connect
from core.workers import WorkerInfo
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import running_server
from tests.queue_kit import GENEROUS, Kit, make_job, make_picture

SLOTS = 4
JOBS = 2_000
TENANTS = 100
QUEUED = 10_000
#: How often a worker speaks whatever it does: heartbeats and renewals.
BEAT_SECONDS, RENEW_SECONDS = 5.0, 1.0


class Costs:
    """Milliseconds of the server's one thread by kind of call, from its own counters."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.ms: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def of(self, name: str, call: Callable[[], object]) -> object:
        before = self._read()
        answer = call()
        self.ms[name] = self.ms.get(name, 0.0) + self._read() - before
        self.calls[name] = self.calls.get(name, 0) + 1
        return answer

    def each(self, name: str) -> float:
        return self.ms[name] / self.calls[name]

    def _read(self) -> float:
        stats = self._kit.redis.info("commandstats")
        return float(stats.get("cmdstat_evalsha", {"usec": 0})["usec"]) / 1000  # type: ignore[index]


def measure(workers: int) -> None:
    """One table row: what each call costs with so many workers, and the most jobs a second that follow from it."""
    with running_server(str(valkey_binary()), on_disk=True) as server:
        kit = Kit(connect(server.url, timeout_seconds=30))
        kit.store.forget_worker("w1")
        costs, names = Costs(kit), [f"gpu-{number}" for number in range(workers)]
        for name in names:
            kit.store.heartbeat(WorkerInfo(name=name, slots=SLOTS))
        for number in range(0, QUEUED, 100):
            kit.store.submit_many([make_job(tenant=f"t{number // 100 % TENANTS}") for _ in range(100)], GENEROUS)
        messages: deque[Release] = deque()
        turn, done, begun = itertools.cycle(names), 0, time.perf_counter()
        while done < JOBS:
            if len(messages) < SLOTS:
                messages += costs.of("release", lambda: kit.store.release(64))  # type: ignore[arg-type]
            run(kit, costs, messages.popleft(), next(turn))
            done += 1
        seconds = time.perf_counter() - begun
    report(workers, costs, seconds)


def run(kit: Kit, costs: Costs, message: Release, worker: str) -> None:
    """The whole life of one job on one worker."""
    job = make_job(tenant=f"t{int(message.job_id, 16) % TENANTS}")
    costs.of("submit", lambda: kit.store.submit(job, GENEROUS))
    token = message.job_id[:16]
    costs.of("claim", lambda: kit.store.claim(message.job_id, message.epoch, token, worker))
    progress = Progress(stage="denoise", step=2, steps=4)
    for _ in range(2):
        costs.of("progress", lambda: kit.store.report_progress(message.job_id, token, progress))
    costs.of("renew", lambda: kit.store.renew([(message.job_id, token)] * SLOTS))
    costs.of("complete", lambda: kit.store.complete(message.job_id, token, make_picture(message.job_id)))
    costs.of("heartbeat", lambda: kit.store.heartbeat(WorkerInfo(name=worker, slots=SLOTS)))


def report(workers: int, costs: Costs, seconds: float) -> None:
    release = costs.each("release")
    per_job = release / 64 + costs.each("submit") + costs.each("claim") + costs.each("complete")
    per_job += 2 * costs.each("progress")
    idle = workers * (costs.each("heartbeat") / BEAT_SECONDS + costs.each("renew") / RENEW_SECONDS) / 1000
    most = (1 - idle) * 1000 / per_job if idle < 1 else 0.0
    parts = ", ".join(f"{name} {costs.each(name):.3f}" for name in costs.calls)
    print(f"{workers:>5} workers: server ms for a call: {parts}")
    print(f"      {per_job:.2f} ms of the server for a job; heartbeats and renewals take {idle:.0%} of it")
    print(f"      one Redis: at most {most:.0f} jobs/s, {most / workers:.2f} for each worker")
    print(f"      one scheduler: a release of 64 every {release:.1f} ms, {64_000 / release:.0f} jobs/s")
    print(f"      this one client, waiting for the disk each time: {JOBS / seconds:.0f} jobs/s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workers", nargs="*", type=int, default=[10, 100, 1000], help="sizes of the fleet")
    for workers in parser.parse_args().workers:
        measure(workers)


if __name__ == "__main__":
    main()
