"""Fault rows 8 and 9: Redis is killed with writes in flight, loses the end of its file, or stands still."""

import secrets
import signal
import threading
import time
from collections import Counter

import httpx
import pytest

from core.job import JobState
from core.redis_client import connect
from scheduler.auditor import Auditor
from tests.fixtures.redis import free_port
from tests.integration.queue.test_faults import submit_on
from tests.integration.queue.test_processes import assert_all_well, objects, runs
from tests.queue_invariants import assert_fair, assert_invariants, submit_contest
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

#: What the api waits for Redis, and a second for the machine.
ANSWERED_WITHIN_SECONDS = 2.0 + 1.0


def append_only_file(fleet):
    [path] = (fleet.server.folder / "appendonlydir").glob("*.incr.aof")
    return path


def tear(fleet):
    """As when the power goes in the middle of a write that nobody was told of: half of what a script wrote."""
    torn = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$8\r\n{zimg}:V\r\n$1\r\n9\r\n*4\r\n$4\r\nHSET\r\n$9\r\n{zimg}:j"
    with append_only_file(fleet).open("ab") as file:
        file.write(torn)


@pytest.mark.parametrize("end_of_file", ["whole", "torn"])
def test_row_8_redis_killed_with_writes_in_flight(fleet, end_of_file):
    contest = submit_contest(fleet, 500)
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.02")
    fleet.await_workers(1)
    thread, accepted = submit_on(fleet, 600)
    for _ in range(3):
        time.sleep(1.5)
        fleet.server.kill()
        if end_of_file == "torn":
            tear(fleet)
        fleet.server.start()
    back = time.monotonic()
    done = len(objects(fleet))
    wait_until(lambda: len(objects(fleet)) > done, seconds=10, why=fleet.logs)
    resumed = time.monotonic() - back
    thread.join(timeout=120)

    assert len(accepted) == 600
    history = assert_all_well(fleet, [*contest, *accepted], seconds=90)
    assert fleet.store.redis.get("{zimg}:V") != "9", "nothing of the torn step is left"
    shares = ", ".join(f"{share:.2f}" for share in assert_fair(history))
    print(f"\nrow 8, {end_of_file}: resumed {resumed:.1f} s after the last restart, shares {shares}")


def test_row_8_the_end_of_the_file_is_lost_though_it_was_confirmed(fleet):
    """A disk that lied. What is gone is gone, but what is left is whole: clients send again, and all ends once."""
    scheduler, worker = fleet.start_scheduler(), fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    jobs = []
    for n in range(40):
        jobs += [make_job(tenant=f"t{n % 3}") for _ in range(5)]
        fleet.store.submit_many(jobs[-5:], GENEROUS)
    wait_until(lambda: len(runs(fleet)) > 60, seconds=60, why=fleet.logs)
    late = [make_job(tenant="t0") for _ in range(20)]
    fleet.store.submit_many(late, GENEROUS)
    fleet.server.kill()
    with append_only_file(fleet).open("r+b") as file:
        file.truncate(append_only_file(fleet).stat().st_size - 30_000)
    fleet.server.start()

    unknown = [job for job in [*jobs, *late] if fleet.store.get(job.id) is None]
    for job in unknown:  # the client asks, is told 404, and sends again
        fleet.store.submit(job, GENEROUS)
    ids = [job.id for job in [*jobs, *late]]
    ended = fleet.await_ends(ids, 90)

    assert Counter(job.state for job in ended) == {JobState.SUCCEEDED: len(ids)}
    assert_invariants(fleet, ids, forgot=True)
    assert len(unknown) >= 15
    assert Auditor(fleet.store, pause_seconds=0.1).audit().is_clean
    assert (scheduler.poll(), worker.poll()) == (None, None)
    again = len(runs(fleet)) - len({one[0] for one in runs(fleet)})
    print(f"\nrow 8, lost tail: {len(unknown)} submits of {len(ids)} were lost and sent again, {again} drawn twice")


def stopped(fleet, seconds):
    fleet.server.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    fleet.server.process.send_signal(signal.SIGCONT)


def client_pause(fleet, seconds):
    fleet.store.redis.execute_command("CLIENT", "PAUSE", round(seconds * 1000), "ALL")
    time.sleep(seconds)


def debug_sleep(fleet, seconds):
    connect(fleet.server.url, timeout_seconds=seconds + 30).execute_command("DEBUG", "SLEEP", str(seconds))


SLOW_SCRIPT = """
local function now() local t = redis.call('TIME'); return tonumber(t[1]) + tonumber(t[2]) / 1e6 end
local begun = now()
while now() - begun < tonumber(ARGV[1]) do end
"""


def slow_script(fleet, seconds):
    """From five seconds on the server answers others with BUSY."""
    connect(fleet.server.url, timeout_seconds=seconds + 30).eval(SLOW_SCRIPT, 0, seconds)


class Caller(threading.Thread):
    """Asks the api for a picture again and again, as a client with an Idempotency-Key does until it is answered."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.done = url, threading.Event()
        self.ids, self.refusals, self.slowest_refusal, self.unhealthy = [], Counter(), 0.0, 0

    def run(self):
        with httpx.Client(base_url=self.url, timeout=30) as http:
            while not self.done.is_set():
                self.ask(http, {"Idempotency-Key": secrets.token_hex(8)}, {"prompt": "a mug", "size": "256x256"})
                self.unhealthy += http.get("/healthz").status_code != 200
                self.done.wait(0.2)

    def ask(self, http, key, body):
        while True:
            begun = time.monotonic()
            answer = http.post("/v1/jobs", json=body, headers=key)
            if answer.status_code == 202:
                self.ids.append(answer.json()["id"])
                return
            self.refusals[answer.json()["code"]] += 1
            self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - begun)
            time.sleep(0.5)


@pytest.mark.parametrize(
    ("how", "seconds"),
    [(stopped, 5), (stopped, 40), (stopped, 120), (client_pause, 30), (debug_sleep, 8), (slow_script, 10)],
)
def test_row_9_redis_stands_still(fleet, how, seconds):
    """After the stall nobody's lease is taken: no job runs twice. Meanwhile the api says 503, soon and without fail."""
    ids = submit_contest(fleet, 200)
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.5")
    port = free_port()
    fleet.start_api(port)
    caller = Caller(f"http://127.0.0.1:{port}")
    caller.start()
    wait_until(lambda: len(runs(fleet)) > 4 and caller.ids, seconds=30, why=fleet.logs)

    how(fleet, seconds)

    known = len(caller.ids)
    wait_until(lambda: len(caller.ids) > known, seconds=20, why=fleet.logs)
    caller.done.set()
    caller.join(timeout=20)
    ids += caller.ids
    assert len(set(ids)) == len(ids), "each call got a job of its own"
    history = assert_all_well(fleet, ids, seconds=120)
    assert len(runs(fleet)) == len(ids), "nothing was drawn twice"
    assert set(caller.refusals) == {"redis_unavailable"}
    assert caller.slowest_refusal < ANSWERED_WITHIN_SECONDS
    assert caller.unhealthy == 0
    shares = ", ".join(f"{share:.2f}" for share in assert_fair(history))
    print(
        f"\nrow 9, {how.__name__} {seconds} s: {sum(caller.refusals.values())} answers 503, the slowest after "
        f"{caller.slowest_refusal:.2f} s; shares {shares}"
    )
