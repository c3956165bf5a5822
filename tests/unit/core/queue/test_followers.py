"""Single flight: followers mirror the job with the same fingerprint."""

import itertools

import pytest

from core.job import JobState
from core.redis_client import PREFIX
from tests.queue_kit import REFUSED, make_picture, violations


def test_a_job_with_a_fingerprint_in_flight_follows(kit):
    leader = kit.queued(fingerprint="f")

    follower = kit.submit(fingerprint="f")

    assert (follower.state, follower.leader) == (JobState.FOLLOWING, leader)
    assert kit.use() == {"reserved": 2}
    assert [one.job_id for one in kit.store.release(10)] == [leader]


def test_a_follower_gets_the_picture_its_own_charge_and_its_own_events(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")

    kit.complete(run)

    assert kit.job(follower).picture == make_picture(run.id)
    assert kit.ledger(follower) == ["charge"]
    assert [kind for kind, _ in kit.events(follower)] == ["status", "output", "status"]
    assert violations(kit.redis, [run.id, follower]) == []


def test_other_tenants_never_share(kit):
    kit.queued(fingerprint="f")

    assert kit.submit(tenant="b", fingerprint="f").state is JobState.QUEUED


def test_a_job_without_a_fingerprint_is_never_shared(kit):
    kit.queued()

    assert kit.submit().state is JobState.QUEUED


def test_two_equal_jobs_in_one_call_run_once(kit):
    from tests.queue_kit import GENEROUS, make_job

    done = kit.store.submit_many([make_job(fingerprint="f"), make_job(fingerprint="f")], GENEROUS)

    assert [one.state for one in done] == [JobState.QUEUED, JobState.FOLLOWING]


def test_a_finished_picture_answers_at_once(kit):
    first = kit.succeeded(fingerprint="f")

    again = kit.submit(fingerprint="f")

    assert (again.state, again.leader) == (JobState.SUCCEEDED, first)
    assert kit.ledger(again.job_id) == ["charge"]
    assert violations(kit.redis, [first, again.job_id]) == []


@pytest.mark.parametrize("how", ["follower", "later"])
def test_a_picture_is_shared_as_long_as_its_longest_record_keeps_it(kit, how):
    """One who keeps it for a minute does not take it from those who come after."""
    run = kit.running(fingerprint="f", retention_seconds=86_400)
    if how == "follower":
        kit.queued(fingerprint="f", retention_seconds=60)
    kit.complete(run)
    if how == "later":
        assert kit.submit(fingerprint="f", retention_seconds=60).state is JobState.SUCCEEDED

    assert kit.submit(fingerprint="f").state is JobState.SUCCEEDED


def test_a_removed_picture_is_drawn_again(kit):
    first = kit.succeeded(fingerprint="f")
    kit.let_run_out("pictures", first)
    kit.store.expire(10)

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


def test_a_picture_about_to_expire_is_drawn_again(kit):
    kit.succeeded(fingerprint="f", retention_seconds=60)

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


def test_the_fingerprint_of_a_dead_job_is_free_again(kit):
    kit.dead(fingerprint="f")

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


def test_the_fingerprint_of_a_canceled_job_is_free_again(kit):
    kit.store.cancel(kit.queued(fingerprint="f"))

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


def test_followers_of_a_permanently_failed_leader_fail_with_it(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")

    kit.store.fail(run.id, run.token, REFUSED)

    assert (kit.state(follower), kit.job(follower).failure) == (JobState.DEAD, REFUSED)
    assert violations(kit.redis, [run.id, follower]) == []


def test_canceling_a_follower_leaves_the_leader_alone(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")

    kit.store.cancel(follower)
    kit.complete(run)

    assert (kit.state(run.id), kit.state(follower)) == (JobState.SUCCEEDED, JobState.CANCELED)
    assert violations(kit.redis, [run.id, follower]) == []


def test_many_followers_end_in_portions(kit):
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(250)]

    kit.complete(run)
    ended = [kit.state(job_id) for job_id in followers].count(JobState.SUCCEEDED)
    assert ended == 99, "the leader is the hundredth"

    reports = [kit.store.reap() for _ in range(3)]

    assert [one.mirrored for one in reports] == [100, 51, 0]
    assert [one.is_full for one in reports] == [True, False, False]
    assert violations(kit.redis, [run.id, *followers]) == []


def ended(kit):
    return kit.redis.xlen(f"{PREFIX}ledger")


@pytest.mark.parametrize("due", ["deadline", "lease"])
def test_one_call_of_the_reaper_ends_a_hundred_jobs_however_many_follow_each(kit, due):
    """Ten leaders that end in the same call, each with followers of its own, end over several calls."""
    ids = []
    for number in range(10):
        fingerprint = f"f{number}"
        run = kit.running(fingerprint=fingerprint)
        followers = [kit.queued(fingerprint=fingerprint) for _ in range(32)]  # the fourth leader is the hundredth job
        ids += [run.id, *followers]
        if due == "deadline":
            kit.store.give_back(run.id, run.token)
            for job_id in (run.id, *followers):
                kit.redis.hset(f"{PREFIX}job:{job_id}", "deadline", 1)
                kit.let_run_out("deadline", job_id)
        else:
            kit.redis.hset(f"{PREFIX}job:{run.id}", mapping={"promoted": 1, "lost_leases": 14})
            kit.let_run_out("lease", run.id)
    seen = [ended(kit)]
    for _ in range(40):
        report = kit.store.reap()
        seen.append(ended(kit))
        if not report.is_full:
            break

    assert max(after - before for before, after in itertools.pairwise(seen)) == 100
    assert {kit.state(job_id) for job_id in ids} == {JobState.DEAD}
    assert violations(kit.redis, ids) == []


def test_followers_that_still_wait_for_their_end_do_not_miss_their_deadline(kit):
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(150)]
    kit.complete(run)
    late = next(job_id for job_id in followers if kit.state(job_id) is JobState.FOLLOWING)
    kit.let_run_out("deadline", late)

    kit.store.reap()

    assert kit.state(late) is JobState.SUCCEEDED


def test_a_followers_deadline_is_its_own(kit):
    leader = kit.queued(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.let_run_out("deadline", follower)

    kit.store.reap()

    assert (kit.state(leader), kit.state(follower)) == (JobState.QUEUED, JobState.DEAD)
    assert kit.job(follower).failure.code == "deadline_exceeded"


def test_a_late_follower_ends_alone(kit):
    leader = kit.queued(fingerprint="f")
    late, other = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")
    kit.let_run_out("deadline", late)

    kit.store.reap()

    assert [kit.state(one) for one in (leader, late, other)] == [
        JobState.QUEUED,
        JobState.DEAD,
        JobState.FOLLOWING,
    ]
    assert kit.submit(fingerprint="f").leader == leader


def test_a_job_that_follows_no_more_is_not_ended_with_the_flight(kit):
    run = kit.running(fingerprint="f")
    kit.queued(fingerprint="f")
    stray = kit.queued()
    kit.redis.zadd(f"{PREFIX}fol:{run.id}", {stray: 1})

    kit.complete(run)

    assert kit.state(stray) is JobState.QUEUED
    assert not kit.redis.exists(f"{PREFIX}fol:{run.id}")


def mirrored(kit):
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.complete(run)
    return run.id, follower


def reused(kit):
    return kit.succeeded(fingerprint="f"), kit.queued(fingerprint="f")


@pytest.mark.parametrize("made", [mirrored, reused])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_shared_object_is_deleted_with_its_last_record(kit, made, order):
    ids = made(kit)

    kit.store.remove(ids[order[0]])
    assert kit.redis.zcard(f"{PREFIX}trash") == 0
    kit.store.remove(ids[order[1]])

    assert kit.redis.zrange(f"{PREFIX}trash", 0, -1) == [make_picture(ids[0]).key]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_shared_picture_expires_for_each_record_on_its_own_clock(kit, order):
    ids = [kit.succeeded(fingerprint="f"), kit.queued(fingerprint="f")]
    first, last = ids[order[0]], ids[order[1]]
    kit.let_run_out("pictures", first)
    kit.store.expire(10)

    assert kit.job(first).picture_removed
    assert not kit.job(last).picture_removed
    assert kit.redis.zcard(f"{PREFIX}trash") == 0

    kit.let_run_out("pictures", last)
    kit.store.expire(10)
    assert kit.redis.zcard(f"{PREFIX}trash") == 1


def point_fingerprint_at(kit, job_id):
    """As an older version, or a lost write of a failover, might have left it."""
    kit.redis.set(f"{PREFIX}fp:a:f", job_id)


@pytest.mark.parametrize("ending", ["dead", "canceled", "removed"])
def test_a_fingerprint_that_points_at_a_job_without_a_picture_leads_nobody(kit, ending):
    job_id = kit.succeeded(fingerprint="f") if ending == "removed" else kit.queued(fingerprint="f")
    if ending == "dead":
        run = kit.claim_again(job_id)
        kit.store.fail(run.id, run.token, REFUSED)
    elif ending == "canceled":
        kit.store.cancel(job_id)
    else:
        kit.let_run_out("pictures", job_id)
        kit.store.expire(10)
    point_fingerprint_at(kit, job_id)

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


@pytest.mark.parametrize("ending", ["dead", "canceled"])
def test_a_job_that_ends_without_a_picture_gives_up_its_fingerprint(kit, ending):
    if ending == "dead":
        kit.dead(fingerprint="f")
    else:
        kit.store.cancel(kit.queued(fingerprint="f"))

    assert not kit.redis.exists(f"{PREFIX}fp:a:f")


def test_a_picture_that_expires_leaves_a_newer_jobs_fingerprint_alone(kit):
    first = kit.succeeded(fingerprint="f")
    again = kit.queued(fingerprint="f")
    kit.let_run_out("pictures", first)

    kit.store.expire(10)

    assert kit.submit(fingerprint="f").leader == again


def test_who_follows_another_after_a_promotion_is_told_that_ones_place_and_at_the_end_whose_picture_it_is(kit):
    others = [kit.queued() for _ in range(2)]
    leader, heir, follower = (kit.queued(fingerprint="f") for _ in range(3))
    kit.store.cancel(leader)

    places = kit.store.queue_places([kit.job(one) for one in (heir, follower)])
    looked = kit.store.with_places([heir, follower])[1]

    assert places[heir] == places[follower] == looked[heir] == looked[follower]
    assert places[heir].position == 3
    kit.add_worker("w1", slots=10)
    for one in kit.store.release(10):
        kit.complete(kit.claim(one))
    assert kit.job(follower).leader == heir
    assert violations(kit.redis, [*others, leader, heir, follower]) == []


def test_who_follows_a_run_is_told_when_it_ends(kit):
    kit.redis.hset(f"{PREFIX}pace", mapping={"gap_ms": 8000, "run_ms": 8000, "mean_work": 1, "last": 1})
    run = kit.running(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    kit.redis.hincrby(f"{PREFIX}job:{run.id}", "started", -3000)

    place = kit.store.queue_place(kit.job(follower))

    assert (place.position, place.paused) == (0, False)
    assert place.eta_seconds == pytest.approx(5, abs=1)
    assert kit.store._scripts.run("place", run.id, kit.store.live_ms) is None, "who runs itself has no place"
