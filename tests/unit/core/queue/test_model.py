"""The model test: seeded random lives of the queue. Other ones, and more, on a real server, and in `make soak`."""

import pytest

from core.redis_client import PREFIX
from tests.queue_kit import Kit, violations
from tests.queue_model import Model

SEEDS, SOAK_SEEDS = range(30, 50), range(1000, 1200)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_settled_twice(queue_redis, seed):
    assert Model(queue_redis, seed, jobs=60).run() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", SOAK_SEEDS)
def test_nothing_is_lost_or_settled_twice_in_many_lives(queue_redis, seed):
    assert Model(queue_redis, seed, jobs=150).run() == []


def test_the_checker_sees_a_job_that_was_charged_twice(kit):
    job_id = kit.succeeded()
    assert violations(kit.redis, [job_id]) == []
    kit.redis.xadd(f"{PREFIX}ledger", {"job": job_id, "tenant": "a", "kind": "charge", "cost": 1, "day": "x"})

    assert violations(kit.redis, [job_id]) != []


def test_the_checker_sees_a_job_that_never_ended(fake_redis):
    kit = Kit(fake_redis)

    assert violations(fake_redis, [kit.queued()]) != []
