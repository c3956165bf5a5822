"""An interactive request equal to a row of a waiting list lifts that row out of the batch lane."""

import pytest

from core.job import JobState, Lane, Priority
from core.redis_client import PREFIX
from tests.queue_kit import CRASHED, violations


def behind_a_long_list(kit, **more):
    """A batch job with fingerprint f behind 20 others of its lane."""
    rows = [kit.queued(lane=Lane.BATCH) for _ in range(20)]
    return rows, kit.queued(lane=Lane.BATCH, fingerprint="f", **more)


def counts(kit):
    """What is counted of the waiting, by lane: jobs, work of tenant a, length of its queues."""
    return {
        lane: (
            int(kit.redis.hget(f"{PREFIX}nq", lane) or 0),
            float(kit.redis.hget(f"{PREFIX}queued_work", f"a|{lane}") or 0),
            kit.redis.zcard(f"{PREFIX}tq:a|{lane}"),
        )
        for lane in ("interactive", "batch")
    }


def test_an_interactive_request_does_not_wait_behind_a_list_for_an_equal_row_of_it(kit):
    rows, row = behind_a_long_list(kit, work=2.5)

    person = kit.submit(fingerprint="f")

    assert (person.state, person.leader) == (JobState.FOLLOWING, row)
    assert counts(kit) == {"interactive": (1, 2.5, 1), "batch": (20, 20.0, 20)}
    assert kit.store.queue_place(kit.job(row)).position <= 2
    kit.complete(kit.claim(next(one for one in kit.store.release(2) if one.job_id == row)))
    assert kit.state(person.job_id) is JobState.SUCCEEDED
    for job_id in rows:
        kit.store.cancel(job_id)
    assert violations(kit.redis, [*rows, row, person.job_id]) == []


def test_a_row_lifted_once_is_left_where_it_is_by_the_next_request(kit):
    _, row = behind_a_long_list(kit)
    kit.queued(fingerprint="f")
    before = counts(kit)

    kit.queued(fingerprint="f")

    assert counts(kit) == before
    assert kit.job(row).lane is Lane.INTERACTIVE


def test_another_row_of_the_list_lifts_nothing(kit):
    _, row = behind_a_long_list(kit)

    kit.queued(lane=Lane.BATCH, fingerprint="f")

    assert (kit.job(row).lane, counts(kit)["interactive"]) == (Lane.BATCH, (0, 0.0, 0))


@pytest.mark.parametrize("state", ["released", "running", "retry"])
def test_a_row_that_an_interactive_request_follows_comes_back_in_front_of_the_list(kit, state):
    run = kit.running(lane=Lane.BATCH, fingerprint="f")
    if state == "retry":
        kit.store.fail(run.id, run.token, CRASHED)
    elif state == "released":
        kit.store.give_back(run.id, run.token)
        kit.store.release(1)
    person = kit.queued(fingerprint="f")
    rows = [kit.queued(lane=Lane.BATCH) for _ in range(5)]

    if state == "running":
        kit.store.give_back(run.id, run.token)
    else:
        kit.let_run_out({"released": "rel", "retry": "retry"}[state], run.id)
        kit.store.reap()

    assert kit.state(run.id) is JobState.QUEUED
    assert counts(kit) == {"interactive": (1, 1.0, 1), "batch": (5, 5.0, 5)}
    for job_id in (*rows, run.id, person):
        kit.store.cancel(job_id)
    assert violations(kit.redis, [*rows, run.id, person]) == []


def test_a_row_that_takes_over_from_a_lifted_one_is_lifted_too(kit):
    _, row = behind_a_long_list(kit)
    heir = kit.queued(lane=Lane.BATCH, fingerprint="f")
    kit.queued(fingerprint="f")

    kit.store.cancel(row)

    assert (kit.state(heir), kit.job(heir).lane) == (JobState.QUEUED, Lane.INTERACTIVE)
    assert counts(kit) == {"interactive": (1, 1.0, 1), "batch": (20, 20.0, 20)}


@pytest.mark.parametrize("lane", list(Lane))
def test_an_equal_request_of_higher_priority_starts_as_early_as_it_would_by_itself(kit, lane):
    leader = kit.queued(lane=lane, fingerprint="f", priority=Priority.LOW)
    others = [kit.queued(lane=lane) for _ in range(5)]

    follower = kit.queued(lane=lane, fingerprint="f", priority=Priority.HIGH)

    assert kit.store.queue_place(kit.job(leader)).position == 1
    kit.add_worker("w1", slots=100)
    assert [one.job_id for one in kit.store.release(10)] == [leader, *others]
    assert kit.state(follower) is JobState.FOLLOWING


def test_an_equal_request_of_lower_priority_changes_no_place(kit):
    kit.queued()
    leader = kit.queued(fingerprint="f", priority=Priority.HIGH)
    before = kit.redis.hgetall(f"{PREFIX}job:{leader}"), kit.store.queue_place(kit.job(leader))

    kit.queued(fingerprint="f", priority=Priority.LOW)

    after = kit.redis.hgetall(f"{PREFIX}job:{leader}"), kit.store.queue_place(kit.job(leader))
    assert (after[0]["head_start"], after[1]) == (before[0]["head_start"], before[1])


def test_a_row_of_high_priority_does_not_move_an_equal_interactive_request(kit):
    """Their lanes are apart: it is drawn earlier than the row would be as it is."""
    leader = kit.queued(fingerprint="f")
    before = kit.redis.hget(f"{PREFIX}job:{leader}", "head_start")

    kit.queued(lane=Lane.BATCH, fingerprint="f", priority=Priority.HIGH)

    assert kit.redis.hget(f"{PREFIX}job:{leader}", "head_start") == before


def test_a_leader_that_waits_for_its_next_try_comes_back_with_the_head_start(kit):
    run = kit.running(fingerprint="f", priority=Priority.LOW)
    kit.store.fail(run.id, run.token, CRASHED)
    others = [kit.queued() for _ in range(3)]
    kit.queued(fingerprint="f", priority=Priority.HIGH)
    kit.let_run_out("retry", run.id)
    kit.store.reap()

    assert [one.job_id for one in kit.store.release(10)] == [run.id, *others]
