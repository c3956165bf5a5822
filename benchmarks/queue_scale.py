"""What a step costs as the queue grows tenfold and tenfold again, up to 100,000 jobs of 1,000 tenants; and fairness.

`python -m benchmarks.queue_scale [fairness]` prints a table and writes three plots beside this file: queue_scale.svg,
queue_fairness.svg and queue_overtaking.svg. Each write is on the disk before it is answered, so beside each figure
stands the disk's own: a bare write and fdatasync in the same folder, after each call that is measured.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis

from benchmarks.plot import Line, write_svg
from core.job import Lane
from core.redis_client import connect
from deploy.local.embedded import VALKEY_PACKING, valkey_binary
from tests.fixtures.redis import running_server
from tests.queue_kit import GENEROUS, Kit, limits, make_job

SIZES = (1_000, 10_000, 100_000)
TENANTS = 1_000
HERE = Path(__file__).parent
WRITTEN_BYTES = 4096  # about what a release of 16 appends
OTHERS_SHOWN = 6
PACKED = [word for name, value in VALKEY_PACKING.items() for word in (f"--{name}", value)]


@dataclass
class Probe:
    """Times calls, and after each the disk alone: what both have in common is the disk's."""

    folder: Path
    calls: list[float] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)

    def run(self, call: Callable[[], object], times: int) -> None:
        with (self.folder / "probe").open("ab", buffering=0) as file:
            for _ in range(times):
                self.calls.append(seconds_of(call))
                file.write(b"x" * WRITTEN_BYTES)
                self.flushes.append(seconds_of(lambda: os.fdatasync(file.fileno())))

    def line(self) -> str:
        return f"{figures(self.calls)}, the disk alone {figures(self.flushes)}"


def seconds_of(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def figures(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return f"p50 {statistics.median(ordered) * 1e3:6.2f} ms  p99 {ordered[int(len(ordered) * 0.99)] * 1e3:6.2f} ms"


def of_server(client: redis.Redis) -> str:
    """What a script took by the server's own measure: without the way there, and without the disk."""
    found: Any = client.info("latencystats")["latency_percentiles_usec_evalsha"]  # type: ignore[index]
    return f"p50 {float(found['p50']) / 1e3:.2f} ms  p99 {float(found['p99']) / 1e3:.2f} ms"


def at_rest(client: redis.Redis) -> None:
    """The server writes its append-only file anew as it doubles: not while something is measured."""
    while any(client.info("persistence")[name] for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):  # type: ignore[index]
        time.sleep(0.2)


def used_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[index]


def fill(kit: Kit, upto: int, have: int) -> None:
    """Queue jobs in batches of 100, tenant after tenant."""
    for number in range(have, upto, 100):
        jobs = [make_job(tenant=f"t{number // 100 % TENANTS}", lane=Lane.BATCH) for _ in range(100)]
        kit.store.submit_many(jobs, GENEROUS)


def scale() -> None:
    """Three sizes of one queue; each call is measured at each."""
    medians: dict[str, list[float]] = {}
    with running_server(str(valkey_binary()), *PACKED, on_disk=True) as server:
        kit = Kit(connect(server.url, timeout_seconds=30))
        kit.add_worker("w1", slots=10**6)
        empty, filled, have = used_bytes(kit.redis), 0, 0
        for size in SIZES:
            fill(kit, size, have)
            have, filled = size, used_bytes(kit.redis)
            at_rest(kit.redis)
            for name, (call, times) in measured(kit, size).items():
                kit.add_worker("w1", slots=10**6)  # silent for too long, nothing would be released to it
                kit.redis.config_resetstat()
                probe = Probe(server.folder)
                probe.run(call, times)
                medians.setdefault(name, []).append(statistics.median(probe.calls) * 1e3)
                print(f"{size:>7} queued: {name:<37} {probe.line()}, a script {of_server(kit.redis)}", flush=True)
        print(f"memory: {(filled - empty) / have:.0f} bytes for each queued job of a batch")
    lines = [Line(name, [float(size) for size in SIZES], values) for name, values in medians.items()]
    write_svg(
        HERE / "queue_scale.svg", "Cost of a step as the queue grows", "jobs queued", "ms (p50)", lines, log_x=True
    )


def measured(kit: Kit, size: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What is measured, and how often."""
    turns = itertools.count()
    last = kit.job(kit.queued(tenant=f"t{(size // 100 - 1) % TENANTS}", lane=Lane.BATCH))

    def step() -> None:
        kit.store.reap()
        kit.store.release(16)

    def batch() -> None:
        row = make_job(tenant=f"t{next(turns) % TENANTS}", lane=Lane.BATCH, batch_id=f"b{next(turns)}")
        kit.store.submit_many([replace(row, id=secrets.token_hex(16)) for _ in range(400)], GENEROUS)

    return {
        "scheduler step (reap + release of 16)": (step, 300),
        "submit": (lambda: kit.store.submit(make_job(tenant=f"t{next(turns) % TENANTS}"), GENEROUS), 1000),
        "batch of 400": (batch, 30),
        "queue place": (lambda: kit.store.queue_place(last), 100),
    }


def fairness() -> None:
    """Shares of three tenants with weights 3:1:1 and unequal jobs, and what an interactive job waits for."""
    with running_server(str(valkey_binary()), *PACKED) as server:
        kit = Kit(connect(server.url))
        work = {"x": 1.0, "y": 1.0, "z": 4.0}
        for tenant, weight in (("x", 3.0), ("y", 1.0), ("z", 1.0)):
            jobs = [make_job(tenant=tenant, work=work[tenant]) for _ in range(2000)]
            kit.store.submit_many(jobs, limits(weight=weight))
        served: Counter[str] = Counter()
        curves: dict[str, list[float]] = {tenant: [] for tenant in work}
        for _ in range(100):
            for one in kit.store.release(10):
                tenant = kit.job(one.job_id).tenant
                served[tenant] += round(work[tenant])
            for tenant in work:
                curves[tenant].append(served[tenant] / sum(served.values()))
        shares = ", ".join(f"{tenant} {served[tenant] / sum(served.values()):.3f}" for tenant in work)
        print(f"shares of the work with weights 3:1:1 (z's jobs cost 4): {shares}")
    axis = [float(10 * (n + 1)) for n in range(100)]
    lines = [
        Line(f"{tenant} (weight {weight})", axis, curves[tenant])
        for tenant, weight in zip("xyz", (3, 1, 1), strict=True)
    ]
    write_svg(HERE / "queue_fairness.svg", "Share of the work served", "jobs released", "share", lines)
    overtaking()


def overtaking() -> None:
    """With 10,000 batch jobs ahead: how many others are released before an interactive job, at several loads."""
    lines = []
    for every in (10, 4, 2):
        waits = sorted(others_before(every))
        median, p99 = statistics.median(waits), waits[int(len(waits) * 0.99)]
        print(
            f"10,000 batch jobs ahead, one interactive job for each {every} releases: others released before it "
            f"median {median:g}, p99 {p99}, most {waits[-1]} ({len(waits)} jobs)"
        )
        shares = [sum(wait <= most for wait in waits) / len(waits) for most in range(OTHERS_SHOWN + 1)]
        name = f"one for each {every} releases"
        lines.append(Line(name, [float(most) for most in range(OTHERS_SHOWN + 1)], shares))
    title = "Interactive jobs behind a list of 10,000 rows"
    write_svg(HERE / "queue_overtaking.svg", title, "released after at most so many others", "share of them", lines)


def others_before(every: int) -> list[int]:
    """For each interactive job of 30 tenants, of whom one asks after each `every` releases and three at once now and
    then: how many jobs were released between its submit and its own release."""
    waits: list[int] = []
    with running_server(str(valkey_binary()), *PACKED) as server:
        kit = Kit(connect(server.url))
        for _ in range(20):
            kit.store.submit_many([make_job(tenant="big", lane=Lane.BATCH) for _ in range(500)], GENEROUS)
        released, pending, people = 0, dict[str, int](), itertools.count()
        for turn in range(3000):
            for _ in range(3 if turn % 100 == 0 else turn % every == 0):
                pending[kit.queued(tenant=f"u{next(people) % 30}")] = released
            for one in kit.store.release(1):
                released += 1
                if one.job_id in pending:
                    waits.append(released - pending.pop(one.job_id) - 1)
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["fairness"], help="leave out what a step costs")
    if parser.parse_args().part is None:
        scale()
    fairness()


if __name__ == "__main__":
    main()
