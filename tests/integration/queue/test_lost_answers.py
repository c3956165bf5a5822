"""A submit whose answer is lost: the caller hears what was stored, not that nothing was."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from core.errors import RedisUnavailable
from core.job import JobState, Priority
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from tests.fault_proxy import tcp_proxy
from tests.queue_kit import GENEROUS, Kit, make_job, script_sha
from tests.queue_processes import wait_until

#: In a request for the look that follows a submit.
USAGE = script_sha("usage")


@pytest.fixture
def spinning(valkey_server):
    """Makes the server busy with a script that never ends, until the test does."""
    with connect(valkey_server.url) as client, ThreadPoolExecutor(1) as pool:
        client.config_set("busy-reply-threshold", "20")

        def spin():
            pool.submit(connect(valkey_server.url, timeout_seconds=60).eval, "while true do end", 0)
            wait_until(lambda: is_busy(client), seconds=60)

        yield spin
        with suppress(ResponseError):  # there is none where the test failed before
            client.script_kill()
        wait_until(lambda: not is_busy(client), seconds=60)
        client.config_set("busy-reply-threshold", "5000")


def is_busy(client):
    try:
        client.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def without_times(job):
    return replace(job, created_ms=0, deadline_ms=0)


@pytest.fixture
def proxied(valkey, valkey_server):
    """A store whose answers a proxy can hold back, the proxy, and a client that goes around it."""
    with tcp_proxy(valkey_server.port) as proxy:
        url = valkey_server.url.replace(f":{valkey_server.port}", f":{proxy.port}")
        yield JobStore(connect(url), Settings()), proxy, valkey


def submit_and_lose_the_answer(store, proxy, redis, jobs):
    """The result of `submit_many` where the first answer never arrived though the jobs were stored."""
    store.submit_many([make_job()], GENEROUS)  # the scripts are there, the connection is open
    proxy.holds_answers = True
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(store.submit_many, jobs, GENEROUS)
        wait_until(lambda: redis.exists(f"{{zimg}}:job:{jobs[-1].id}"), seconds=60)
        proxy.cut()
        proxy.holds_answers = False
        return answer.result(timeout=30)


@pytest.mark.parametrize("count", [1, 3])
def test_jobs_whose_answer_was_lost_are_told_as_new_and_stored_once(proxied, count):
    store, proxy, redis = proxied
    jobs = [make_job() for _ in range(count)]

    submitted = submit_and_lose_the_answer(store, proxy, redis, jobs)

    assert [(one.job_id, one.replayed) for one in submitted] == [(job.id, False) for job in jobs]
    assert store.usage("a", GENEROUS).daily_reserved == count + 1


def test_a_key_that_was_used_before_is_still_told_as_replayed_after_a_lost_answer(proxied):
    store, proxy, redis = proxied
    first = make_job(idempotency_key="k", body_hash="h")
    store.submit(first, GENEROUS)

    fresh = make_job()
    submitted = submit_and_lose_the_answer(store, proxy, redis, [make_job(idempotency_key="k", body_hash="h"), fresh])

    assert [(one.job_id, one.replayed) for one in submitted] == [(first.id, True), (fresh.id, False)]


@pytest.mark.parametrize("count", [1, 3])
def test_jobs_that_were_stored_are_told_as_stored_though_the_look_at_them_fails(proxied, count):
    store, proxy, _ = proxied
    store.submit_and_look([make_job()], GENEROUS)
    jobs = [
        make_job(metadata={"sku": "A"}, priority=Priority.HIGH, deadline_seconds=100, base_url="http://zimg", work=2.5)
        for _ in range(count)
    ]
    proxy.cuts_before = USAGE

    submitted, seen = store.submit_and_look(jobs, GENEROUS)

    proxy.cuts_before = b""
    stored = store.get_many([job.id for job in jobs])
    assert [(one.job_id, one.replayed) for one in submitted] == [(job.id, False) for job in jobs]
    assert [without_times(job) for job in seen.jobs] == [without_times(job) for job in stored]
    assert all(abs(told.created_ms - kept.created_ms) < 60_000 for told, kept in zip(seen.jobs, stored, strict=True))
    assert all(told.deadline_ms - told.created_ms == 100_000 for told in seen.jobs)
    assert (seen.places, seen.use) == ({}, None)
    assert store.usage("a", GENEROUS).daily_reserved == count + 1


def test_a_job_is_told_as_stored_though_redis_is_busy_right_after_it(proxied, spinning):
    store, proxy, _ = proxied
    store.submit_and_look([make_job()], GENEROUS)
    job = make_job()
    proxy.cuts_before, proxy.meanwhile = USAGE, spinning

    (submitted,), seen = store.submit_and_look([job], GENEROUS)

    assert (submitted.job_id, submitted.replayed) == (job.id, False)
    assert (seen.jobs[0].id, seen.use) == (job.id, None)


def test_a_job_whose_picture_is_there_already_waits_to_be_looked_at_where_the_look_fails(proxied):
    store, proxy, redis = proxied
    leader = Kit(redis).succeeded(fingerprint="f")
    job = make_job(fingerprint="f")
    store.submit_and_look([make_job()], GENEROUS)
    proxy.cuts_before = USAGE

    (submitted,), seen = store.submit_and_look([job], GENEROUS)

    assert submitted.state is JobState.SUCCEEDED
    assert (seen.jobs[0].state, seen.jobs[0].leader) == (JobState.FOLLOWING, leader)


def test_what_an_earlier_call_stored_is_not_told_without_a_look_at_it(proxied):
    store, proxy, _ = proxied
    again = {"idempotency_key": "k", "body_hash": "h"}
    store.submit_and_look([make_job(**again)], GENEROUS)
    proxy.cuts_before = USAGE

    with pytest.raises(RedisUnavailable):
        store.submit_and_look([make_job(**again)], GENEROUS)


def test_a_server_that_is_gone_is_told_as_unavailable(proxied):
    store, proxy, _ = proxied
    proxy.refuses = True
    proxy.cut()

    with pytest.raises(RedisUnavailable):
        store.submit_many([make_job()], GENEROUS)
