"""A pause of many, and its end: in portions, and what was to rise into the paused lane rises then."""

import pytest

from core.job import JobState, Lane
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, GENEROUS, limits, make_job, violations

MANY = 250


def paused_by_many(kit):
    """MANY tenants are in the race for the batch lane, which is paused; all of them are before a person."""
    kit.redis.zadd(f"{PREFIX}act", {f"t{number}|batch": 0 for number in range(MANY)})
    kit.store.pause("lane", "batch")


def released(kit):
    return [one.job_id for one in kit.store.release(1000)]


def parked(kit):
    return kit.redis.scard(f"{PREFIX}parked")


def counts(kit, model=""):
    """What waits for a model, what of it a pause holds back, and what its workers are wanted for."""
    found = kit.store.depth().models[model]
    return found.waiting, found.paused, found.runnable


def test_a_paused_tenants_jobs_call_for_no_worker_until_the_pause_ends(kit):
    for lane in (Lane.BATCH, Lane.BATCH, Lane.INTERACTIVE):
        kit.queued(tenant="away", lane=lane)
    kit.queued(tenant="here")

    kit.store.pause("tenant", "away")
    waiting = counts(kit)
    stepped = (len(released(kit)), parked(kit), counts(kit))
    kit.store.resume("tenant", "away")

    assert waiting == (4, 3, 1)
    assert stepped == (1, 2, (3, 3, 1)), "the other one's is on its way, and wants a worker still"
    assert counts(kit) == (3, 0, 4)


def test_what_workers_hold_of_a_paused_tenant_is_not_held_back(kit):
    kit.running(tenant="away")
    kit.queued(tenant="away")

    kit.store.pause("tenant", "away")

    assert counts(kit) == (1, 1, 1)


def test_a_job_of_a_paused_tenant_in_a_paused_lane_is_held_back_once(kit):
    kit.queued(tenant="away", lane=Lane.BATCH)
    kit.queued(tenant="here", lane=Lane.BATCH)
    kit.queued(tenant="away")
    kit.queued(tenant="here")

    kit.store.pause("tenant", "away")
    kit.store.pause("lane", "batch")

    assert counts(kit) == (4, 3, 1)


def test_what_a_pause_holds_back_is_told_for_each_model(kit):
    for queue, many in (("", 2), ("other", 3)):
        for _ in range(many):
            kit.queued(tenant="away", queue=queue)
            kit.queued(tenant="here", queue=queue, lane=Lane.BATCH)

    kit.store.pause("tenant", "away")
    of_tenant = [counts(kit), counts(kit, "other")]
    kit.store.resume("tenant", "away")
    kit.store.pause("lane", "batch")
    kit.redis.sadd(f"{PREFIX}parked", "here|batch", "here|batch@other")  # in the race as well: they have come back
    in_the_race = [counts(kit), counts(kit, "other")]
    kit.redis.delete(f"{PREFIX}act", f"{PREFIX}act@other")
    parked_alone = [counts(kit), counts(kit, "other")]

    assert of_tenant == [(4, 2, 2), (6, 3, 3)]
    assert in_the_race == parked_alone == [(4, 2, 2), (6, 3, 3)]


def test_a_step_puts_no_more_than_a_hundred_aside_and_the_next_one_goes_on_at_once(kit):
    paused_by_many(kit)
    kit.redis.zadd(f"{PREFIX}act", {"person|interactive": 1})  # behind all of them
    kit.redis.delete(f"{PREFIX}wake")

    told = [(released(kit), parked(kit), kit.redis.llen(f"{PREFIX}wake")) for _ in range(2)]
    kit.redis.delete(f"{PREFIX}wake")
    last = (released(kit), parked(kit), kit.redis.llen(f"{PREFIX}wake"))

    assert told == [([], 100, 1), ([], 200, 1)]
    assert last == ([], MANY, 0)


def test_who_is_not_paused_is_released_behind_many_who_are(kit):
    paused_by_many(kit)
    person = kit.queued(tenant="person")
    kit.redis.zadd(f"{PREFIX}act", {"person|interactive": 1})

    assert [released(kit) for _ in range(3)] == [[], [], [person]]


def test_many_who_stand_aside_for_one_model_hold_up_no_other(kit):
    kit.add_worker("w2", slots=10, queue="other")
    paused_by_many(kit)
    person = kit.queued(queue="other")

    assert released(kit) == [person]


def test_all_of_many_go_on_after_the_end_of_the_pause(kit):
    rows = [kit.queued(tenant=f"t{number}", lane=Lane.BATCH) for number in range(20)]
    paused_by_many(kit)
    while parked(kit) < MANY:
        released(kit)

    kit.store.resume("lane", "batch")

    assert parked(kit) == 0
    assert sorted(released(kit)) == sorted(rows)


def test_no_call_lets_more_than_some_hundreds_in(kit):
    paused_by_many(kit)
    kit.redis.sadd(f"{PREFIX}parked", *[f"x{number}|batch" for number in range(3000)])

    cursor = kit.store._scripts.run("resume", "lane", "batch", "0")

    assert cursor != "0"
    assert parked(kit) > 2000


def test_the_end_of_a_pause_lets_in_what_it_stopped_and_nothing_else(kit):
    for lane in Lane:
        kit.queued(lane=lane)
        kit.store.pause("lane", lane.value)
    assert (released(kit), parked(kit)) == ([], 2)

    kit.store.resume("lane", "interactive")

    assert kit.redis.smembers(f"{PREFIX}parked") == {"a|batch"}


def behind_a_list(kit):
    """The last one of 20 rows, which a person asks for while the interactive lane is paused."""
    rows = [make_job(lane=Lane.BATCH, fingerprint=f"f{number}") for number in range(20)]
    kit.store.submit_many(rows, GENEROUS)
    kit.store.pause("lane", "interactive")
    return rows[-1].id, kit.queued(fingerprint="f19")


def test_who_asked_for_a_row_of_a_list_during_a_pause_does_not_wait_behind_the_list_after_it(kit):
    row, person = behind_a_list(kit)
    assert kit.job(row).lane is Lane.BATCH

    kit.store.resume("lane", "interactive")

    assert kit.job(row).lane is Lane.INTERACTIVE
    assert row in [one.job_id for one in kit.store.release(2)]
    assert kit.redis.exists(f"{PREFIX}rising") == 0
    assert kit.state(person) is JobState.FOLLOWING


def test_a_row_that_took_over_from_a_person_during_a_pause_rises_after_it(kit):
    lead = kit.running(fingerprint="f", max_attempts=1)
    kit.store.submit_many([make_job(lane=Lane.BATCH) for _ in range(20)], GENEROUS)
    heir = kit.queued(lane=Lane.BATCH, fingerprint="f")
    kit.queued(fingerprint="f")
    kit.store.pause("lane", "interactive")
    kit.store.fail(lead.id, lead.token, CRASHED)
    assert (kit.state(heir), kit.job(heir).lane) == (JobState.QUEUED, Lane.BATCH)

    kit.store.resume("lane", "interactive")

    assert kit.job(heir).lane is Lane.INTERACTIVE


def test_an_heir_that_ran_during_the_pause_rises_when_it_comes_back(kit):
    lead = kit.running(fingerprint="f", max_attempts=1)
    heir = kit.queued(lane=Lane.BATCH, fingerprint="f")
    kit.store.pause("lane", "interactive")
    kit.store.fail(lead.id, lead.token, CRASHED)
    run = kit.claim_again(heir)
    kit.store.resume("lane", "interactive")

    kit.store.give_back(run.id, run.token)

    assert kit.job(heir).lane is Lane.INTERACTIVE


def test_a_lane_that_is_paused_again_meanwhile_stays_so(kit):
    row, _ = behind_a_list(kit)
    first = kit.store._scripts.run("resume", "lane", "interactive", "0")
    kit.store.pause("lane", "interactive")

    assert kit.store._scripts.run("resume", "lane", "interactive", first) == "0"

    assert kit.store.paused() == ["lane:interactive"]
    assert kit.job(row).lane is Lane.BATCH


def test_the_end_of_another_pause_lifts_nothing(kit):
    row, _ = behind_a_list(kit)
    kit.store.pause("lane", "batch")

    kit.store.resume("lane", "batch")

    assert kit.job(row).lane is Lane.BATCH


def test_what_ended_during_the_pause_is_left_where_it_is(kit):
    row, person = behind_a_list(kit)
    kit.store.cancel(person)
    kit.store.cancel(row)
    before = kit.redis.hgetall(f"{PREFIX}nq")

    kit.store.resume("lane", "interactive")

    assert kit.state(row) is JobState.CANCELED
    assert kit.redis.hgetall(f"{PREFIX}nq") == before


def test_many_rows_rise_in_portions(kit):
    rows = [make_job(lane=Lane.BATCH, fingerprint=f"f{number}") for number in range(60)]
    kit.store.submit_many(rows, GENEROUS)
    kit.store.pause("lane", "interactive")
    kit.store.submit_many([make_job(fingerprint=f"f{number}") for number in range(60)], GENEROUS)

    first = kit.store._scripts.run("resume", "lane", "interactive", "0")
    second = kit.store._scripts.run("resume", "lane", "interactive", first)

    assert (first, second, kit.redis.scard(f"{PREFIX}rising")) == ("rising", "rising", 10)
    kit.store.resume("lane", "interactive")
    assert {kit.job(row.id).lane for row in rows} == {Lane.INTERACTIVE}


@pytest.mark.parametrize("equal", [True, False])
def test_a_list_whose_pictures_all_exist_ends_a_hundred_at_once_and_the_reaper_goes_on(kit, equal):
    """More than that would hold Redis for long: each end is a charge, an event and an entry of the bill."""
    fingerprints = ["f"] * 110 if equal else [f"f{number}" for number in range(110)]
    kit.store.submit_many([make_job(fingerprint=one) for one in dict.fromkeys(fingerprints)], GENEROUS)
    for release in kit.store.release(1000):
        kit.complete(kit.claim(release))
    rows = [make_job(lane=Lane.BATCH, fingerprint=fingerprint, batch_id="b") for fingerprint in fingerprints]

    told = kit.store.submit_many(rows, GENEROUS)

    assert [one.state for one in told] == [JobState.SUCCEEDED] * 100 + [JobState.FOLLOWING] * 10
    assert kit.store.reap().mirrored == 10
    assert {kit.state(row.id) for row in rows} == {JobState.SUCCEEDED}
    assert violations(kit.redis, [row.id for row in rows]) == []
    assert kit.store.get_batch("b").succeeded == 110
    assert kit.store.remove(rows[-1].id)
    assert kit.redis.zcard(f"{PREFIX}trash") == 0, "the first one of it still shows the picture"


def test_a_row_that_waits_for_the_reaper_can_be_canceled(kit):
    kit.succeeded(fingerprint="f")
    rows = [make_job(lane=Lane.BATCH, fingerprint="f") for _ in range(101)]
    kit.store.submit_many(rows, limits())

    assert kit.store.cancel(rows[100].id) is JobState.CANCELED

    kit.store.reap()
    assert violations(kit.redis, [row.id for row in rows]) == []


@pytest.mark.parametrize(("kind", "name"), [("lane", "interactive"), ("tenant", "a"), ("worker", "w1")])
def test_the_end_of_a_pause_asks_for_a_release_at_once(kit, kind, name):
    kit.queued()
    kit.store.pause(kind, name)
    released(kit)
    kit.redis.delete(f"{PREFIX}wake")

    kit.store.resume(kind, name)

    assert kit.redis.llen(f"{PREFIX}wake") == 1
