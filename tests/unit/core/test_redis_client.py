"""The door to Redis: our own errors, no silent replays."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import ResponseError

from core.errors import RedisUnavailable
from core.job_store import JobStore
from core.redis_client import PREFIX, call, connect, is_refusal, redis_errors
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, make_job


def test_a_server_that_is_not_there_is_our_own_error():
    store = JobStore(connect("redis://127.0.0.1:1/0", timeout_seconds=0.5), Settings())

    for use in (lambda: store.get("j"), lambda: store.submit(make_job(), GENEROUS), store.depth, store.reap):
        with pytest.raises(RedisUnavailable):
            use()


def test_a_command_is_sent_once_even_if_its_answer_is_late(valkey, valkey_server):
    """redis-py's own default repeats it: the counter would be at 2 or more."""
    client = connect(valkey_server.url, timeout_seconds=1.0)
    client.ping()
    sleeper = threading.Thread(target=lambda: valkey.execute_command("DEBUG", "SLEEP", "3"))
    sleeper.start()

    sent = []

    def count_on():
        with redis_errors():
            while len(sent) < 100_000:
                sent.append(1)
                client.incr("counter")

    with pytest.raises(RedisUnavailable):
        count_on()

    sleeper.join(timeout=60)
    # The last one may or may not have reached the server before its connection was closed; none did twice.
    assert int(valkey.get("counter") or 0) in (len(sent) - 1, len(sent))


def test_a_full_redis_refuses_a_submit_as_unavailable(valkey):
    kit = Kit(valkey)
    valkey.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(RedisUnavailable):
            kit.queued()
    finally:
        valkey.config_set("maxmemory", "0")


def test_a_full_redis_stores_nothing_of_a_refused_submit(valkey):
    kit = Kit(valkey)
    before = kit.snapshot()
    valkey.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(RedisUnavailable):
            kit.queued()
    finally:
        valkey.config_set("maxmemory", "0")

    assert kit.snapshot() == before


def test_a_full_redis_still_ends_the_jobs_that_run(valkey):
    kit = Kit(valkey)
    run = kit.running()
    valkey.config_set("maxmemory", "1mb")
    try:
        assert kit.complete(run)
    finally:
        valkey.config_set("maxmemory", "0")


def test_a_replica_is_unavailable_and_not_a_bug(valkey):
    kit = Kit(valkey)
    valkey.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(RedisUnavailable):
            kit.queued()
    finally:
        valkey.replicaof("NO", "ONE")


def test_who_waits_while_its_server_becomes_a_replica_finds_it_unavailable(valkey):
    store = Kit(valkey).store
    valkey.delete(f"{PREFIX}wake")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait_for_wake, 20)
        while not valkey.info("clients")["blocked_clients"]:
            pass
        valkey.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(RedisUnavailable):
                waiting.result(10)
        finally:
            valkey.replicaof("NO", "ONE")


def test_a_mistake_of_ours_stays_a_mistake(valkey):
    valkey.set("k", "text")

    with pytest.raises(ResponseError), redis_errors():
        valkey.hget("k", "field")


def test_only_the_servers_own_words_count_as_refusal():
    assert is_refusal(ResponseError("OOM command not allowed"))
    assert not is_refusal(ResponseError("WRONGTYPE Operation"))


@pytest.mark.parametrize(
    ("said", "refused"),
    [("BUSY Redis is busy running a script.", True), ("MISCONF Errors writing", True), ("WRONGTYPE", False)],
)
def test_a_pipelines_refusal_is_known_by_what_the_server_said(said, refused):
    error = ResponseError(said)

    connect("redis://127.0.0.1:1").pipeline().annotate_exception(error, 1, ("GET", "a of pipeline caused error: BUSY"))

    assert str(error).startswith("Command # 1")
    assert is_refusal(error) is refused


def test_a_bounded_repeat_gives_up_with_the_last_error():
    calls = []

    def fail():
        calls.append(1)
        raise RedisUnavailable("away")

    with pytest.raises(RedisUnavailable):
        call(fail, tries=3, pause_seconds=0)
    assert len(calls) == 3


def test_a_bounded_repeat_ends_with_the_first_answer():
    answers = [RedisUnavailable("away"), 7]

    def answer():
        one = answers.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    assert call(answer, pause_seconds=0) == 7
