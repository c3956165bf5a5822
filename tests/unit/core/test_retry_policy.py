"""The backoff: doubling, jittered, bounded."""

import random

from core.retry_policy import RetryPolicy


def test_the_wait_doubles_within_its_jitter():
    policy = RetryPolicy(jitter=0.0)

    assert [policy.delay_seconds(n) for n in (1, 2, 3)] == [2.0, 4.0, 8.0]


def test_the_jitter_spreads_waits_around_the_plain_one():
    waits = [RetryPolicy().delay_seconds(1, rng=random.Random(seed)) for seed in range(200)]

    assert 1.0 <= min(waits) < 1.2
    assert 2.8 < max(waits) <= 3.0


def test_the_wait_is_bounded():
    assert RetryPolicy(jitter=0.0).delay_seconds(10_000) == 300.0


def test_there_is_one_wait_for_each_failure_that_may_be_followed():
    assert len(RetryPolicy(max_attempts=5).delays_ms()) == 4
    assert len(RetryPolicy(max_attempts=1).delays_ms()) == 1
