"""Events: resume, waking up, outages."""

import threading
import time

import pytest

from core.errors import RedisUnavailable
from core.events import EventHub, JobEvents
from core.job import Lane
from core.redis_client import PREFIX, connect
from tests.queue_kit import Kit


@pytest.fixture
def hub(valkey):
    hub = EventHub(valkey)
    yield hub
    hub.close()


def test_events_are_read_in_order_and_resumed(valkey):
    kit = Kit(valkey)
    run = kit.running()
    events = JobEvents(valkey)
    first = events.read(run.id)
    kit.complete(run)

    rest = events.read(run.id, first[-1].id)

    assert [(event.type, event.data) for event in first] == [
        ("status", {"status": "queued"}),
        ("status", {"status": "running"}),
    ]
    assert [event.type for event in rest] == ["output", "status"]
    assert rest[-1].data == {"status": "succeeded"}


@pytest.mark.parametrize("after_id", ["", "0", "nonsense", "-", "$", "1; DROP"])
def test_a_strange_point_of_resumption_reads_from_the_start(valkey, after_id):
    job_id = Kit(valkey).queued()

    assert len(JobEvents(valkey).read(job_id, after_id)) == 1


def test_a_row_of_a_list_is_told_as_queued_before_it_ever_ran(valkey, hub):
    """It has no stream of its own yet: with 4 kB for each row a long list would fill Redis."""
    kit = Kit(valkey)
    job_id = kit.queued(lane=Lane.BATCH)
    assert valkey.exists(f"{PREFIX}ev:{job_id}") == 0

    [first] = hub.wait(job_id, "", 5)

    assert (first.type, first.data) == ("status", {"status": "queued"})
    assert JobEvents(valkey).read(job_id, "0") == [first]
    assert JobEvents(valkey).read(job_id, first.id) == []
    kit.complete(kit.claim(kit.store.release(1)[0]))
    assert [event.data.get("status") for event in JobEvents(valkey).read(job_id)] == [
        "queued", "running", None, "succeeded",
    ]  # fmt: skip
    assert "queued" not in [event.data.get("status") for event in JobEvents(valkey).read(job_id, first.id)]


def test_the_events_of_an_old_row_are_gone_and_not_made_up(valkey):
    kit = Kit(valkey)
    job_id = kit.succeeded(lane=Lane.BATCH)
    valkey.delete(f"{PREFIX}ev:{job_id}")

    assert JobEvents(valkey).read(job_id) == []


def test_a_stream_keeps_no_more_than_it_needs_and_goes_after_the_end(valkey):
    from core.job import Progress

    kit = Kit(valkey)
    run = kit.running()
    for step in range(100):
        kit.store.report_progress(run.id, run.token, Progress(stage="denoise", step=step, steps=100))
    assert valkey.xlen(f"{PREFIX}ev:{run.id}") == 64
    assert valkey.ttl(f"{PREFIX}ev:{run.id}") == -1

    kit.complete(run)

    assert 3500 < valkey.ttl(f"{PREFIX}ev:{run.id}") <= 3600


def test_a_wait_ends_with_the_event(valkey, hub):
    kit = Kit(valkey)
    job_id = kit.queued()
    after = hub.wait(job_id, "", timeout_seconds=5)[-1].id
    found = []
    waiter = threading.Thread(target=lambda: found.extend(hub.wait(job_id, after, timeout_seconds=20)))
    waiter.start()

    kit.store.cancel(job_id)
    waiter.join(timeout=60)

    assert [event.data for event in found] == [{"status": "canceled"}]


def test_many_waits_each_get_their_own_jobs_events(valkey, hub):
    kit = Kit(valkey)
    ids = [kit.queued() for _ in range(20)]
    found = {}

    def wait(job_id):
        last = hub.wait(job_id, "", timeout_seconds=5)[-1].id
        ready.release()
        found[job_id] = hub.wait(job_id, last, timeout_seconds=20)

    ready = threading.Semaphore(0)
    waiters = [threading.Thread(target=wait, args=(job_id,)) for job_id in ids]
    for waiter in waiters:
        waiter.start()
    for _ in ids:
        assert ready.acquire(timeout=60)
    for job_id in ids:
        kit.store.cancel(job_id)
    for waiter in waiters:
        waiter.join(timeout=60)

    assert {job_id: len(events) for job_id, events in found.items()} == dict.fromkeys(ids, 1)


def test_a_wait_without_an_event_ends_with_its_time(valkey, hub):
    job_id = Kit(valkey).queued()
    last = hub.wait(job_id, "", timeout_seconds=5)[-1].id

    assert hub.wait(job_id, last, timeout_seconds=0.05) == []


def test_waits_go_on_after_all_connections_were_killed(valkey, valkey_server, hub):
    kit = Kit(connect(valkey_server.url))
    job_id = kit.queued()
    last = hub.wait(job_id, "", timeout_seconds=5)[-1].id
    kit.redis.client_kill_filter(_type="pubsub")
    found = []
    waiter = threading.Thread(target=lambda: found.extend(hub.wait(job_id, last, timeout_seconds=20)))
    waiter.start()

    kit.store.cancel(job_id)
    waiter.join(timeout=60)

    assert [event.type for event in found] == ["status"]


def test_a_wait_without_redis_says_so():
    hub = EventHub(connect("redis://127.0.0.1:1/0", timeout_seconds=0.5))

    with pytest.raises(RedisUnavailable):
        hub.wait("j", "", timeout_seconds=5)
    hub.close()


def test_closing_ends_every_wait(valkey):
    hub = EventHub(valkey)
    job_id = Kit(valkey).queued()
    last = hub.wait(job_id, "", timeout_seconds=5)[-1].id
    waiter = threading.Thread(target=lambda: hub.wait(job_id, last, timeout_seconds=60))
    waiter.start()
    begun = time.monotonic()

    hub.close()
    waiter.join(timeout=20)

    assert not waiter.is_alive()
    assert time.monotonic() - begun < 30


def test_a_follower_misses_nothing_between_two_waits(valkey, hub):
    kit = Kit(valkey)
    job_id = kit.queued()

    with hub.follow(job_id) as follower:
        first = follower.wait("", timeout_seconds=5)[-1].id
        kit.store.cancel(job_id)
        told = follower.wait(first, timeout_seconds=20)

    assert [event.data["status"] for event in told] == ["canceled"]


def test_a_follower_rests_until_something_happens_and_no_longer_than_it_was_told(valkey, hub):
    kit = Kit(valkey)
    job_id = kit.queued()

    with hub.follow(job_id) as follower:
        follower.wait("", timeout_seconds=5)
        timer = threading.Timer(0.2, kit.store.cancel, (job_id,))
        timer.start()
        begun = time.monotonic()
        follower.rest(20)
        woken = time.monotonic() - begun
        timer.join()
        follower.rest(0.05)

    assert woken < 15
    assert time.monotonic() - begun < 18
