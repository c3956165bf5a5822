"""Fault row 18: messages that come an hour late, or of jobs canceled or deleted meanwhile, come to nothing."""

import json
import time

import pytest

from core.broker import make_celery, publish
from core.job import JobState
from core.workers import WorkerInfo
from tests.integration.queue.test_processes import assert_all_well, runs, submit
from tests.queue_invariants import assert_invariants
from tests.queue_processes import wait_until

pytestmark = pytest.mark.timeout(150)
QUEUE, UNACKED = "celery:zimg", "celery:unacked"
HOUR = 3600


def sent(fleet, count):
    """Jobs that were released, their messages, taken out of the broker."""
    ids = submit(fleet, count)
    fleet.store.heartbeat(WorkerInfo(name="gone", slots=count))
    releases = fleet.store.release(count)
    assert sorted(one.job_id for one in releases) == sorted(ids)
    wait_until(lambda: publish(make_celery(fleet.settings), releases) == count, seconds=30, why=fleet.logs)
    messages = [fleet.store.redis.rpop(QUEUE) for _ in ids]
    assert all(messages)
    return ids, messages


def put_back(fleet, messages):
    for message in messages:
        fleet.store.redis.lpush(QUEUE, message)


def hand_back_after_an_hour(fleet, messages):
    """As if a worker that is gone had taken them an hour ago: the broker gives them to the next."""
    redis = fleet.store.redis
    for message in messages:
        tag = json.loads(message)["properties"]["delivery_tag"]
        redis.hset(UNACKED, tag, json.dumps([json.loads(message), "", "zimg"]))
        redis.zadd(f"{UNACKED}_index", {tag: time.time() - HOUR})


def await_no_message(fleet):
    redis = fleet.store.redis
    wait_until(lambda: redis.llen(QUEUE) + redis.hlen(UNACKED) == 0, seconds=30, why=fleet.logs)


@pytest.mark.parametrize("comes", [put_back, hand_back_after_an_hour])
def test_row_18_a_message_that_comes_an_hour_late_runs_nothing_twice(fleet, comes):
    ids, messages = sent(fleet, 5)
    fleet.start_scheduler()
    worker = fleet.start_worker()
    assert_all_well(fleet, ids)
    fleet.stop(worker)

    comes(fleet, messages)
    worker = fleet.start_worker()
    more = submit(fleet, 3)

    assert_all_well(fleet, [*ids, *more])
    await_no_message(fleet)
    assert sorted(run[:2] for run in runs(fleet)) == sorted([job_id, "1"] for job_id in (*ids, *more))
    assert worker.poll() is None


def test_row_18_a_late_message_of_a_job_that_waits_again_is_void(fleet):
    """No scheduler: the job would run if the message of its first release still counted."""
    ids, messages = sent(fleet, 1)
    wait_until(lambda: fleet.store.reap().unclaimed == 1, seconds=20)
    worker = fleet.start_worker()
    fleet.await_workers(1)

    put_back(fleet, messages)
    await_no_message(fleet)

    assert (fleet.store.get(ids[0]).state, runs(fleet)) == (JobState.QUEUED, [])
    assert worker.poll() is None
    fleet.start_scheduler()
    assert_all_well(fleet, ids)
    assert runs(fleet) == [[ids[0], "1", "0"]]


def test_row_18_messages_of_canceled_and_deleted_jobs_run_nothing(fleet):
    ids, messages = sent(fleet, 6)
    store, deleted = fleet.store, slice(0, 3)
    assert set(store.cancel_many(ids)) == {JobState.CANCELED}
    assert store.remove_many(ids[deleted]) == 3
    worker = fleet.start_worker()
    fleet.start_scheduler()

    put_back(fleet, messages)
    more = submit(fleet, 2)

    fleet.await_ends(more, 30)
    await_no_message(fleet)
    assert sorted(run[0] for run in runs(fleet)) == sorted(more)
    assert [store.was_removed(job_id) for job_id in ids[deleted]] == [True] * 3
    assert {job.state for job in store.get_many(ids[3:])} == {JobState.CANCELED}
    assert_invariants(fleet, [*ids[3:], *more])
    assert worker.poll() is None
