"""The queue's fault matrix on real processes (`make faults`): after each row every accepted job has ended as it should.

I1 every accepted job ends · I2 one charge if it succeeded, else one refund · I3 one object for each success, with the
record's bytes · I4 nothing reserved or held at rest · I5 no accepted job is unknown · I6 shares within 10 % while
tenants contend (row 20 also: how long people wait). Each job's history is a legal one. All of it is asserted after
each row by one function, tests/queue_invariants.py.
"""

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from core.errors import QuotaExceeded, ZimgError
from core.job import JobState
from core.redis_client import connect
from scheduler.auditor import Auditor
from tests.integration.queue.test_processes import assert_all_well, lives_to_the_end, runs, submit
from tests.queue_invariants import assert_invariants, submit_contest
from tests.queue_kit import GENEROUS, limits, make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def submit_on(fleet, count, per_second=100):
    """Submit one by one whatever happens, as a client that sends the same job again until it is answered: ids."""
    accepted = []

    def client():
        store = fleet.store
        for _ in range(count):
            job = make_job()
            for _ in range(200):
                with suppress(ZimgError):
                    store.submit(job, GENEROUS)
                    accepted.append(job.id)
                    break
                time.sleep(0.1)
            time.sleep(1 / per_second)

    thread = threading.Thread(target=client)
    thread.start()
    return thread, accepted


def kill_connections(fleet):
    client = connect(fleet.server.url)
    me = client.client_id()
    for one in client.client_list():
        if int(one["id"]) != me:
            with suppress(Exception):
                client.client_kill_filter(_id=one["id"])


@pytest.mark.parametrize("point", ["claimed", "stored", "completed"])
def test_row_1_a_worker_killed_at_each_point_of_a_run(fleet, point):
    fleet.start_scheduler()
    worker = fleet.start_worker(STUB_DIE_AT=point, STUB_SECONDS="0.05")
    ids = submit(fleet, 30)
    wait_until(lambda: worker.poll() == 70, seconds=30, why=fleet.logs)
    begun = time.monotonic()
    fleet.start_worker(STUB_SECONDS="0.05")

    assert_all_well(fleet, ids)

    assert time.monotonic() - begun < 20
    drawn = Counter(job_id for job_id, _, _ in runs(fleet))
    if point == "stored":
        assert max(drawn.values()) <= 1, "what is stored is not drawn again"


def test_row_5_stopping_again_and_again_under_load(fleet):
    fleet.start_scheduler()
    ids = submit(fleet, 200)
    for _ in range(4):
        worker = fleet.start_worker(STUB_SECONDS="0.3")
        fleet.await_workers(1)
        time.sleep(1)
        worker.send_signal(signal.SIGTERM)
        assert fleet.stop(worker) in (0, 1)
    fleet.start_worker(STUB_SECONDS="0.01")

    assert_all_well(fleet, ids)


def test_row_7_ten_poison_jobs_among_a_thousand(fleet):
    fleet.start_scheduler()
    rng = random.Random(7)
    jobs = [make_job(prompt="poison" if n % 100 == 50 else "mug", tenant=f"t{rng.randrange(5)}") for n in range(1000)]
    for tenant in {job.tenant for job in jobs}:
        fleet.store.submit_many([job for job in jobs if job.tenant == tenant], GENEROUS)
    ids = [job.id for job in jobs]
    for _ in range(80):
        if lives_to_the_end(fleet, fleet.start_worker(STUB_SECONDS="0.01"), ids):
            break

    found = Counter((job.request.prompt, job.state) for job in fleet.await_ends(ids, 60))

    assert found == {("mug", JobState.SUCCEEDED): 990, ("poison", JobState.DEAD): 10}
    assert_invariants(fleet, ids)


def test_row_10_all_connections_killed_again_and_again(fleet):
    contest = submit_contest(fleet, 300)
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.1")
    fleet.await_workers(1)
    thread, accepted = submit_on(fleet, 400, per_second=40)
    for _ in range(6):
        time.sleep(2)
        kill_connections(fleet)
    thread.join(timeout=120)

    assert_all_well(fleet, [*contest, *accepted])
    assert fleet.store.redis.hlen("celery:unacked") <= 6


def test_row_11_a_read_only_window_and_a_lost_tail(fleet):
    scheduler, worker = fleet.start_scheduler(), fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    ids = submit(fleet, 200)
    client = fleet.store.redis
    client.config_set("min-replicas-to-write", 1)  # refuses every write: NOREPLICAS
    time.sleep(3)
    client.config_set("min-replicas-to-write", 0)
    assert_all_well(fleet, ids)
    assert (scheduler.poll(), worker.poll()) == (None, None)

    more = submit(fleet, 100)
    auditor = Auditor(fleet.store, pause_seconds=0.1)
    client.delete(*client.scan_iter("{zimg}:tq:*"), "{zimg}:rel", "{zimg}:act", *client.scan_iter("{zimg}:use:*"))
    assert not auditor.audit().is_clean
    auditor.audit(repair=True)  # while the service works
    fleet.await_ends(more, 60)
    auditor.audit(repair=True)  # usage changed under the first one
    assert auditor.audit().is_clean

    assert_all_well(fleet, [*ids, *more])
    assert (scheduler.poll(), worker.poll()) == (None, None)


def test_row_12_redis_full(fleet):
    scheduler, worker = fleet.start_scheduler(), fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    ids = submit(fleet, 100)
    fleet.store.redis.config_set("maxmemory", "1mb")
    refused = 0
    for _ in range(30):
        try:
            submit(fleet, 1)
        except ZimgError:
            refused += 1
        time.sleep(0.1)
    fleet.store.redis.config_set("maxmemory", "0")

    assert refused == 30
    assert_all_well(fleet, [*ids, *submit(fleet, 20)])
    assert (scheduler.poll(), worker.poll()) == (None, None)


def test_row_15_schedulers_killed_frozen_and_three_at_once(fleet):
    contest = submit_contest(fleet, 300)
    schedulers = [fleet.start_scheduler() for _ in range(3)]
    fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    thread, accepted = submit_on(fleet, 400, per_second=60)
    for turn in range(4):
        time.sleep(1)
        fleet.kill(schedulers.pop(0))
        schedulers.append(fleet.start_scheduler())
        schedulers[0].send_signal(signal.SIGSTOP if turn % 2 == 0 else signal.SIGCONT)
    for one in schedulers:
        one.send_signal(signal.SIGCONT)
    thread.join(timeout=120)

    assert_all_well(fleet, [*contest, *accepted])


def test_row_21_parallel_submits_never_exceed_the_quota(fleet):
    ids = [*submit_contest(fleet, 50), *submit(fleet, 90, tenant="a")]
    allowed = limits(daily_units=100)

    def one(_):
        try:
            return fleet.store.submit(make_job(), allowed).job_id
        except QuotaExceeded:
            return ""

    with ThreadPoolExecutor(20) as pool:
        accepted = [job_id for job_id in pool.map(one, range(200)) if job_id]
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.02")

    assert len(accepted) == 10
    assert_all_well(fleet, [*ids, *accepted])
