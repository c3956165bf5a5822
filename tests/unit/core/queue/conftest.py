"""The state machine on fakeredis; tests/integration/queue runs the same tests on real servers."""

import pytest
import redis

from tests.queue_kit import Kit


@pytest.fixture
def queue_redis(fake_redis: redis.Redis) -> redis.Redis:
    return fake_redis


@pytest.fixture
def kit(queue_redis: redis.Redis) -> Kit:
    return Kit(queue_redis)
