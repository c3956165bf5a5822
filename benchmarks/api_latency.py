"""How long POST /v1/jobs takes at a steady rate, and how the probes do beside open event streams.

    python -m benchmarks.api_latency --rate 100 --seconds 20 --streams 0 [--queued 100000]

The api runs under gunicorn as in production, on a Valkey with an append-only file that is synced at each write; nothing
draws. Requests are sent at fixed moments, whether or not earlier ones were answered, so a stall is seen in full
(no coordinated omission). One JSON line per figure.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx

from core.job import Lane
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from core.workers import WorkerInfo
from deploy.local.embedded import valkey_command, valkey_url
from deploy.local.ports import choose_ports
from tests.queue_kit import GENEROUS, make_job

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
CLIENT_THREADS = 64
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


def at_rate(url: str, rate: float, seconds: float) -> tuple[list[float], list[int]]:
    """Send at fixed moments; seconds from the planned moment to the answer, and the statuses."""
    taken: list[float] = []
    statuses: list[int] = []
    limits = httpx.Limits(max_connections=CLIENT_THREADS, max_keepalive_connections=CLIENT_THREADS)
    with httpx.Client(base_url=url, timeout=30, limits=limits) as client, ThreadPoolExecutor(CLIENT_THREADS) as pool:
        started = time.monotonic() + 0.2

        def send(planned: float) -> None:
            answer = client.post("/v1/jobs", json=body())
            taken.append(time.monotonic() - planned)
            statuses.append(answer.status_code)

        for number in range(int(rate * seconds)):
            planned = started + number / rate
            time.sleep(max(0.0, planned - time.monotonic()))
            pool.submit(send, planned)
    return taken, statuses


def probe(url: str, stop: threading.Event, taken: list[float]) -> None:
    """GET /healthz ten times a second."""
    with httpx.Client(base_url=url, timeout=10) as client:
        while not stop.wait(0.1):
            begun = time.monotonic()
            client.get("/healthz").raise_for_status()
            taken.append(time.monotonic() - begun)


def open_streams(url: str, number: int, stack: ExitStack) -> None:
    """Follow `number` waiting jobs with an event stream each, and read what comes."""
    limits = httpx.Limits(max_connections=number + 1)
    client = stack.enter_context(httpx.Client(base_url=url, timeout=None, limits=limits))
    for _ in range(number):
        job_id = client.post("/v1/jobs", json=body()).json()["id"]
        answer = stack.enter_context(client.stream("GET", f"/v1/jobs/{job_id}/events"))
        answer.raise_for_status()
        threading.Thread(target=lambda one=answer: _drain(one), daemon=True).start()


def _drain(answer: httpx.Response) -> None:
    try:
        for _ in answer.iter_raw():
            pass
    except (httpx.HTTPError, httpx.StreamError):
        return


def measure(url: str, arguments: argparse.Namespace, pids: Mapping[str, int]) -> dict[str, object]:
    """One run; beside it what each process used of the processors, since all share them."""
    at_rate(url, 20, 2)  # warm up
    with ExitStack() as stack:
        open_streams(url, arguments.streams, stack)
        stop, probes = threading.Event(), []
        thread = threading.Thread(target=probe, args=(url, stop, probes))
        thread.start()
        before, before_here = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.process_time()
        taken, statuses = at_rate(url, arguments.rate, arguments.seconds)
        used = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        used["load"] = time.process_time() - before_here
        stop.set()
        thread.join()
    return {
        "rate": arguments.rate,
        "streams": arguments.streams,
        "queued": arguments.queued,
        "posts": len(taken),
        "statuses": dict(Counter(statuses)),
        "post_p50_ms": percentile(taken, 0.5),
        "post_p99_ms": percentile(taken, 0.99),
        "post_max_ms": percentile(taken, 1.0),
        "healthz_p50_ms": percentile(probes, 0.5),
        "healthz_p99_ms": percentile(probes, 0.99),
        "cpu_ms_per_post": {name: round(seconds / len(taken) * 1000, 2) for name, seconds in used.items()},
        "load_average": round(os.getloadavg()[0], 1),
    }


def fill(store: JobStore, count: int) -> None:
    """Queue rows of lists, a hundred for each of 1,000 tenants at most."""
    for number in range(0, count, 100):
        jobs = [make_job(tenant=f"t{number // 100 % 1000}", lane=Lane.BATCH) for _ in range(100)]
        store.submit_many(jobs, GENEROUS)
    while store.redis.info("persistence")["aof_rewrite_in_progress"]:  # type: ignore[index]
        time.sleep(0.2)


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
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--streams", type=int, default=0)
    parser.add_argument("--queued", type=int, default=0, help="jobs of 1,000 tenants that wait already")
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
        fill(store, arguments.queued)
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
        print(json.dumps(measure(url, arguments, {"api": api.pid, "redis": server.pid})), flush=True)


if __name__ == "__main__":
    main()
