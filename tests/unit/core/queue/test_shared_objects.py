"""An object is deleted with the last record that shows it, and handed out again until then, whoever goes first."""

import pytest

from core.image_store import object_key
from core.job import JobState, Lane
from core.job_store import JobStore
from core.redis_client import PREFIX
from core.trash import TrashBin
from tests.old_release import old_texts
from tests.queue_kit import CRASHED, GENEROUS, make_job, make_picture

MORE_THAN_ONE_CALL = 120


def refs(kit):
    return list(kit.redis.scan_iter(f"{PREFIX}ref:*"))


def trash(kit):
    return kit.redis.zrange(f"{PREFIX}trash", 0, -1)


def leader_of_many(kit):
    """A leader that has succeeded while some of its followers are still to be ended by the reaper."""
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(MORE_THAN_ONE_CALL)]
    kit.complete(run)
    assert JobState.FOLLOWING in {kit.state(one) for one in followers}
    return run.id, followers


def remove_all(kit, job_ids):
    for job_id in job_ids:
        assert kit.store.remove(job_id)


def test_a_leader_deleted_before_its_last_followers_ended_leaves_no_object_behind(kit):
    leader, followers = leader_of_many(kit)
    kit.store.remove(leader)
    kit.store.reap()
    assert {kit.state(one) for one in followers} == {JobState.SUCCEEDED}
    assert trash(kit) == []

    remove_all(kit, followers)

    assert (refs(kit), trash(kit)) == ([], [make_picture(leader).key])


@pytest.mark.parametrize("last", ["leader", "follower"])
def test_an_object_goes_with_its_last_record_also_where_an_older_release_ended_the_last_followers(kit, last):
    """Its reaper does not know that the picture is kept for those who wait."""
    leader, followers = leader_of_many(kit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core.scripts.script_texts", old_texts)
        JobStore(kit.redis, kit.settings).reap()
    assert {kit.state(one) for one in followers} == {JobState.SUCCEEDED}
    assert kit.redis.sismember(f"{PREFIX}ref:{make_picture(leader).key}", f"mirror:{leader}")

    remove_all(kit, [*followers, leader] if last == "leader" else [leader, *followers])

    assert (refs(kit), trash(kit)) == ([], [make_picture(leader).key])


def test_a_leader_whose_picture_expired_before_its_last_followers_ended_shows_it_no_more(kit):
    leader, followers = leader_of_many(kit)
    kit.let_run_out("pictures", leader)
    kit.store.expire(10)
    kit.store.reap()

    remove_all(kit, [*followers, leader])

    assert (refs(kit), trash(kit)) == ([], [make_picture(leader).key])


def end_followers(kit):
    while kit.store.reap().total:
        pass


def with_some_that_wait_for_it(kit, *, is_canceled):
    """Ids of those whose picture is there, and of those that the reaper has still to give it."""
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(MORE_THAN_ONE_CALL)]
    if is_canceled:
        kit.store.cancel(run.id)
    kit.complete(run)
    wait = [one for one in followers if kit.state(one) is JobState.FOLLOWING]
    assert wait
    return run.id, [one for one in (run.id, *followers) if one not in wait], wait


@pytest.mark.parametrize("is_canceled", [False, True])
def test_a_picture_that_some_still_wait_for_is_kept_though_all_who_had_it_are_deleted(kit, is_canceled):
    leader, had_it, wait = with_some_that_wait_for_it(kit, is_canceled=is_canceled)
    bin_ = TrashBin(kit.redis, lambda *_: make_picture(leader).key)
    remove_all(kit, had_it)
    if is_canceled:  # what its run may have stored is due ten minutes later
        kit.redis.zadd(f"{PREFIX}trash", dict.fromkeys(trash(kit), 1))
    assert bin_.due(10) == []

    end_followers(kit)
    assert {kit.state(one) for one in wait} == {JobState.SUCCEEDED}
    remove_all(kit, wait)

    assert (refs(kit), trash(kit)) == ([], [make_picture(leader).key])


@pytest.mark.parametrize("is_canceled", [False, True])
def test_a_picture_that_nobody_waits_for_any_more_goes_with_the_last_who_had_it(kit, is_canceled):
    leader, had_it, wait = with_some_that_wait_for_it(kit, is_canceled=is_canceled)
    last = had_it[-1]
    remove_all(kit, had_it[:-1])
    kit.store.cancel_many(wait)
    end_followers(kit)
    assert make_picture(leader).key not in trash(kit)

    kit.store.remove(last)

    assert refs(kit) == []
    assert make_picture(leader).key in trash(kit)


@pytest.mark.parametrize("is_canceled", [False, True])
def test_a_picture_that_nobody_has_and_nobody_waits_for_any_more_goes(kit, is_canceled):
    leader, had_it, wait = with_some_that_wait_for_it(kit, is_canceled=is_canceled)
    remove_all(kit, had_it)
    kit.store.cancel_many(wait)

    end_followers(kit)

    assert refs(kit) == []
    assert make_picture(leader).key in trash(kit)


def test_a_picture_that_was_never_given_on_stays_with_the_one_who_drew_it(kit):
    """More follow than one call ends, none of them before they are all canceled."""
    drawn = kit.succeeded(fingerprint="f")
    rows = [make_job(fingerprint="f", lane=Lane.BATCH) for _ in range(MORE_THAN_ONE_CALL)]
    kit.store.submit_many(rows, GENEROUS)
    shown = [row.id for row in rows if kit.state(row.id) is JobState.SUCCEEDED]
    remove_all(kit, shown)
    kit.store.cancel_many([row.id for row in rows if row.id not in shown])

    end_followers(kit)

    assert trash(kit) == []
    kit.store.remove(drawn)
    assert (refs(kit), trash(kit)) == ([], [make_picture(drawn).key])


def test_the_object_of_a_canceled_leader_goes_with_the_last_of_its_followers(kit):
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(3)]
    kit.store.cancel(run.id)
    kit.complete(run)
    assert kit.state(run.id) is JobState.CANCELED

    remove_all(kit, [*followers, run.id])

    assert refs(kit) == []
    assert make_picture(run.id).key in trash(kit)


@pytest.mark.parametrize("order", ["deleted", "expired"])
def test_a_picture_that_another_record_shows_is_still_handed_out(kit, order):
    drawn = kit.succeeded(fingerprint="f", retention_seconds=10_000)
    named = kit.queued(fingerprint="f", retention_seconds=20_000)
    assert kit.redis.get(f"{PREFIX}fp:a:f") == named
    if order == "deleted":
        kit.store.remove(named)
    else:
        kit.let_run_out("pictures", named)
        kit.store.expire(10)

    again = kit.submit(fingerprint="f")

    assert (again.state, again.leader) == (JobState.SUCCEEDED, drawn)


@pytest.mark.parametrize("fingerprint", ["f", "g", "h", "i", "j", "k"])  # records stand in no order
def test_of_the_records_that_are_left_the_one_that_keeps_the_picture_longest_names_it(kit, fingerprint):
    ids = [kit.succeeded(fingerprint=fingerprint, retention_seconds=1_000)]
    ids += [kit.queued(fingerprint=fingerprint, retention_seconds=seconds) for seconds in (9_000, 5_000, 2_000, 3_000)]

    kit.store.remove(ids[1])

    assert kit.redis.get(f"{PREFIX}fp:a:{fingerprint}") == ids[2]
    assert 4_000_000 < kit.redis.pttl(f"{PREFIX}fp:a:{fingerprint}") <= 5_000_000


def test_a_record_whose_picture_is_past_its_time_is_handed_nothing(kit):
    past = kit.succeeded(fingerprint="f", retention_seconds=10_000)
    named = kit.queued(fingerprint="f", retention_seconds=20_000)
    kit.redis.hset(f"{PREFIX}job:{past}", "expires", "1")

    kit.store.remove(named)

    assert not kit.redis.exists(f"{PREFIX}fp:a:f")
    assert kit.submit(fingerprint="f").state is JobState.QUEUED


def test_who_does_not_name_the_picture_hands_nothing_on(kit):
    """Its object was lost, and another job draws it anew."""
    drawn = kit.succeeded(fingerprint="f")
    kit.queued(fingerprint="f")
    kit.redis.delete(f"{PREFIX}fp:a:f")
    anew = kit.queued(fingerprint="f")

    kit.store.remove(drawn)

    assert kit.redis.get(f"{PREFIX}fp:a:f") == anew


def test_a_follower_that_ends_late_leaves_the_name_to_the_job_that_draws_anew(kit):
    """Its leader's object could not be looked at, and another leader with followers of its own has begun."""
    _, late = leader_of_many(kit)
    kit.redis.delete(f"{PREFIX}fp:a:f")
    anew, waits = kit.running(fingerprint="f"), kit.queued(fingerprint="f")

    while kit.store.reap().total:
        pass

    assert {kit.state(one) for one in late} == {JobState.SUCCEEDED}
    assert kit.redis.get(f"{PREFIX}fp:a:f") == anew.id
    assert kit.store.audit_job(waits, repair=False) == ""


def as_a_failover_that_lost_the_claim_leaves_it(kit, run):
    kit.redis.hdel(f"{PREFIX}job:{run.id}", "attempt", "token", "worker", "started", "ride")
    kit.redis.hset(f"{PREFIX}job:{run.id}", "state", "QUEUED")
    kit.redis.zrem(f"{PREFIX}lease", run.id)
    kit.store.audit_job(run.id, repair=True)


def test_what_a_run_whose_claim_was_lost_may_have_stored_is_deleted_later(kit):
    run = kit.running()
    created_ms = kit.job(run.id).created_ms
    as_a_failover_that_lost_the_claim_leaves_it(kit, run)
    assert not kit.complete(run)

    kit.store.cancel(run.id)
    kit.redis.zadd(f"{PREFIX}trash", dict.fromkeys(trash(kit), 1))

    assert [one.key for one in TrashBin(kit.redis, object_key).due(10)] == [object_key("a", run.id, created_ms)]


def test_a_follower_that_never_ran_leaves_nothing_to_delete(kit):
    run = kit.running(fingerprint="f")
    canceled, mirrored = kit.queued(fingerprint="f"), kit.queued(fingerprint="f")

    kit.store.cancel(canceled)
    kit.complete(run)

    assert kit.state(mirrored) is JobState.SUCCEEDED
    assert trash(kit) == []


def test_a_follower_that_took_over_and_failed_may_have_stored_something(kit):
    run = kit.running(fingerprint="f", max_attempts=1)
    heir = kit.queued(fingerprint="f", max_attempts=1)
    kit.store.fail(run.id, run.token, CRASHED)

    last = kit.claim_again(heir)
    kit.store.fail(last.id, last.token, CRASHED)

    assert sorted(entry.split(":")[1] for entry in trash(kit)) == sorted([run.id, heir])


@pytest.mark.parametrize("kind", ["dlq", "pictures", "records"])
def test_a_removed_job_stands_in_no_list_any_more(kit, kind):
    job_id = kit.dead() if kind == "dlq" else kit.succeeded()
    assert kit.redis.zscore(PREFIX + kind, job_id) is not None

    kit.store.remove(job_id)

    assert kit.redis.zscore(PREFIX + kind, job_id) is None
