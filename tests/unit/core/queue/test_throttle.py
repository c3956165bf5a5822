"""A tenant's weight and cap of running jobs, changed while its submits are under way."""

from core.job import Lane
from core.redis_client import PREFIX
from scheduler.tenants import Tenants
from tests.queue_kit import limits, make_job


def test_a_throttle_holds_against_a_submit_that_read_the_limits_before_it(kit):
    tenants = Tenants(kit.redis, kit.settings)
    read = tenants.change("a", {"running_jobs": 50, "weight": 5.0}).limits
    tenants.change("a", {"running_jobs": 0, "weight": 0.01})

    kit.store.submit_many([make_job(), make_job()], read)

    assert kit.store.release(9) == []
    assert kit.redis.hmget(f"{PREFIX}lim:a", "running", "weight") == ["0", "0.01"]


def test_a_tenant_that_something_was_set_for_is_one_of_those_that_are_known(kit):
    tenants = Tenants(kit.redis, kit.settings)

    tenants.change("a", {"weight": 5.0})

    assert tenants.names() == {"a"}


def test_a_tenant_without_limits_of_its_own_has_those_of_the_call(kit):
    Tenants(kit.redis, kit.settings).change("a", {"daily_units": 99})

    kit.queued(allowed=limits(running_jobs=3, weight=2.5))

    assert kit.redis.hmget(f"{PREFIX}lim:a", "running", "weight") == ["3", "2.5"]


def test_who_has_no_limit_of_pictures_a_second_any_more_works_off_no_debt(kit):
    kit.store.submit_many([make_job() for _ in range(9)], limits(burst_per_second=0.01, burst=1))

    assert kit.queued(allowed=limits(burst_per_second=0.0))


def test_a_call_that_brings_a_higher_cap_lets_in_what_stood_aside_for_the_old_one(kit):
    """As after a start with a higher default: nothing of the tenant's need end first."""
    first, *others = (kit.queued(allowed=limits(running_jobs=1)) for _ in range(3))
    assert [one.job_id for one in kit.store.release(9)] == [first]
    assert kit.store.release(9) == []

    last = kit.queued(lane=Lane.BATCH, allowed=limits(running_jobs=9))

    assert {one.job_id for one in kit.store.release(9)} == {*others, last}


def test_a_call_that_brings_the_same_cap_looks_at_nothing_that_stands_aside(kit):
    for _ in range(3):
        kit.queued(allowed=limits(running_jobs=1))
    kit.store.release(9)
    assert kit.redis.smembers(f"{PREFIX}parked") == {"a|interactive"}

    kit.store.submit_many([make_job(lane=Lane.BATCH)], limits(running_jobs=1))

    assert kit.redis.smembers(f"{PREFIX}parked") == {"a|interactive"}
