"""A tenant's weight that changes while its jobs wait, are released or come back: it holds from its change on."""

import pytest

from core.job import JobState, Lane
from core.redis_client import PREFIX
from scheduler.tenants import Tenants
from tests.queue_kit import limits

HEAVY, LIGHT = 100.0, 0.01
BATCH = "a|batch"


@pytest.fixture
def weigh(kit):
    """Sets the weight of tenant `a`."""
    tenants = Tenants(kit.redis, kit.settings)
    return lambda weight: tenants.change("a", {"weight": weight})


def queue(kit, tenant, count, **more):
    return [kit.queued(tenant=tenant, lane=Lane.BATCH, **more) for _ in range(count)]


def release(kit, count):
    """The tenants of the next jobs, and the jobs."""
    ids = [one.job_id for one in kit.store.release(count)]
    return [kit.job(job_id).tenant for job_id in ids], ids


def give_back(kit, job_ids):
    for job_id in job_ids:
        kit.let_run_out("rel", job_id)
    kit.store.reap()


def virtual_time(kit, entity=BATCH):
    return kit.redis.zscore(f"{PREFIX}act", entity)


def present(kit):
    return float(kit.redis.get(f"{PREFIX}V"))


@pytest.mark.parametrize("others", ["come later", "race with it"])
def test_who_weighs_more_from_now_on_does_not_wait_out_a_turn_of_before(kit, weigh, others):
    weigh(LIGHT)
    queue(kit, "a", 8)
    if others == "race with it":
        queue(kit, "b", 3)
    release(kit, 1 if others == "come later" else 4)
    queue(kit, "b", 8)

    weigh(1.0)

    assert release(kit, 12)[0].count("a") == pytest.approx(6, abs=1)


def test_who_weighs_less_from_now_on_waits_as_long_as_a_turn_takes_now(kit, weigh):
    weigh(HEAVY)
    queue(kit, "a", 3)
    release(kit, 1)

    weigh(LIGHT)

    assert virtual_time(kit) - present(kit) == pytest.approx(1 / LIGHT)


def test_the_weight_of_a_call_holds_from_that_call_on(kit):
    queue(kit, "a", 1, allowed=limits(weight=LIGHT))
    release(kit, 1)

    queue(kit, "a", 1, allowed=limits(weight=2.0))

    assert virtual_time(kit) - present(kit) == pytest.approx(1 / 2)


@pytest.mark.parametrize(("lane", "model", "turn"), [(Lane.INTERACTIVE, "", 4), (Lane.BATCH, "other", 1)])
def test_a_weight_holds_in_every_lane_and_model(kit, weigh, lane, model, turn):
    kit.add_worker("w2", slots=9, queue="other")
    weigh(LIGHT)
    for _ in range(2):
        kit.queued(lane=lane, queue=model)
    kit.store.release(1)

    weigh(1.0)

    entity, race = (f"a|{lane}@{model}", f"{PREFIX}act@{model}") if model else (f"a|{lane}", f"{PREFIX}act")
    assert kit.redis.zscore(race, entity) == pytest.approx(1 / turn)


def test_a_weight_holds_for_who_stands_aside_at_his_cap(kit, weigh):
    tenants = Tenants(kit.redis, kit.settings)
    tenants.change("a", {"weight": LIGHT, "running_jobs": 1})
    queue(kit, "a", 3)
    release(kit, 2)
    assert virtual_time(kit) is None

    tenants.change("a", {"weight": 1.0, "running_jobs": 9})

    assert virtual_time(kit) == pytest.approx(1.0)


def test_a_change_of_another_limit_moves_nobody(kit, weigh):
    weigh(2.0)
    queue(kit, "a", 3)
    release(kit, 2)

    Tenants(kit.redis, kit.settings).change("a", {"running_jobs": 7})

    assert virtual_time(kit) == pytest.approx(2 / 2)


@pytest.mark.parametrize("order", ["changed, then given back", "given back, then changed"])
def test_releases_that_come_back_to_a_lighter_tenant_are_no_credit_for_its_light_turns(kit, weigh, order):
    weigh(HEAVY)
    queue(kit, "a", 20)
    _, lost = release(kit, 10)
    queue(kit, "b", 20)
    if order == "changed, then given back":
        weigh(LIGHT)
        give_back(kit, lost)
    else:
        give_back(kit, lost)
        weigh(LIGHT)

    assert release(kit, 20)[0].count("a") <= 1


@pytest.mark.parametrize("order", ["changed, then given back", "given back, then changed"])
def test_releases_that_come_back_to_a_heavier_tenant_go_first_and_no_others(kit, weigh, order):
    weigh(LIGHT)
    queue(kit, "a", 40)
    _, lost = release(kit, 10)
    queue(kit, "b", 40)
    if order == "changed, then given back":
        weigh(1.0)
        give_back(kit, lost)
    else:
        give_back(kit, lost)
        weigh(1.0)

    tenants, ids = release(kit, 30)

    assert set(lost) <= set(ids[:12])
    assert tenants.count("a") == pytest.approx(20, abs=1), "its ten, and half of the others"


def test_a_turn_that_lies_ahead_is_given_back_whole_however_long_it_became(kit, weigh):
    weigh(HEAVY)
    queue(kit, "a", 2)
    _, lost = release(kit, 1)
    weigh(LIGHT)

    give_back(kit, lost)

    assert virtual_time(kit) == pytest.approx(0.0)


@pytest.mark.parametrize("stored", ["none", "of an earlier release"])
def test_a_release_by_a_process_of_an_older_release_costs_no_turn_either(kit, weigh, stored):
    weigh(HEAVY)
    queue(kit, "a", 12)
    _, lost = release(kit, 10)
    weigh(1.0)
    for job_id in lost:
        if stored == "none":
            kit.redis.hdel(f"{PREFIX}job:{job_id}", "turn")
        else:
            kit.redis.hset(f"{PREFIX}job:{job_id}", "turn", "0:0.0001")
    before = present(kit)

    give_back(kit, lost)

    assert virtual_time(kit) == pytest.approx(before - 9)


def test_a_release_of_no_work_at_all_ends_all_the_same(kit):
    lost = kit.released(work=0.0, lane=Lane.BATCH)
    queue(kit, "a", 1)

    assert kit.store.cancel(lost.job_id) is JobState.CANCELED

    assert virtual_time(kit) == 0.0


def test_a_change_of_nothing_leaves_the_tenant_as_it_was(kit, weigh):
    before = weigh(2.0)

    assert Tenants(kit.redis, kit.settings).change("a", {}) == before
