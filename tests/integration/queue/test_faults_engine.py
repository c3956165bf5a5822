"""Fault row 6: the real engine hangs, loses its card, or runs out of memory; what rides with it is unharmed."""

import time
from pathlib import Path

import pytest

from core.job import JobState
from tests.integration.queue.test_faults_storage import assert_all_well, drawn, submit
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def break_next_forward(fleet, how):
    (Path(fleet.environ["FAULTS"]) / how).touch()


@pytest.mark.parametrize(("how", "code"), [("hang", 70), ("sticky", 71)])
def test_row_6_a_hanging_or_broken_engine_ends_its_process_and_its_riders_run_again(real_fleet, s3_server, how, code):
    fleet = real_fleet
    # Its end is to be seen: without the parent that forks the next one at once (tests/unit/worker/test_warm_parent.py).
    fleet.environ = {**fleet.environ, "ZIMG_PROGRESS_STALE_SECONDS": "4", "ZIMG_WORKER_RESTARTS": "0"}
    fleet.start_scheduler()
    worker = fleet.start_real_worker("tests.faulty_worker")
    break_next_forward(fleet, how)
    begun = time.monotonic()
    ids = submit(fleet, 8)
    wait_until(lambda: worker.poll() is not None, seconds=40, why=fleet.logs)
    ended = time.monotonic() - begun

    fleet.start_real_worker("tests.faulty_worker")
    jobs = assert_all_well(fleet, s3_server, ids)

    assert worker.poll() == code
    assert {job.crashes for job in jobs} == {0}, "riders of a crash are innocent until they crash alone"
    assert max(drawn(fleet).values()) <= 2
    print(f"\nrow 6, {how}: the process ended {ended:.1f} s after the jobs came, with {worker.poll()}")


def test_row_6_out_of_memory_is_tried_again_and_costs_no_process(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    worker = fleet.start_real_worker("tests.faulty_worker")
    break_next_forward(fleet, "oom")
    ids = submit(fleet, 8)

    jobs = assert_all_well(fleet, s3_server, ids)

    assert worker.poll() is None
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert sum(job.attempt for job in jobs) <= len(ids) + 1
