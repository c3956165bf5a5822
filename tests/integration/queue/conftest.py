"""The same tests of the state machine as in tests/unit/core/queue, on real servers with an append-only file."""

import pytest
import redis

from tests.queue_kit import Kit


@pytest.fixture(params=["valkey", "redis_server"])
def queue_redis(request: pytest.FixtureRequest) -> redis.Redis:
    client: redis.Redis = request.getfixturevalue(request.param)
    return client


@pytest.fixture
def kit(queue_redis: redis.Redis) -> Kit:
    return Kit(queue_redis)
