"""A real scheduler beside records that it can not read: it goes on, and everything else is told and done."""

import json

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from core.webhook_store import LEDGER, Endpoint, Secret, WebhookStore, new_secret
from tests.integration.queue.test_processes import is_running, submit
from tests.queue_processes import wait_until

pytestmark = pytest.mark.timeout(150)


def all_read(fleet):
    groups = fleet.store.redis.xinfo_groups(LEDGER)
    return bool(groups) and all(group["pending"] == 0 and not group["lag"] for group in groups)


def test_a_scheduler_outlives_records_of_a_newer_release_and_broken_ones(fleet):
    redis = fleet.store.redis
    endpoint = Endpoint(id="wh_1", tenant="a", url="http://127.0.0.1:9/", secrets=(Secret(value=new_secret()),))
    WebhookStore(redis).save(endpoint)
    scheduler = fleet.start_scheduler()
    wait_until(lambda: bool(redis.exists(LEDGER)), seconds=60, why=fleet.logs)
    fleet.start_worker(STUB_SECONDS="5")
    lane, priority = submit(fleet, 2, tenant="a")
    wait_until(lambda: all(is_running(fleet, one)() for one in (lane, priority)), seconds=30, why=fleet.logs)

    redis.hset(f"{PREFIX}job:{lane}", "lane", "of_tomorrow")
    redis.hset(f"{PREFIX}job:{priority}", "priority", "of_tomorrow")
    redis.xadd(LEDGER, {"tenant": "a", "kind": "of_tomorrow"})
    redis.set(f"{PREFIX}hook:wh_2", "{")
    redis.zadd(f"{PREFIX}hooks:a", {"wh_2": 2})
    redis.zadd(f"{PREFIX}trash", {"job:of_tomorrow": 1})
    more = submit(fleet, 3, tenant="a")

    jobs = fleet.await_ends([lane, priority, *more], 60)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    wait_until(lambda: all_read(fleet) and not redis.zcard(f"{PREFIX}trash"), seconds=30, why=fleet.logs)
    bodies = [json.loads(redis.get(name))["body"] for name in redis.scan_iter(f"{PREFIX}delivery:*")]
    assert {json.loads(body)["data"]["id"] for body in bodies} == {lane, priority, *more}
    assert {"ended_job", "endpoint", "trash"} <= set(fleet.store.tallies().put_aside)
    assert scheduler.poll() is None
