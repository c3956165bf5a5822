"""How fast the queue is on Valkey with AOF always, generation and storage stubbed.

`python -m benchmarks.queue_throughput 10` prints one line per figure: submit alone and at 100 a second, each
script, jobs end to end through real schedulers and Celery workers, and the time of one job through an idle service.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from benchmarks.queue_scale import PACKED
from core.events import EventHub
from core.job import Lane
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import RedisServer, running_server
from tests.fixtures.s3 import BUCKET, running_s3
from tests.queue_kit import GENEROUS, Kit, limits, make_job, make_picture, violations
from tests.queue_processes import Fleet

LIMITED = limits(daily_units=10**8, burst_per_second=1e6, burst=10**6)


def show(name: str, seconds: list[float]) -> None:
    """One line: rate, p50, p99."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    rate = len(ordered) / sum(ordered)
    print(f"{name:<34} n={len(ordered):<6} {rate:8.0f}/s  p50 {p50 * 1e3:7.2f} ms  p99 {p99 * 1e3:7.2f} ms", flush=True)


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def scripts(count: int = 3000) -> None:
    """Each script from one client."""
    with running_server(str(valkey_binary()), *PACKED, on_disk=True) as server:
        kit = Kit(connect(server.url))
        kit.add_worker("w1", slots=10**6)
        jobs = [make_job(tenant=f"t{n % 50}", fingerprint=f"f{n}", idempotency_key=f"k{n}") for n in range(count)]
        show("submit, one client", [timed(lambda job=job: kit.store.submit(job, LIMITED)) for job in jobs])
        batches = [[make_job(tenant="b", lane=Lane.BATCH, batch_id=f"b{n}") for _ in range(400)] for n in range(10)]
        times = [timed(lambda batch=batch: kit.store.submit_many(batch, LIMITED)) for batch in batches]
        show("batch of 400", times)
        print(f"{'jobs accepted in batches':<34} {4000 / sum(times):17.0f}/s")
        releases, times = [], []
        while True:
            begun = time.perf_counter()
            some = kit.store.release(16)
            if not some:
                break
            times.append(time.perf_counter() - begun)
            releases += some
        show("release of 16", times)
        claims = [(one, f"t{n}") for n, one in enumerate(releases[:count])]
        claim = kit.store.claim
        show("claim", [timed(lambda c=c: claim(c[0].job_id, c[0].epoch, c[1], "w1")) for c in claims])
        leases = [(one.job_id, token) for one, token in claims]
        show("renew of 8", [timed(lambda n=n: kit.store.renew(leases[n : n + 8])) for n in range(0, 800, 8)])
        pictures = [(lease, make_picture(lease[0])) for lease in leases]
        show("complete", [timed(lambda p=p: kit.store.complete(*p[0], p[1])) for p in pictures])
        show("reap, nothing due", [timed(kit.store.reap) for _ in range(300)])


def paced(seconds: float, per_second: int = 100) -> None:
    """Submits that arrive on time whatever the last one took (no coordinated omission), from 8 threads."""
    with running_server(str(valkey_binary()), *PACKED, on_disk=True) as server, running_fleet(server) as fleet:
        fleet.start_scheduler()
        fleet.start_worker(concurrency=8)
        fleet.await_workers(1)
        stores = [JobStore(connect(server.url), Settings()) for _ in range(8)]
        times: list[float] = []

        def client(number: int) -> None:
            for turn in range(number, round(seconds * per_second), len(stores)):
                due = begun + turn / per_second
                time.sleep(max(0.0, due - time.perf_counter()))
                stores[number].submit(make_job(tenant=f"t{turn % 20}"), LIMITED)
                times.append(time.perf_counter() - due)

        begun = time.perf_counter() + 0.2
        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(stores))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        show(f"submit at {per_second}/s, service busy", times)


@contextmanager
def running_fleet(server: RedisServer) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="zimg-bench-") as folder:
        fleet = Fleet(server, Path(folder))
        try:
            yield fleet
        finally:
            fleet.close()


def end_to_end(
    count: int = 3000,
    *,
    workers: int = 1,
    concurrency: int = 8,
    label: str = "",
    environ: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Jobs per second, from the first submit to the last end."""
    with running_server(str(valkey_binary()), *PACKED, on_disk=True) as server, running_fleet(server) as fleet:
        fleet.start_scheduler()
        for _ in range(workers):
            fleet.start_worker(concurrency=concurrency, **environ)
        fleet.await_workers(workers)
        store, ids = fleet.store, []
        begun = time.perf_counter()
        for _ in range(0, count, 100):
            jobs = [make_job(tenant=f"t{len(ids) % 5}") for _ in range(100)]
            store.submit_many(jobs, GENEROUS)
            ids += [job.id for job in jobs]
        submitted = time.perf_counter() - begun
        while store.depth().outcomes.get("SUCCEEDED", 0) < count and time.perf_counter() - begun < 120:
            time.sleep(0.05)
        took = time.perf_counter() - begun
        wrong = violations(store.redis, ids)
        print(
            f"{'end to end, ' + str(workers) + ' workers' + label:<34} n={count:<6} {count / took:8.0f}/s  "
            f"(all submitted after {submitted:.2f} s; violations: {len(wrong)})",
            flush=True,
        )


def with_pictures(count: int = 600) -> None:
    """The same with a picture of 200 kB for each job, put into the embedded S3."""
    with running_s3() as s3:
        environ = {**s3.environment, "S3_BUCKET": BUCKET, "STUB_PNG_BYTES": "200000"}
        end_to_end(count, label=", 200 kB to S3", environ=environ)


def idle(count: int = 150) -> None:
    """One job at a time through an idle service: submit to the event of its end."""
    with running_server(str(valkey_binary()), *PACKED, on_disk=True) as server, running_fleet(server) as fleet:
        fleet.start_scheduler()
        fleet.start_worker()
        fleet.await_workers(1)
        hub, store = EventHub(connect(server.url)), fleet.store
        times = []
        for _ in range(count):
            job = make_job()
            begun = time.perf_counter()
            store.submit(job, GENEROUS)
            last = ""
            while last != "ended":
                events = hub.wait(job.id, last, timeout_seconds=5)
                last = "ended" if events[-1].data == {"status": "succeeded"} else events[-1].id
            times.append(time.perf_counter() - begun)
            time.sleep(0.1)  # idle again
        show("idle, submit to end", times)
        hub.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=20.0, help="of the submits at 100 a second")
    seconds = parser.parse_args().seconds
    scripts()
    paced(seconds)
    idle()
    end_to_end(workers=1)
    end_to_end(workers=2, concurrency=4)
    with_pictures()


if __name__ == "__main__":
    main()
