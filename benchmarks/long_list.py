"""How long a long product list holds Redis up for everybody else.

`python -m benchmarks.long_list [--rows 20000] [--rows-at-once 500]`: stores a list on Valkey with AOF always while
another client pings every 2 ms; prints the time of the whole list, each call's, and the slowest ping. With as many rows
at once as the list has, it is one script.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

import core.long_list
from core.job import Lane
from core.redis_client import connect
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import running_server
from tests.queue_kit import GENEROUS, Kit, make_job

PING_SECONDS = 0.002


def ping(url: str, stop: threading.Event, waits: list[float]) -> None:
    """Seconds that another client waits, again and again until `stop`."""
    client = connect(url, timeout_seconds=60)
    while not stop.is_set():
        begun = time.perf_counter()
        client.ping()
        waits.append(time.perf_counter() - begun)
        stop.wait(PING_SECONDS)


def measure(rows: int) -> None:
    """One line of figures."""
    with running_server(str(valkey_binary()), on_disk=True) as server:
        kit = Kit(connect(server.url, timeout_seconds=60))
        kit.queued(lane=Lane.BATCH)  # the scripts are there
        jobs = [
            make_job(lane=Lane.BATCH, batch_id="b1", idempotency_key=f"k#{n}", body_hash="h", fingerprint=f"f{n}")
            for n in range(rows)
        ]
        stop, waits = threading.Event(), list[float]()
        other = threading.Thread(target=ping, args=(server.url, stop, waits))
        other.start()
        kit.redis.config_resetstat()
        begun = time.perf_counter()
        kit.store.submit_many(jobs, GENEROUS)
        took = time.perf_counter() - begun
        stop.set()
        other.join()
        calls = kit.redis.info("commandstats")["cmdstat_evalsha"]
        print(
            f"{rows} rows, {core.long_list.ROWS_AT_ONCE} at once: {took:.2f} s; {calls['calls']} scripts of "
            f"{calls['usec_per_call'] / 1e3:.0f} ms; another client's ping {statistics.median(waits) * 1e3:.1f} ms at "
            f"the median, {max(waits) * 1e3:.0f} ms at worst ({len(waits)} pings)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_list", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rows-at-once", type=int, default=core.long_list.ROWS_AT_ONCE)
    arguments = parser.parse_args()
    core.long_list.ROWS_AT_ONCE = arguments.rows_at_once
    measure(arguments.rows)


if __name__ == "__main__":
    main()
