"""How long recovery takes with the leases that the service really has: 30 s, and 60 s for a message."""

import signal
import time

import pytest

from core.job import JobState
from deploy.local.embedded import valkey_binary
from tests.fixtures.redis import KEEPS_HISTORY, running_server
from tests.integration.queue.test_processes import assert_all_well, is_running, objects, submit
from tests.queue_processes import Fleet, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture
def usual_fleet(tmp_path):
    """As `fleet`, with the default leases."""
    folder = tmp_path / "objects"
    folder.mkdir()
    with running_server(str(valkey_binary()), *KEEPS_HISTORY) as server:
        fleet = Fleet(server, tmp_path, {"STUB_FOLDER": str(folder)})
        try:
            yield fleet
        finally:
            fleet.close()


def run_again_after(fleet, ids, since, seconds):
    """Seconds from `since` until each of the jobs has ended."""
    fleet.await_ends(ids, seconds)
    return time.monotonic() - since


def test_claimed_jobs_of_a_killed_worker_run_again_within_35_seconds(usual_fleet):
    fleet = usual_fleet
    fleet.start_scheduler()
    worker = fleet.start_worker(STUB_SECONDS="90")
    ids = submit(fleet, 4)
    wait_until(lambda: all(is_running(fleet, one)() for one in ids), seconds=40, why=fleet.logs)
    killed = time.monotonic()
    fleet.kill(worker)
    fleet.start_worker()

    took = run_again_after(fleet, ids, killed, 60)

    assert_all_well(fleet, ids)
    assert took < 35
    print(f"\nrecovery: claimed jobs done {took:.1f} s after the kill")


def test_released_jobs_of_a_killed_worker_run_again_within_65_seconds(usual_fleet):
    fleet = usual_fleet
    fleet.start_scheduler()
    worker = fleet.start_worker()
    fleet.await_ends(submit(fleet, 1), 40)
    worker.send_signal(signal.SIGSTOP)
    ids = submit(fleet, 3)
    wait_until(lambda: fleet.store.depth().released == 3, seconds=20, why=fleet.logs)
    released = time.monotonic()
    fleet.kill(worker)
    fleet.start_worker()

    took = run_again_after(fleet, ids, released, 90)

    assert_all_well(fleet, ids)
    assert took < 65
    print(f"\nrecovery: released jobs done {took:.1f} s after the kill")


def test_after_a_stall_of_redis_it_takes_one_lease_more_and_nobody_alive_loses_a_job(usual_fleet):
    fleet = usual_fleet
    fleet.start_scheduler()
    doomed = fleet.start_worker(STUB_SECONDS="90")
    lost = submit(fleet, 6)  # as many as it has threads: it takes nothing of what comes then
    wait_until(lambda: all(is_running(fleet, one)() for one in lost), seconds=40, why=fleet.logs)
    fleet.start_worker(STUB_SECONDS="45")
    fleet.await_workers(2)
    held = submit(fleet, 4)
    wait_until(lambda: all(is_running(fleet, one)() for one in held), seconds=40, why=fleet.logs)
    fleet.kill(doomed)
    fleet.server.process.send_signal(signal.SIGSTOP)
    time.sleep(10)
    fleet.server.process.send_signal(signal.SIGCONT)
    back = time.monotonic()

    wait_until(
        lambda: all(job.state is not JobState.RUNNING or job.attempt > 1 for job in fleet.store.get_many(lost)),
        seconds=90,
        why=fleet.logs,
    )
    took = time.monotonic() - back

    jobs = fleet.await_ends(held, 90)
    assert {job.attempt for job in jobs} == {1}
    assert 20 < took < 35
    print(f"\nrecovery: leases taken back {took:.1f} s after a stall of 10 s")


def test_work_goes_on_within_10_seconds_after_redis_was_killed(usual_fleet):
    fleet = usual_fleet
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.2")
    fleet.await_workers(1)
    ids = submit(fleet, 200)
    wait_until(lambda: len(objects(fleet)) > 20, seconds=40, why=fleet.logs)
    killed = time.monotonic()
    fleet.server.restart()
    done = len(objects(fleet))

    wait_until(lambda: len(objects(fleet)) > done + 6, seconds=30, why=fleet.logs)

    took = time.monotonic() - killed
    assert took < 10
    assert_all_well(fleet, ids, seconds=120)
    print(f"\nrecovery: new pictures {took:.1f} s after a kill -9 of Redis")
