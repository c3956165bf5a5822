"""Fault rows 18 and 19, messages: the real worker is given garbage, and messages of older and newer releases."""

import pytest

from core.broker import QUEUE, TASK, make_celery
from core.job import JobState
from tests.integration.queue.test_faults_storage import assert_all_well, submit
from tests.integration.queue.test_garbage import garbage, genuine, odd
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_row_19_messages_of_other_releases_run_their_jobs_at_once(real_fleet, s3_server):
    """No scheduler: nothing but these messages can bring a job to the worker."""
    fleet = real_fleet
    fleet.start_real_worker("tests.faulty_worker")
    ids = submit(fleet, 4)
    releases = fleet.store.release(4)
    app = make_celery(fleet.settings)
    first, second, third, fourth = releases
    for args, more in (
        ((first.job_id,), {}),  # before there were epochs
        ((second.job_id, second.epoch, {"schema": 2}), {}),
        ((third.job_id, third.epoch), {"of_tomorrow": True}),
        ((), {"job_id": fourth.job_id, "epoch": fourth.epoch}),
        ((), {"of_tomorrow": True}),  # nothing that this release could understand
        ((fourth.job_id, "not a number"), {}),
    ):
        app.send_task(TASK, args=args, kwargs=more, queue=QUEUE, ignore_result=True)

    jobs = assert_all_well(fleet, s3_server, ids, seconds=60)

    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    redis = fleet.store.redis
    wait_until(lambda: redis.llen("celery:zimg") + redis.hlen("celery:unacked") == 0, seconds=20, why=fleet.logs)
    assert fleet.processes[-1].poll() is None


def test_row_18_garbage_ends_no_worker_that_draws(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    worker = fleet.start_real_worker()
    redis, message = fleet.store.redis, genuine(fleet)
    bad = garbage(message)
    ids = submit(fleet, 8)
    wait_until(lambda: fleet.store.depth().running > 0, seconds=30, why=fleet.logs)

    for one in (*bad, *odd(message)):
        redis.rpush("celery:zimg", one)  # before all that waits

    jobs = assert_all_well(fleet, s3_server, ids, seconds=60)
    assert {(job.state, job.attempt) for job in jobs} == {(JobState.SUCCEEDED, 1)}
    wait_until(lambda: redis.llen("celery:zimg") + redis.hlen("celery:unacked") == 0, seconds=20, why=fleet.logs)
    assert fleet.store.tallies().put_aside == {"message": len(bad)}
    assert worker.poll() is None
