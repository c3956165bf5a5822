"""A submit whose answer is lost: the caller hears what was stored, not that nothing was."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import RedisUnavailable
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from tests.fault_proxy import tcp_proxy
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import wait_until


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
        wait_until(lambda: redis.exists(f"{{zimg}}:job:{jobs[-1].id}"), seconds=10)
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


def test_a_server_that_is_gone_is_told_as_unavailable(proxied):
    store, proxy, _ = proxied
    proxy.refuses = True
    proxy.cut()

    with pytest.raises(RedisUnavailable):
        store.submit_many([make_job()], GENEROUS)
