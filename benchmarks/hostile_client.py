"""What one hostile client with 500 connections costs the others: their latency alone, with it, and without the guard.

    .venv/bin/python -m benchmarks.hostile_client [--seconds 10] [--connections 500]

An api process of its own on all addresses, a Valkey of its own, no proxy. The polite client sends 20 jobs a second from
127.0.0.3, with a key; the hostile one has `--connections` connections from 127.0.0.2 and sends wrong keys on each as
fast as it is answered, from three seconds before the measurement on. Rounds of the cases are taken in turn, so that
the machine's moods fall on all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from benchmarks.api_latency import free_port, percentile, running, wait_for
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from core.workers import WorkerInfo
from deploy.local.embedded import valkey_command, valkey_url
from deploy.local.ports import choose_ports
from scheduler.tenants import Tenants

HOSTILE, POLITE = "127.0.0.2", "127.0.0.3"
RATE = 20.0
ATTACK_BEFORE_SECONDS = 3.0
CASES = {"alone": (True, False), "hostile": (True, True), "hostile, no guard": (False, True)}  # guarded, attacked

#: The hostile client, a process of its own: threads would share the measuring client's interpreter.
ATTACK = """
import asyncio, sys
port, count, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
request = b"GET /v1/jobs HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer zimg_%d\\r\\n\\r\\n"
answered = 0

async def one(number):
    global answered
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            while True:
                writer.write(request % number)
                head = await reader.readuntil(b"\\r\\n\\r\\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
                await reader.readexactly(length)
                answered += 1
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.5)

async def main():
    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.to_thread(sys.stdin.read)
    print(answered, flush=True)
    for task in tasks:
        task.cancel()

asyncio.run(main())
"""


@contextmanager
def attacked(port: int, connections: int) -> Iterator[list[int]]:
    """A hostile client for as long as the block lasts; how many answers it got is in the list afterwards."""
    answers: list[int] = []
    command = [sys.executable, "-c", ATTACK, str(port), str(connections), HOSTILE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(ATTACK_BEFORE_SECONDS)
            yield answers
        finally:
            answers.append(int((process.communicate("", timeout=30)[0] or "0").strip()))


def polite(url: str, key: str, seconds: float) -> list[float]:
    """Seconds from each job's planned moment to its answer; every one must be accepted."""
    taken: list[float] = []
    lock = threading.Lock()
    transport = httpx.HTTPTransport(local_address=POLITE)
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=url, headers=headers, timeout=30, transport=transport) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        started = time.monotonic() + 0.1

        def send(number: int, planned: float) -> None:
            client.post("/v1/jobs", json={"prompt": f"mug {number}", "size": "512x512"}).raise_for_status()
            with lock:
                taken.append(time.monotonic() - planned)

        for number in range(int(RATE * seconds)):
            planned = started + number / RATE
            time.sleep(max(0.0, planned - time.monotonic()))
            pool.submit(send, number, planned)
    return taken


@contextmanager
def api(folder: Path, redis_url: str, *, guarded: bool) -> Iterator[int]:
    """An api process on all addresses; its port."""
    port = free_port()
    environ = {
        "REDIS_URL": redis_url,
        "ZIMG_HOST": "0.0.0.0",
        "ZIMG_PORT": str(port),
        "ZIMG_DATA_DIR": str(folder),
        "ZIMG_LOG_DIR": str(folder),
        "ZIMG_MODEL": "none",
        "ZIMG_MIN_WORKERS": "0",
        "ZIMG_ADMIN_KEY": "benchmark",
        "ZIMG_ADDRESS_PER_SECOND": "50" if guarded else "0",
        "S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    with running([sys.executable, "-m", "api"], environ, folder / "api.log"):
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status())
        yield port


def measure(case: str, port: int, key: str, arguments: argparse.Namespace) -> dict[str, float]:
    """One round of one case."""
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        answers = stack.enter_context(attacked(port, arguments.connections)) if CASES[case][1] else []
        taken = polite(url, key, arguments.seconds)
    return {
        "p50_ms": percentile(taken, 0.5),
        "p95_ms": percentile(taken, 0.95),
        "p99_ms": percentile(taken, 0.99),
        "hostile_per_second": round(sum(answers) / (arguments.seconds + ATTACK_BEFORE_SECONDS), 1),
    }


def main() -> None:
    """Start the parts, measure all cases in turn, print the median round of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zimg-bench-") as folder, ExitStack() as stack:
        data = Path(folder)
        redis_port = choose_ports(("redis",))["redis"]
        redis_url = valkey_url(redis_port)
        stack.enter_context(running(valkey_command(data, redis_port), {}, data / "valkey.log"))
        client = connect(redis_url)
        wait_for(client.ping)
        settings = Settings(redis_url=redis_url)
        JobStore(client, settings).heartbeat(WorkerInfo(name="none", slots=4))
        key, _ = Tenants(client, settings).create_key("polite")
        ports = {guarded: stack.enter_context(api(data, redis_url, guarded=guarded)) for guarded in (True, False)}
        for port in ports.values():
            polite(f"http://127.0.0.1:{port}", key, 2.0)  # warm up
        rounds: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        for _ in range(arguments.rounds):
            for case, (guarded, _attack) in CASES.items():
                rounds[case].append(measure(case, ports[guarded], key, arguments))
    for case, found in rounds.items():
        print(json.dumps({"case": case, **{name: median(one[name] for one in found) for name in found[0]}}), flush=True)


if __name__ == "__main__":
    main()
