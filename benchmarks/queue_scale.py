"""What a step costs as the queue grows tenfold and tenfold again, up to 100,000 jobs of 1,000 tenants; and fairness.

`python -m benchmarks.queue_scale` prints a table and writes two plots, queue_scale.svg and queue_fairness.svg, beside
this file.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from benchmarks.plot import Line, write_svg
from core.job import Lane
from core.redis_client import connect
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import running_server
from tests.queue_kit import GENEROUS, Kit, limits, make_job

SIZES = (1_000, 10_000, 100_000)
TENANTS = 1_000
HERE = Path(__file__).parent


def p50_p99_ms(call: Callable[[], object], times: int) -> tuple[float, float]:
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    seconds.sort()
    return statistics.median(seconds) * 1e3, seconds[int(times * 0.99)] * 1e3


def used_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[index]


def fill(kit: Kit, upto: int, have: int) -> None:
    """Queue jobs in batches of 100, tenant after tenant."""
    for number in range(have, upto, 100):
        jobs = [make_job(tenant=f"t{number // 100 % TENANTS}", lane=Lane.BATCH) for _ in range(100)]
        kit.store.submit_many(jobs, GENEROUS)


def scale() -> None:
    steps: dict[str, list[float]] = {"scheduler step (reap + release of 16)": [], "submit": [], "queue place": []}
    with running_server(str(valkey_binary()), on_disk=True) as server:
        kit = Kit(connect(server.url, timeout_seconds=30))
        kit.add_worker("w1", slots=10**6)
        empty, filled, have = used_bytes(kit.redis), 0, 0
        for size in SIZES:
            fill(kit, size, have)
            have, filled = size, used_bytes(kit.redis)
            turns = itertools.count()

            def step() -> None:
                kit.store.reap()
                kit.store.release(16)

            def submit(turns: Iterator[int] = turns) -> None:
                kit.store.submit(make_job(tenant=f"t{next(turns) % TENANTS}"), GENEROUS)

            last = kit.job(kit.queued(tenant=f"t{(size // 100 - 1) % TENANTS}", lane=Lane.BATCH))
            for name, call, times in (
                ("scheduler step (reap + release of 16)", step, 200),
                ("submit", submit, 1000),
                ("queue place", lambda last=last: kit.store.queue_place(last), 100),
            ):
                p50, p99 = p50_p99_ms(call, times)
                steps[name].append(p50)
                print(f"{size:>7} queued: {name:<38} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms", flush=True)
            print(f"{size:>7} queued: the job asked about stands at {kit.store.queue_place(last)}")
        print(f"memory: {(filled - empty) / have:.0f} bytes for each queued job of a batch")
    lines = [Line(name, [float(size) for size in SIZES], values) for name, values in steps.items()]
    write_svg(
        HERE / "queue_scale.svg", "Cost of a step as the queue grows", "jobs queued", "ms (p50)", lines, log_x=True
    )


def fairness() -> None:
    """Shares of three tenants with weights 3:1:1 and unequal jobs, and what an interactive job waits for."""
    with running_server(str(valkey_binary()), on_disk=True) as server:
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
    """With 10,000 batch jobs ahead: how many others are released before an interactive job."""
    waits: list[int] = []
    with running_server(str(valkey_binary()), on_disk=True) as server:
        kit = Kit(connect(server.url))
        for _ in range(20):
            kit.store.submit_many([make_job(tenant="big", lane=Lane.BATCH) for _ in range(500)], GENEROUS)
        released, pending = 0, {}
        for turn in range(3000):
            if turn % 10 == 0:
                pending[kit.queued(tenant=f"u{turn % 30}")] = released
            for one in kit.store.release(1):
                released += 1
                if one.job_id in pending:
                    waits.append(released - pending.pop(one.job_id) - 1)
    waits.sort()
    median, p99 = statistics.median(waits), waits[int(len(waits) * 0.99)]
    print(f"others released before an interactive job, 10,000 batch jobs ahead: median {median:g}, p99 {p99}")


def main() -> None:
    scale()
    fairness()


if __name__ == "__main__":
    main()
