"""How much of Redis is used: told of what it may use, and never in the way of the other metrics."""

from core.redis_memory import redis_memory


def test_the_most_is_what_the_server_is_given(valkey):
    valkey.config_set("maxmemory", 1024**3)
    try:
        told = redis_memory(valkey)
    finally:
        valkey.config_set("maxmemory", 0)

    assert told.most_bytes == 1024**3
    assert 0 < told.used_bytes <= valkey.info("memory")["used_memory"] + 1024**2


def test_a_server_without_a_limit_may_use_its_machine(valkey):
    assert redis_memory(valkey).most_bytes == valkey.info("memory")["total_system_memory"]


def test_a_server_that_does_not_say_is_passed_over(fake_redis):
    assert redis_memory(fake_redis) is None


def test_a_server_is_full_where_the_gauge_reaches_one(valkey):
    valkey.config_set("maxmemory", 1)
    try:
        told = redis_memory(valkey)
    finally:
        valkey.config_set("maxmemory", 0)

    assert told.used_bytes / told.most_bytes >= 1
