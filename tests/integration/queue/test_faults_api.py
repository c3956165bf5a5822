"""Fault rows 16, 17, 19 and 20: the api dies in the middle of a submit, clocks are wrong, two releases side by side,
workers come and go under a long batch."""

import random
import signal
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from core.job import JobState, Lane
from core.job_store import JobStore
from core.redis_client import PREFIX, connect
from tests import old_release
from tests.fault_proxy import tcp_proxy
from tests.fixtures.redis import free_port
from tests.fixtures.tools import require_tool
from tests.integration.queue.test_processes import assert_all_well, objects, problems, runs, submit
from tests.queue_invariants import assert_invariants
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

BODY = {"prompt": "a very particular mug", "size": "256x256"}
WAYS = {
    "key": ("/v1/jobs", {"Idempotency-Key": "order-7"}, {"Idempotency-Key": "order-7"}),
    "flagged retry": ("/v1/images/generations", {}, {"x-stainless-retry-count": "1"}),
    "nothing": ("/v1/jobs", {}, {}),
}


@pytest.mark.parametrize("way", WAYS)
def test_row_16_an_api_killed_between_the_submit_and_its_answer(real_fleet, way):
    """The script ran, the answer never came. A key or a flagged retry makes one job; a bare call is a new wish."""
    fleet = real_fleet
    path, headers, again = WAYS[way]
    port = free_port()
    with tcp_proxy(fleet.server.port) as proxy:
        through = f"redis://127.0.0.1:{proxy.port}/0"
        fleet.start_scheduler()
        fleet.start_worker(STUB_PNG_BYTES="2000")
        fleet.await_workers(1)
        api = fleet.start_api(port, REDIS_URL=through)
        assert httpx.post(f"http://127.0.0.1:{port}/v1/jobs", json={**BODY, "prompt": "warm-up"}).status_code == 202
        wait_until(lambda: not problems(fleet, ids_of(fleet)), seconds=20, why=fleet.logs)
        fleet.store.pause("lane", "interactive")  # the answer to the second call is the same job, still waiting
        proxy.holds_after = BODY["prompt"].encode()
        with ThreadPoolExecutor(1) as client:
            first = client.submit(httpx.post, f"http://127.0.0.1:{port}{path}", json=BODY, headers=headers, timeout=30)
            wait_until(lambda: len(ids_of(fleet)) == 2, seconds=20, why=fleet.logs)
            fleet.kill_all(api)
            assert isinstance(first.exception(timeout=20), httpx.TransportError)
    fleet.start_api(port)
    fleet.store.resume("lane", "interactive")

    if way == "nothing":  # within two seconds it would count as a double click
        wait_until(lambda: time.time() * 1000 > fleet.store.get(ids_of(fleet)[1]).created_ms + 2500, seconds=10)

    answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=BODY, headers=again, timeout=60)

    assert answer.is_success, answer.text
    ids = ids_of(fleet)[1:]
    assert len(ids) == (2 if way == "nothing" else 1)
    assert {job.state for job in fleet.await_ends(ids, 60)} == {JobState.SUCCEEDED}
    assert_invariants(fleet, ids)


def ids_of(fleet):
    """Everything that the api took in, oldest first."""
    return fleet.store.redis.zrange(f"{PREFIX}jobs:local", 0, -1)


def test_row_17_clocks_an_hour_off_change_nothing(fleet):
    faketime = require_tool("faketime")

    def skewed(by):
        # Stamps of files stay as they are: they come from one kernel here, and gunicorn keeps its own time in them.
        own = ["NO_FAKE_STAT=1", f"PYTHONPATH={Path(__file__).parents[2] / 'data' / 'skewed_clock'}"]
        return ["env", *own, faketime, "-m", "--exclude-monotonic", "-f", by]

    for by in ("+1h", "-1h"):
        fleet.start_scheduler(inside=skewed(by))
    ahead = fleet.start_worker(inside=skewed("+1h"), STUB_SECONDS="0.3")
    fleet.start_worker(inside=skewed("-1h"), STUB_SECONDS="0.3")
    fleet.await_workers(2)
    port = free_port()
    fleet.start_api(port, inside=skewed("+1h"))
    ids = submit(fleet, 100)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        answers = [http.post("/v1/jobs", json={"prompt": f"mug {n}", "size": "256x256"}) for n in range(10)]
    assert {answer.status_code for answer in answers} == {202}
    ids += [answer.json()["id"] for answer in answers]
    wait_until(lambda: len(runs(fleet)) > 20, seconds=60, why=fleet.logs)
    assert all(abs(fleet.store.get(job_id).created_ms / 1000 - time.time()) < 120 for job_id in ids)
    drawn_before_the_kill = len(runs(fleet))

    fleet.kill_all(ahead)
    assert_all_well(fleet, ids)

    again = len(runs(fleet)) - len(ids)
    assert again <= 4, "only what the killed worker held is run again"
    print(f"\nrow 17: {drawn_before_the_kill} done before the kill, {again} drawn twice")


@pytest.mark.parametrize(
    ("schedulers", "workers"), [(["old"], ["new", "old"]), (["new"], ["old", "new"]), (["old", "new"], ["old", "new"])]
)
def test_row_19_two_releases_side_by_side(fleet, schedulers, workers):
    """The scripts of the release before and today's on one Redis: schedulers, workers and clients of both."""
    for one in schedulers:
        fleet.start_scheduler("tests.old_release" if one == "old" else "scheduler")
    started = [
        fleet.start_worker(app="tests.old_release" if one == "old" else "tests.stub_worker", STUB_SECONDS="0.1")
        for one in workers
    ]
    fleet.await_workers(2)
    ids = submit_as_both(fleet, 120)
    wait_until(lambda: len(runs(fleet)) > 30, seconds=60, why=fleet.logs)

    fleet.kill(started[0])
    fleet.start_worker(STUB_SECONDS="0.1")

    jobs = fleet.await_ends(ids, 90)
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: len(ids)}
    assert_invariants(fleet, ids, is_mixed=True)
    assert {job.id for job in jobs if not job.leader} <= objects(fleet)


def submit_as_both(fleet, count):
    """Every second job by a client of the old release; some are followers of the other release's leaders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.scripts.script_texts", old_release.old_texts)
        old = JobStore(connect(fleet.server.url), fleet.settings)
    ids = []
    for n in range(count):
        job = make_job(fingerprint=f"f{n // 3}" if n % 10 < 3 else "", lane=random.Random(n).choice(list(Lane)))
        (old if n % 2 else fleet.store).submit(job, GENEROUS)
        ids.append(job.id)
    return ids


def test_row_20_a_list_of_ten_thousand_and_thirty_people_while_workers_come_and_go(fleet):
    """One worker, then four, then one again, by SIGTERM as an autoscaler does."""
    seconds = 0.15
    fleet.start_scheduler()
    fleet.start_scheduler()
    workers = [fleet.start_worker(STUB_SECONDS=str(seconds))]
    fleet.await_workers(1)
    jobs = [make_job(tenant="shop", lane=Lane.BATCH, batch_id="b1") for _ in range(10_000)]
    fleet.store.submit_many(jobs, GENEROUS)
    rows = [job.id for job in jobs]
    stop = threading.Event()
    asked: list[list[str]] = [[] for _ in range(30)]

    def person(number):
        store, rng = fleet.store, random.Random(number)
        while not stop.is_set():
            job = make_job(tenant=f"p{number}")
            store.submit(job, GENEROUS)
            asked[number].append(job.id)
            stop.wait(rng.uniform(2, 6))

    people = [threading.Thread(target=person, args=(number,)) for number in range(30)]
    for one in people:
        one.start()
    time.sleep(10)
    workers += [fleet.start_worker(STUB_SECONDS=str(seconds)) for _ in range(3)]
    wait_until(lambda: len(runs(fleet)) > 7000, seconds=240, why=fleet.logs)
    for one in workers[:3]:
        one.send_signal(signal.SIGTERM)
    codes = [one.wait(timeout=60) for one in workers[:3]]
    at_scale_in = len(runs(fleet))
    time.sleep(5)
    stop.set()
    for one in people:
        one.join(timeout=20)
    ids = [job_id for person in asked for job_id in person]

    jobs = fleet.await_ends(ids, 60)
    waits = sorted((job.started_ms - job.created_ms) / 1000 for job in jobs)
    p95 = waits[int(len(waits) * 0.95)]
    left = len(rows) - sum(job.state.is_terminal for job in fleet.store.get_many(rows))
    # One list, and nobody asks for enough to wait beside others: how long people waited is below.
    assert_all_well(fleet, [*rows, *ids], seconds=240, is_contended=False)

    assert codes == [0, 0, 0]
    assert left > 0, "the list was still being worked through while people asked"
    assert len(runs(fleet)) == len(rows) + len(ids), "scale-in costs no run"
    assert p95 < 3.0
    print(
        f"\nrow 20: {len(rows)} rows, {len(ids)} pictures of people waited for their start "
        f"{statistics.median(waits):.2f} s at the median, {p95:.2f} s at p95 ({seconds} s a run); "
        f"scale-in at {at_scale_in} runs, {left} rows after the last person"
    )
