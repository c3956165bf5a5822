"""Fault row 19, messages: the real worker is given messages of releases before and after its own."""

import pytest

from core.broker import QUEUE, TASK, make_celery
from core.job import JobState
from tests.integration.queue.test_faults_storage import assert_all_well, submit
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
