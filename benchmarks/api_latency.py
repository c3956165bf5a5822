"""How long POST /v1/jobs takes at a steady rate over HTTP, and how the probes do beside open event streams.

    python -m benchmarks.api_latency --rate 100 --seconds 30 --queued 100000 --tenants 1000 --keys 20
    python -m benchmarks.api_latency --rate 100 --seconds 30 --streams 200

The first is the claim "p99 of a submit at 100 a second with 100,000 jobs of 1,000 tenants queued is at most 25 ms", the
second "p99 of /healthz beside 200 streams is at most 50 ms". The api runs under gunicorn as in production, on a Valkey
with an append-only file that is synced at each write; nothing draws. Requests are sent at fixed moments, whether or not
earlier ones were answered, so a stall is seen in full (no coordinated omission). One JSON line for each round; beside
the latencies what each process used of the processors for a POST, and how busy the machine was with other things: where
`others_cores` is not near 0 or `late_p99_ms` not near 1, the latencies tell of the machine and not of the service.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.steady_load import Connections, Taken, at_rate, get, post
from core.job import Lane
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from core.workers import WorkerInfo
from deploy.local.embedded import valkey_command, valkey_url
from deploy.local.ports import choose_ports
from scheduler.tenants import Tenants
from tests.queue_kit import GENEROUS, make_job

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
PROMPT = "a red mug on a white background, morning light"
NUMBERS = count()


def body() -> dict[str, str]:
    """Each its own: the same one twice at once would be taken for a double click and cost less."""
    return {"prompt": f"{PROMPT}, {next(NUMBERS)}", "size": "1024x1024"}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, in milliseconds with one decimal."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)


@contextmanager
def running(command: Sequence[str], environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of a block."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(check: object) -> None:
    """Call until it answers without an exception."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            check()  # type: ignore[operator]
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def probe(connections: Connections, stop: threading.Event, taken: Taken) -> None:
    """GET /healthz ten times a second."""
    request = get("/healthz")
    while not stop.wait(0.1):
        taken.send(connections, request, time.monotonic())


def open_streams(port: int, number: int, keys: Sequence[str], stack: ExitStack) -> None:
    """Follow `number` waiting jobs with an event stream each, and read what comes."""
    limits = httpx.Limits(max_connections=number + 1)
    client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None, limits=limits))
    for index in range(number):
        headers = {"Authorization": f"Bearer {keys[index % len(keys)]}"} if keys else {}
        job_id = client.post("/v1/jobs", json=body(), headers=headers).json()["id"]
        answer = stack.enter_context(client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers))
        answer.raise_for_status()
        threading.Thread(target=lambda one=answer: _drain(one), daemon=True).start()
        tell(f"{index + 1} of {number} streams open")


def _drain(answer: httpx.Response) -> None:
    try:
        for _ in answer.iter_raw():
            pass
    except (httpx.HTTPError, httpx.StreamError):
        return


def measure(port: int, arguments: argparse.Namespace, pids: Mapping[str, int], keys: Sequence[str]) -> dict[str, Any]:
    """One round; beside it what each process used of the processors, since all share them."""
    connections, probes, stop = Connections(port), Taken(), threading.Event()
    tenants = cycle(keys or [""])

    def request() -> bytes:
        return post("/v1/jobs", body(), next(tenants))

    at_rate(connections, request, 20, 2)  # warm up
    thread = threading.Thread(target=probe, args=(connections, stop, probes))
    thread.start()
    before, began, ours = cpu_of(pids), machine_seconds(), time.process_time()
    taken = at_rate(
        connections,
        request,
        arguments.rate,
        arguments.seconds,
        lambda passed: tell(f"measuring: {passed:.0f} of {arguments.seconds:.0f} s"),
    )
    used = {name: seconds - before[name] for name, seconds in cpu_of(pids).items()}
    used["load"] = time.process_time() - ours
    ended = machine_seconds()
    stop.set()
    thread.join()
    connections.close()
    return figures(arguments, taken, probes) | {
        "cpu_ms_per_post": {name: round(seconds / len(taken.seconds) * 1000, 2) for name, seconds in used.items()},
        "others_cores": round((ended.busy - began.busy - sum(used.values())) / (ended.clock - began.clock), 2),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def figures(arguments: argparse.Namespace, taken: Taken, probes: Taken) -> dict[str, Any]:
    """What was asked for, and the latencies."""
    return {
        "rate": arguments.rate,
        "streams": arguments.streams,
        "queued": arguments.queued,
        "tenants": arguments.tenants,
        "keys": arguments.keys,
        "posts": len(taken.seconds),
        "statuses": dict(Counter(taken.statuses)),
        "post_p50_ms": percentile(taken.seconds, 0.5),
        "post_p95_ms": percentile(taken.seconds, 0.95),
        "post_p99_ms": percentile(taken.seconds, 0.99),
        "post_max_ms": percentile(taken.seconds, 1.0),
        "healthz_p50_ms": percentile(probes.seconds, 0.5),
        "healthz_p95_ms": percentile(probes.seconds, 0.95),
        "healthz_p99_ms": percentile(probes.seconds, 0.99),
        "late_p99_ms": percentile(taken.late, 0.99),
    }


def fill(store: JobStore, count: int, tenants: int) -> None:
    """Queue rows of lists, a hundred at once for one of `tenants` tenants after the other."""
    for number in range(0, count, 100):
        jobs = [
            make_job(tenant=f"t{number // 100 % tenants}", lane=Lane.BATCH) for _ in range(min(100, count - number))
        ]
        store.submit_many(jobs, GENEROUS)
        if number % 5_000 == 0:
            tell(f"{number} of {count} jobs queued")
    while store.redis.info("persistence")["aof_rewrite_in_progress"]:  # type: ignore[index]
        time.sleep(0.2)


def tell(what: str) -> None:
    """Progress, for a person."""
    if sys.stderr.isatty():
        print(f"\r{what:<60}", end="", file=sys.stderr, flush=True)


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """Processor seconds of each so far."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


class MachineSeconds(NamedTuple):
    """Of the whole machine since it started: seconds that all cores together were busy, and seconds by the clock."""

    busy: float
    clock: float


def machine_seconds() -> MachineSeconds:
    """As of now (Linux). Time that a hypervisor gave to others counts as busy."""
    words = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return MachineSeconds((sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK"), time.monotonic())


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far (Linux), threads that ended included."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(one)) for one in children)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    return port if port < 55_535 else port - 12_000


def main() -> None:
    """Start the parts, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=100.0, help="POSTs a second (100)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each round (20)")
    parser.add_argument("--rounds", type=int, default=1, help="on the same server, one after the other (1)")
    parser.add_argument("--streams", type=int, default=0, help="event streams that stay open meanwhile (0)")
    parser.add_argument("--queued", type=int, default=0, help="jobs that wait already (0)")
    parser.add_argument("--tenants", type=int, default=1_000, help="whose they are, at most (1,000)")
    parser.add_argument("--keys", type=int, default=0, help="send with so many tenants' keys in turn (0: none)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zimg-bench-") as folder, ExitStack() as stack:
        data = Path(folder)
        redis_port, port = choose_ports(("redis",))["redis"], free_port()
        redis_url = valkey_url(redis_port)
        server = stack.enter_context(running(valkey_command(data, redis_port), {}, data / "valkey.log"))
        client = connect(redis_url)
        wait_for(client.ping)
        store = JobStore(client, Settings(redis_url=redis_url))
        store.heartbeat(WorkerInfo(name="none", slots=4))
        fill(store, arguments.queued, arguments.tenants)
        tenants = Tenants(client, store.settings)
        keys = [tenants.create_key(f"t{number}")[0] for number in range(arguments.keys)]
        environ = {
            "REDIS_URL": redis_url,
            "ZIMG_PORT": str(port),
            "ZIMG_DATA_DIR": folder,
            "ZIMG_LOG_DIR": folder,
            "ZIMG_MODEL": "none",
            "ZIMG_MIN_WORKERS": "0",
            "S3_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
        }
        api = stack.enter_context(running([sys.executable, "-m", "api"], environ, data / "api.log"))
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: httpx.get(f"{url}/healthz").raise_for_status())
        open_streams(port, arguments.streams, keys, stack)
        for _ in range(arguments.rounds):
            found = measure(port, arguments, {"api": api.pid, "redis": server.pid}, keys)
            tell("")
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
