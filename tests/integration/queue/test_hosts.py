"""Workers on hosts of their own: one is cut off, one is lost, all jobs end once."""

import time
from collections import Counter

import pytest

from core.redis_client import connect
from tests.integration.queue.test_processes import assert_all_well, runs, submit
from tests.networks import Namespace, Proxied, permits_namespaces
from tests.queue_processes import wait_until


@pytest.fixture(params=["namespaces", "proxies"])
def hosts(request, fleet):
    """Three hosts."""
    if request.param == "proxies":
        made = [Proxied(fleet.server) for _ in range(3)]
    elif permits_namespaces():
        made = [Namespace(fleet.server, number) for number in range(3)]
        client = connect(fleet.server.url)
        client.config_set("protected-mode", "no")
        client.config_set("bind", " ".join(["127.0.0.1", *(host.address for host in made)]))
    else:
        pytest.skip("network namespaces need root and iproute2; the proxies stand in for them")
    yield made
    for host in made:
        host.close()


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_one_host_is_cut_off_and_one_is_lost_in_the_middle_of_their_runs(fleet, hosts):
    fleet.start_scheduler()
    fleet.start_scheduler()
    workers = [fleet.start_worker(inside=host.inside, REDIS_URL=host.redis_url, STUB_SECONDS="0.5") for host in hosts]
    fleet.await_workers(3)
    ids = submit(fleet, 150)
    wait_until(lambda: len(runs(fleet)) > 15, seconds=60, why=fleet.logs)

    hosts[0].cut_off()
    hosts[1].cut_off()
    fleet.kill(workers[1])
    begun = time.monotonic()
    wait_until(lambda: len(fleet.store.live_workers()) == 1, seconds=20, why=fleet.logs)
    wait_until(lambda: len(runs(fleet)) > 100, seconds=60, why=fleet.logs)
    hosts[0].join_again()

    assert_all_well(fleet, ids, seconds=90)
    ended = time.monotonic() - begun
    wait_until(lambda: len(fleet.store.live_workers()) == 2, seconds=60, why=fleet.logs)
    assert_all_well(fleet, submit(fleet, 20))
    twice = [job for job, count in Counter(job for job, _, _ in runs(fleet)).items() if count > 1]
    assert len(twice) <= 8, "only what the two held is run again"
    print(f"\nhosts: 150 jobs ended {ended:.1f} s after the cut, {len(twice)} run twice, each charged once")


def test_a_worker_that_was_cut_off_joins_again_and_is_fenced_off(fleet):
    host = Proxied(fleet.server)
    try:
        fleet.start_scheduler()
        fleet.start_worker(REDIS_URL=host.redis_url, STUB_SECONDS="1.5")
        [job_id] = submit(fleet, 1)
        wait_until(lambda: fleet.store.get(job_id).worker != "", seconds=30, why=fleet.logs)
        host.cut_off()
        fleet.start_worker()
        fleet.await_ends([job_id], 30)
        host.join_again()

        assert_all_well(fleet, [job_id])
        assert_all_well(fleet, submit(fleet, 10))
    finally:
        host.close()
