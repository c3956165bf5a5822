"""release.lua: in which order: turns and shares of tenants and lanes, priorities, and turns that are given back."""

import pytest

from core.job import PRIORITY_MS, Lane, Priority
from core.redis_client import PREFIX
from tests.queue_kit import GENEROUS, limits, make_job


def test_a_tenant_is_served_first_come_first_served_but_for_a_head_start(kit):
    ids = [kit.queued() for _ in range(3)]
    urgent = kit.queued(priority=Priority.HIGH)

    assert [one.job_id for one in kit.store.release(4)] == [urgent, *ids]


def test_a_low_priority_lets_later_jobs_pass_but_not_for_ever(kit):
    low = kit.queued(priority=Priority.LOW)
    later = [kit.queued() for _ in range(3)]
    much_later = kit.queued()
    entity = f"{PREFIX}tq:a|interactive"
    kit.redis.zincrby(entity, PRIORITY_MS + 10_000, much_later)

    assert [one.job_id for one in kit.store.release(5)] == [*later, low, much_later]


def test_a_priority_changes_no_other_tenants_place(kit):
    mine = [kit.queued(priority=Priority.HIGH) for _ in range(8)]
    others = [kit.queued(tenant="b", priority=Priority.LOW) for _ in range(8)]

    released = [one.job_id for one in kit.store.release(8)]

    assert len(set(released) & set(mine)) == len(set(released) & set(others)) == 4


def test_a_priority_is_kept_over_a_release_that_nobody_claims(kit):
    urgent = kit.released(priority=Priority.HIGH)
    kit.queued()
    kit.let_run_out("rel", urgent.job_id)
    kit.store.reap()

    assert kit.store.release(1)[0].job_id == urgent.job_id
    assert kit.job(urgent.job_id).priority is Priority.HIGH


def test_what_waits_longest_is_told_by_when_it_came_and_not_by_its_place(kit):
    kit.queued(priority=Priority.HIGH)

    assert kit.store.depth().oldest_waiting_seconds < PRIORITY_MS / 2000


def test_of_several_jobs_each_has_its_own_priority_and_address(kit):
    jobs = [make_job(), make_job(priority=Priority.LOW), make_job(webhook_url="https://a.example/h")]
    kit.store.submit_many(jobs, GENEROUS)

    kept = [kit.job(job.id) for job in jobs]

    assert [job.priority for job in kept] == [Priority.NORMAL, Priority.LOW, Priority.NORMAL]
    assert [job.webhook_url for job in kept] == ["", "", "https://a.example/h"]


def test_jobs_of_one_call_keep_their_order(kit):
    jobs = [make_job(lane=Lane.BATCH) for _ in range(300)]
    kit.store.submit_many(jobs, GENEROUS)
    last = kit.queued(lane=Lane.BATCH)

    assert [one.job_id for one in kit.store.release(1000)] == [*[job.id for job in jobs], last]


def test_tenants_take_turns_however_many_jobs_they_have(kit):
    for _ in range(50):
        kit.queued(tenant="big")
    kit.queued(tenant="small")
    kit.queued(tenant="small")

    tenants = [kit.job(one.job_id).tenant for one in kit.store.release(4)]

    assert sorted(tenants) == ["big", "big", "small", "small"]


def test_an_interactive_job_overtakes_a_long_batch(kit):
    for _ in range(200):
        kit.queued(tenant="big", lane=Lane.BATCH)
    kit.store.release(20)
    person = kit.queued(tenant="person")

    assert person in [one.job_id for one in kit.store.release(2)]


def test_the_interactive_lane_of_one_tenant_goes_before_its_batch(kit):
    for _ in range(50):
        kit.queued(lane=Lane.BATCH)
    kit.store.release(5)
    person = kit.queued()

    assert person in [one.job_id for one in kit.store.release(2)]


def test_shares_follow_weights_and_the_cost_of_the_jobs(kit):
    for tenant, weight, work in [("x", 3, 1.0), ("y", 1, 1.0), ("z", 1, 4.0)]:
        kit.store.submit_many([make_job(tenant=tenant, work=work) for _ in range(400)], limits(weight=weight))
    kit.add_worker("w1", slots=1000)  # a heartbeat: on a busy machine so many rows take longer than a silence

    served = {"x": 0.0, "y": 0.0, "z": 0.0}
    for one in kit.store.release(300):
        tenant = kit.job(one.job_id).tenant
        served[tenant] += 4.0 if tenant == "z" else 1.0

    total = sum(served.values())
    assert served["x"] / total == pytest.approx(0.6, rel=0.1)
    assert served["y"] / total == pytest.approx(0.2, rel=0.1)
    assert served["z"] / total == pytest.approx(0.2, rel=0.1)


def test_idling_earns_no_credit(kit):
    kit.queued(tenant="idle")
    kit.store.release(1)
    for _ in range(100):
        kit.queued(tenant="busy")
    kit.store.release(50)
    for _ in range(20):
        kit.queued(tenant="idle")

    tenants = [kit.job(one.job_id).tenant for one in kit.store.release(10)]

    assert 4 <= tenants.count("busy") <= 6


def test_coming_back_does_not_wash_off_what_was_used(kit):
    """A tenant that was served much, and emptied its queue, must not be served before one that waits."""
    kit.queued(tenant="flicker", work=100.0)
    kit.store.release(10)
    for _ in range(10):
        kit.queued(tenant="flicker")
        kit.queued(tenant="waiting")

    assert {kit.job(one.job_id).tenant for one in kit.store.release(8)} == {"waiting"}


def lose_releases(kit, count):
    """`count` jobs of `unlucky` are released and nobody claims them, while `other` waits too."""
    for _ in range(count):
        kit.queued(tenant="unlucky", allowed=limits(weight=2))
    lost = [one.job_id for one in kit.store.release(count)]
    for _ in range(40):
        kit.queued(tenant="unlucky", allowed=limits(weight=2))
        kit.queued(tenant="other")
    return lost


def virtual_time(kit, entity):
    return kit.redis.zscore(f"{PREFIX}act", entity)


def test_a_release_that_nobody_claimed_costs_no_turn(kit):
    lost = lose_releases(kit, 10)
    before = virtual_time(kit, "unlucky|interactive")
    for job_id in lost:
        kit.let_run_out("rel", job_id)

    kit.store.reap()

    assert virtual_time(kit, "unlucky|interactive") == pytest.approx(before - 10 / (2 * 4))
    tenants = [kit.job(one.job_id).tenant for one in kit.store.release(40)]
    assert tenants.count("unlucky") == pytest.approx(30, abs=2), "its ten, and two thirds of the others"


def test_a_claim_refused_by_a_paused_worker_costs_no_turn_however_often(kit):
    kit.store.pause("worker", "w1")
    kit.add_worker("w2", slots=1)
    job_id = kit.queued(work=3.0)
    kit.store.release(1)
    for _ in range(5):
        epoch = kit.job(job_id).epoch
        for _ in range(2):  # a doubled message
            assert kit.store.claim(job_id, epoch, "t", "w1") is None
        assert virtual_time(kit, "a|interactive") == pytest.approx(0.0)

        assert [one.job_id for one in kit.store.release(1)] == [job_id]

    assert virtual_time(kit, "a|interactive") == pytest.approx(3.0 / 4)


def test_a_turn_that_comes_back_later_is_no_more_than_one(kit):
    """The tenant had emptied its queue, and others went on for long."""
    lost = kit.released(tenant="unlucky")
    for _ in range(40):
        kit.queued(tenant="other")
    kit.store.release(20)
    present = float(kit.redis.get(f"{PREFIX}V"))
    kit.let_run_out("rel", lost.job_id)

    kit.store.reap()

    assert virtual_time(kit, "unlucky|interactive") == pytest.approx(present - 1 / 4)
    assert kit.store.release(1)[0].job_id == lost.job_id


def test_a_job_that_left_the_batch_lane_gives_back_the_turn_that_it_paid_there(kit):
    """An interactive request follows it now: queued again it is in the other lane's queue."""
    lost = kit.released(lane=Lane.BATCH, fingerprint="f")
    assert kit.store.release(1) == []  # the batch queue is empty and out of the race
    kit.queued(fingerprint="f")
    kit.let_run_out("rel", lost.job_id)

    kit.store.reap()

    assert float(kit.redis.hget(f"{PREFIX}vt", "a|batch")) == pytest.approx(0.0)
    assert virtual_time(kit, "a|interactive") == pytest.approx(0.0)


def cancel(kit, job_id):
    kit.store.cancel(job_id)


def let_its_deadline_pass(kit, job_id):
    kit.let_run_out("deadline", job_id)
    kit.store.reap()


@pytest.mark.parametrize("end", [cancel, let_its_deadline_pass])
@pytest.mark.parametrize("more", [0, 1])
def test_a_release_that_ends_before_it_ran_costs_no_turn(kit, end, more):
    lost = kit.released(work=3.0)
    for _ in range(more):
        kit.queued()

    end(kit, lost.job_id)

    assert kit.job(lost.job_id).state.is_terminal
    kept = kit.redis.hget(f"{PREFIX}vt", "a|interactive")  # who waits for nothing is out of the race
    assert float(kept or virtual_time(kit, "a|interactive")) == pytest.approx(0.0)


def test_who_cancels_what_is_released_has_his_share_of_what_is_drawn(kit):
    for _ in range(40):
        kit.queued()
        kit.queued(tenant="b")
    for one in kit.store.release(20):
        if kit.job(one.job_id).tenant == "a":
            kit.store.cancel(one.job_id)

    tenants = [kit.job(one.job_id).tenant for one in kit.store.release(30)]

    assert tenants.count("a") == pytest.approx(20, abs=1), "ten each at the end of the first twenty, then ten of each"


def test_a_run_that_its_owner_cancels_keeps_its_turn(kit):
    run = kit.running()
    kit.queued()
    kit.store.cancel(run.id)

    kit.store.give_back(run.id, run.token)

    assert kit.job(run.id).state.is_terminal
    assert virtual_time(kit, "a|interactive") == pytest.approx(1 / 4)


def test_a_run_that_was_given_back_keeps_its_turn(kit):
    """It had the card for a while."""
    run = kit.running()
    kit.queued()
    before = virtual_time(kit, "a|interactive")

    kit.store.give_back(run.id, run.token)

    assert virtual_time(kit, "a|interactive") == before


def test_people_get_four_fifths_where_their_tenants_batch_waits_too(kit):
    for _ in range(40):
        kit.queued(lane=Lane.BATCH)
        kit.queued()

    lanes = [kit.job(one.job_id).lane for one in kit.store.release(30)]

    assert lanes.count(Lane.INTERACTIVE) == pytest.approx(24, abs=1)
