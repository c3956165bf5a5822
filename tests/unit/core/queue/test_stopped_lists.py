"""A list that comes in is stopped with its tenant's work; one that broke off finds the service's cap as any other."""

import pytest

import core.long_list
from core.errors import Forbidden, ListStopped, Overloaded
from core.job import JobState
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, make_job, violations
from tests.unit.core.queue.test_long_lists import break_off, rows, store


@pytest.fixture
def portions_of_three(monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)


def stored(kit, jobs):
    return [job.id for job in jobs if kit.store.get(job.id) is not None]


def ban(kit, reason="spam"):
    kit.redis.hset(f"{PREFIX}tenant:a", "ban_reason", reason)


def stop(kit, jobs):
    """As a mass cancel does it."""
    kit.store.stop_lists("a")
    for job in jobs:
        kit.store.cancel(job.id)


@pytest.mark.usefixtures("portions_of_three")
def test_a_mass_cancel_stops_a_list_that_comes_in(kit):
    jobs = rows()

    with pytest.raises(ListStopped):
        store(kit, jobs, after={2: lambda: stop(kit, jobs)})

    assert stored(kit, jobs) == [job.id for job in jobs[:6]]
    assert {kit.state(job.id) for job in jobs[:6]} == {JobState.CANCELED}
    assert kit.use() == {"reserved": 0}
    assert violations(kit.redis, stored(kit, jobs)) == []


@pytest.mark.usefixtures("portions_of_three")
def test_lists_of_other_tenants_go_on(kit):
    jobs = [make_job(tenant="b", batch_id="b2") for _ in range(7)]

    store(kit, jobs, after={1: lambda: kit.store.stop_lists("a")})

    assert len(stored(kit, jobs)) == 7


@pytest.mark.usefixtures("portions_of_three")
def test_it_says_how_many_lists_were_stopped(kit):
    first, second = rows(), [make_job(batch_id="b2") for _ in range(7)]
    break_off(kit, first)
    break_off(kit, second)

    assert (kit.store.stop_lists("a"), kit.store.stop_lists("a")) == (2, 0)
    assert kit.redis.zcard(f"{PREFIX}holds") == 0


@pytest.mark.usefixtures("portions_of_three")
def test_a_stopped_list_sent_again_is_gone_on_with(kit):
    jobs = rows()
    with pytest.raises(ListStopped):
        store(kit, jobs, after={1: lambda: stop(kit, jobs)})

    again = kit.store.submit_many(jobs, GENEROUS)

    assert [one.state for one in again[:3]] == [JobState.CANCELED] * 3
    assert [one.state for one in again[3:]] == [JobState.QUEUED] * 7


@pytest.mark.usefixtures("portions_of_three")
def test_what_was_stopped_is_remembered_for_a_while_only(kit):
    break_off(kit, rows())

    kit.store.stop_lists("a")

    assert 0 < kit.redis.pttl(f"{PREFIX}stopped:b1") <= 900_000


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_banned_tenant_stores_no_further_portion(kit, step):
    jobs = rows()

    with pytest.raises(Forbidden, match="spam"):
        store(kit, jobs, before={step: lambda: ban(kit)})

    assert len(stored(kit, jobs)) == 3 * (step - 1)


@pytest.mark.usefixtures("portions_of_three")
def test_a_call_that_a_ban_overtakes_stores_nothing_but_is_still_answered_if_it_was_stored(kit):
    job = make_job()
    kit.store.submit(job, GENEROUS)
    ban(kit)

    assert kit.store.submit(job, GENEROUS).replayed
    with pytest.raises(Forbidden):
        kit.queued()
    ban(kit, "")
    assert kit.queued()


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("cap", [7, 9])
def test_a_list_that_broke_off_finds_the_services_cap_when_it_is_sent_again(queue_redis, cap):
    """Its first call's rows are all stored, so none of them says which model the rest is for."""
    jobs = rows()
    break_off(Kit(queue_redis), jobs)
    queue_redis.zadd(f"{PREFIX}holds", {"b1": 1})
    kit = Kit(queue_redis, Settings(queued_jobs=cap))
    kit.store.reap_holds()
    assert len(stored(kit, jobs)) == 3

    with pytest.raises(Overloaded):
        kit.store.submit_many(jobs, GENEROUS)

    assert stored(kit, jobs) == [job.id for job in jobs[:3]]
    assert not queue_redis.exists(f"{PREFIX}hold:b1")


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_that_broke_off_is_completed_where_the_cap_has_room(queue_redis):
    jobs = rows()
    break_off(Kit(queue_redis), jobs)
    kit = Kit(queue_redis, Settings(queued_jobs=10))
    queue_redis.zadd(f"{PREFIX}holds", {"b1": 1})
    kit.store.reap_holds()

    kit.store.submit_many(jobs, GENEROUS)

    assert len(stored(kit, jobs)) == 10
