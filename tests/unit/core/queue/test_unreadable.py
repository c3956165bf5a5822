"""A record with what this release does not know is read as far as it goes; one that is broken hides no other."""

import pytest
from redis.exceptions import ResponseError

from core.job import JobState, Lane, Priority
from core.redis_client import PREFIX
from core.scripts import Scripts
from core.trash import TrashBin
from tests.queue_kit import GENEROUS, make_job, make_picture, violations


def spoil(kit, job_id, field, value):
    kit.redis.hset(f"{PREFIX}job:{job_id}", field, value)


@pytest.mark.parametrize(
    ("field", "reads"),
    [("lane", Lane.BATCH), ("priority", Priority.NORMAL), ("state", JobState.QUEUED)],
)
def test_an_unknown_value_is_read_as_the_one_that_does_no_harm(kit, field, reads):
    job_id = kit.queued()
    spoil(kit, job_id, field, "of_tomorrow")

    assert getattr(kit.job(job_id), field) == reads


@pytest.mark.parametrize(
    ("field", "value"),
    [("request", "{"), ("request", "{}"), ("request", "null"), ("metadata", "{"), ("cost", "many"), ("picture", "{}"),
     ("progress", "7"), ("failure", "[]"), ("work", "much")],
)  # fmt: skip
def test_a_broken_record_is_passed_over_and_counted_and_hides_no_other(kit, field, value):
    broken, whole = kit.queued(), kit.queued()
    spoil(kit, broken, field, value)

    assert [job and job.id for job in kit.store.get_many([broken, whole])] == [None, whole]
    assert kit.store.tallies().put_aside == {"job": 1}


def test_a_record_without_a_tenant_is_passed_over_too(kit):
    job_id = kit.queued()
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "tenant")

    assert kit.store.get(job_id) is None


def test_the_owners_list_shows_the_others(kit):
    broken, whole = kit.queued(), kit.queued()
    spoil(kit, broken, "request", "{")

    assert [job.id for job in kit.store.list_jobs("a")] == [whole]


def queued_in_an_unknown_lane(kit):
    """As a newer release submits it: its scripts know a lane more."""
    kit.store.submit(make_job(tenant="b"), GENEROUS)
    (job_id,) = kit.redis.zrange(f"{PREFIX}tq:b|interactive", 0, -1)
    spoil(kit, job_id, "lane", "of_tomorrow")
    kit.redis.rename(f"{PREFIX}tq:b|interactive", f"{PREFIX}tq:b|of_tomorrow")
    kit.redis.zrem(f"{PREFIX}act", "b|interactive")
    kit.redis.zadd(f"{PREFIX}act", {"b|of_tomorrow": 0})
    kit.redis.hdel(f"{PREFIX}queued_work", "b|interactive")
    kit.redis.hset(f"{PREFIX}queued_work", "b|of_tomorrow", 1)
    kit.redis.hdel(f"{PREFIX}nq", "interactive")
    kit.redis.hset(f"{PREFIX}nq", "of_tomorrow", 1)
    return job_id


def test_a_job_of_an_unknown_lane_is_released_claimed_and_done_and_so_are_the_others(kit):
    odd, usual = queued_in_an_unknown_lane(kit), kit.queued()

    runs = [kit.claim(release) for release in kit.store.release(10)]

    assert {run.id for run in runs} == {odd, usual}
    assert all(kit.complete(run) for run in runs)
    assert kit.redis.hgetall(f"{PREFIX}nq") == {"of_tomorrow": "0", "interactive": "0"}


def test_a_job_of_an_unknown_lane_comes_back_when_nobody_claims_it(kit):
    job_id = queued_in_an_unknown_lane(kit)
    kit.store.release(10)
    kit.let_run_out("rel", job_id)

    kit.store.reap()

    assert [one.job_id for one in kit.store.release(10)] == [job_id]


def test_a_place_behind_a_job_of_an_unknown_lane_is_told(kit):
    queued_in_an_unknown_lane(kit)
    kit.redis.zadd(f"{PREFIX}act", {"b|of_tomorrow": -1})

    place = kit.store.queue_place(kit.job(kit.queued()))

    assert place is not None
    assert place.position == 2


@pytest.mark.parametrize("kind", ["deadline", "rel", "lease", "retry"])
def test_the_reaper_puts_a_broken_record_aside_and_takes_what_is_behind_it(kit, kind):
    make = {"deadline": kit.queued, "rel": lambda: kit.released().job_id, "lease": lambda: kit.running().id,
            "retry": lambda: kit.waiting_to_retry().id}[kind]  # fmt: skip
    broken, whole = make(), make()
    spoil(kit, broken, "arrival", "never")
    spoil(kit, broken, "cost", "much")
    kit.let_run_out(kind, broken)
    kit.redis.zadd(PREFIX + kind, {whole: 2})

    report = kit.store.reap()

    assert report.total == 1
    assert kit.store.tallies().put_aside["job"] >= 1
    assert kit.redis.zscore(PREFIX + kind, broken) is None
    assert kit.state(whole) is (JobState.DEAD if kind == "deadline" else JobState.QUEUED)
    assert kit.store.reap().total == 0


CUT_OFF = '{"key":"a/2026'


def drawn_with(kit, picture, **more):
    """A finished job whose record can not be read any more."""
    job_id = kit.succeeded(**more)
    spoil(kit, job_id, "picture", picture)
    return job_id


def all_about(kit, job_id):
    return [key for key in kit.redis.scan_iter(f"{PREFIX}*") if job_id in key]


@pytest.mark.parametrize("picture", [CUT_OFF, "null", "[]", '{"key":null}', "{}"])
def test_a_picture_that_can_not_be_read_expires_and_so_do_those_behind_it(kit, picture):
    broken, whole = drawn_with(kit, picture, fingerprint="f"), kit.succeeded()
    kit.let_run_out("pictures", broken)
    kit.redis.zadd(f"{PREFIX}pictures", {whole: 2})

    assert kit.store.expire(10) == (2, [])

    assert kit.job(whole).picture_removed
    assert kit.redis.hget(f"{PREFIX}job:{broken}", "picture_removed") == "1"
    assert not kit.redis.exists(f"{PREFIX}fp:a:f")
    assert kit.store.tallies().put_aside == {"job": 1}
    assert kit.store.expire(10) == (0, [])


SPOILED = [CUT_OFF, "null", "[]", '{"key":null}', "{}", '{"key":"a/x.png","sha256":"x","width":1,"height":1}']


@pytest.mark.parametrize(("picture", "many"), [*((one, 1) for one in SPOILED), (CUT_OFF, 120)])
def test_a_finished_picture_that_can_not_be_read_is_drawn_anew(kit, picture, many):
    broken = drawn_with(kit, picture, fingerprint="f")
    before, after = kit.submit(), make_job()
    rows = [make_job(fingerprint="f", lane=Lane.BATCH) for _ in range(many)]

    stored = kit.store.submit_many([*rows, after], GENEROUS)

    assert (stored[0].state, stored[0].leader) == (JobState.QUEUED, "")
    assert {one.leader for one in stored[1:-1]} <= {rows[0].id}
    ids = [before.job_id, *(row.id for row in rows), after.id]
    while releases := kit.store.release(10):
        assert all(kit.complete(kit.claim(one)) for one in releases)
    while kit.store.reap().total:
        pass
    assert violations(kit.redis, [broken, *ids]) == []
    assert kit.submit(fingerprint="f").leader in ids


def test_a_finished_picture_whose_time_can_not_be_read_is_drawn_anew(kit):
    spoil(kit, kit.succeeded(fingerprint="f"), "expires", "never")

    assert kit.submit(fingerprint="f").state is JobState.QUEUED


@pytest.mark.parametrize("picture", [CUT_OFF, "null", "{}"])
def test_no_object_is_looked_for_of_a_picture_that_can_not_be_read(kit, picture):
    drawn_with(kit, picture, fingerprint="broken")
    whole = kit.succeeded(fingerprint="whole")

    answer = Scripts(kit.redis).run("finished", "a", "broken", "whole")

    assert answer == ["", "", whole, make_picture(whole).key]


@pytest.mark.parametrize("field", ["work", "arrival", "head_start", "deadline"])
def test_nobody_follows_a_waiting_job_that_can_not_be_read(kit, field):
    broken = kit.queued(fingerprint="f", lane=Lane.BATCH)
    spoil(kit, broken, field, "much")

    person = kit.submit(fingerprint="f")

    assert (person.state, kit.use()) == (JobState.QUEUED, {"reserved": 2})
    assert kit.submit(fingerprint="f").leader == person.job_id


def flight_in_portions(kit):
    """A leader that has ended, ids of its followers that have ended, and of those that the reaper has still to end."""
    run = kit.running(fingerprint="f")
    followers = [kit.queued(fingerprint="f") for _ in range(120)]
    kit.complete(run)
    left = [one for one in followers if kit.state(one) is JobState.FOLLOWING]
    return run.id, [one for one in followers if one not in left], left


@pytest.mark.parametrize("picture", SPOILED)
def test_followers_whose_picture_can_not_be_read_draw_it_anew_and_the_reaper_goes_on(kit, picture):
    leader, _, left = flight_in_portions(kit)
    kit.redis.hset(f"{PREFIX}mirror:{leader}", "picture", picture)
    behind = kit.running()
    kit.let_run_out("lease", behind.id)

    assert kit.store.reap().leases == 1

    assert [kit.state(one) for one in (behind.id, left[0])] == [JobState.QUEUED, JobState.QUEUED]
    assert {kit.state(one) for one in left[1:]} == {JobState.FOLLOWING}
    assert kit.store.tallies().put_aside == {"job": 1}
    again = kit.claim_again(left[0])
    assert kit.complete(again)
    assert {kit.state(one) for one in left} == {JobState.SUCCEEDED}
    assert kit.job(left[1]).picture == make_picture(left[0])
    assert not list(kit.redis.scan_iter(f"{PREFIX}mirror*"))


@pytest.mark.parametrize("field", ["retention", "cost"])
def test_a_follower_that_can_not_be_read_keeps_no_other_from_the_picture(kit, field):
    leader, ended, (first, broken, *others) = flight_in_portions(kit)
    spoil(kit, broken, field, "much")

    assert kit.store.reap().mirrored == 2 + len(others)

    assert {kit.state(one) for one in (first, *others)} == {JobState.SUCCEEDED}
    assert kit.redis.hget(f"{PREFIX}job:{broken}", "state") == "FOLLOWING"
    assert kit.ledger(broken) == []
    assert kit.store.tallies().put_aside["job"] == 1
    kit.store.remove_many([leader, *ended, first, *others])
    assert not list(kit.redis.scan_iter(f"{PREFIX}ref:*")), "it does not show the picture"


def test_who_can_not_be_read_does_not_draw_for_the_others(kit):
    run = kit.running(fingerprint="f")
    broken, whole, last = (kit.queued(fingerprint="f") for _ in range(3))
    spoil(kit, broken, "work", "much")
    kit.store.cancel(run.id)
    kit.let_run_out("lease", run.id)

    kit.store.reap()

    assert (kit.state(whole), kit.job(last).state) == (JobState.QUEUED, JobState.FOLLOWING)
    assert kit.redis.get(f"{PREFIX}fp:a:f") == whole
    assert kit.store.tallies().put_aside["job"] >= 1


TO_END = ["work", "cost", "created", "deadline", "retention", "record_retention"]


@pytest.mark.parametrize("field", TO_END)
def test_who_can_not_be_settled_does_not_end_by_half(kit, field):
    broken, whole = kit.queued(), kit.queued()
    spoil(kit, broken, field, "much")
    kit.let_run_out("deadline", broken)
    kit.redis.zadd(f"{PREFIX}deadline", {whole: 2})
    before = kit.redis.hgetall(f"{PREFIX}job:{broken}")

    kit.store.reap()

    assert kit.redis.hgetall(f"{PREFIX}job:{broken}") == before
    assert kit.state(whole) is JobState.DEAD
    assert (kit.ledger(broken), kit.use()) == ([], {"reserved": 1})
    assert kit.redis.zscore(f"{PREFIX}dlq", broken) is None
    assert kit.redis.zscore(f"{PREFIX}records", broken) is None


@pytest.mark.parametrize("field", TO_END)
def test_what_is_drawn_for_a_record_that_can_not_be_settled_is_not_charged_by_half(kit, field):
    run = kit.running()
    spoil(kit, run.id, field, "much")
    before = kit.redis.hgetall(f"{PREFIX}job:{run.id}")

    with pytest.raises(ResponseError):
        kit.complete(run)

    assert kit.redis.hgetall(f"{PREFIX}job:{run.id}") == before
    assert (kit.ledger(run.id), kit.use()) == ([], {"reserved": 1})


@pytest.mark.parametrize("field", TO_END)
def test_canceling_many_passes_over_one_that_can_not_be_settled(kit, field):
    first, broken, last = (kit.queued() for _ in range(3))
    spoil(kit, broken, field, "much")

    assert kit.store.cancel_many([first, broken, last]) == [JobState.CANCELED, None, JobState.CANCELED]

    assert kit.redis.hget(f"{PREFIX}job:{broken}", "state") == "QUEUED"


@pytest.mark.parametrize("field", TO_END)
def test_what_can_not_be_settled_is_never_drawn_and_takes_no_place(kit, field):
    broken, whole = kit.queued(), kit.queued()
    spoil(kit, broken, field, "much")

    releases = {one.job_id: one for one in kit.store.release(10)}
    if broken in releases:
        assert kit.store.claim(broken, releases[broken].epoch, "t", "w1") is None

    assert kit.complete(kit.claim(releases[whole]))
    assert not kit.redis.exists(f"{PREFIX}run:a", f"{PREFIX}held:w1", f"{PREFIX}rel", f"{PREFIX}lease")
    assert kit.store.release(10) == []


@pytest.mark.parametrize("field", ["work", "epoch"])
def test_one_that_can_not_be_released_keeps_no_other_back(kit, field):
    broken, whole = kit.queued(work=3.0), kit.queued()
    spoil(kit, broken, field, "much")

    assert [one.job_id for one in kit.store.release(10)] == [whole]

    assert kit.redis.hget(f"{PREFIX}nq", "interactive") == "0"
    assert kit.redis.hget(f"{PREFIX}job:{broken}", "state") == "QUEUED"


def test_a_record_that_says_nothing_of_its_picture_expires_once(kit):
    broken, whole = drawn_with(kit, CUT_OFF), kit.succeeded()
    kit.redis.hdel(f"{PREFIX}job:{broken}", "tenant", "created")
    kit.let_run_out("pictures", broken)
    kit.redis.zadd(f"{PREFIX}pictures", {whole: 2})

    assert kit.store.expire(10) == (2, [])

    assert kit.job(whole).picture_removed
    assert kit.store.tallies().put_aside == {"job": 1}
    assert kit.store.expire(10) == (0, [])


def test_a_picture_is_not_handed_on_to_a_record_whose_time_can_not_be_read(kit):
    named, broken, whole = kit.succeeded(fingerprint="f", retention_seconds=90_000), *(
        kit.queued(fingerprint="f", retention_seconds=80_000) for _ in range(2)
    )  # fmt: skip
    spoil(kit, broken, "expires", "never")

    assert kit.store.remove(named)

    assert kit.redis.get(f"{PREFIX}fp:a:f") == whole


@pytest.mark.parametrize("picture", [CUT_OFF, "null", "[]", '{"key":null}', "{}"])
def test_a_record_whose_picture_can_not_be_read_is_removed_like_any_other(kit, picture):
    broken, whole = drawn_with(kit, picture, fingerprint="f", batch_id="b1"), kit.succeeded(batch_id="b1")

    assert kit.store.remove_many([broken, whole]) == 2

    assert all_about(kit, broken) == [f"{PREFIX}tombstone:{broken}"]
    assert not kit.redis.exists(f"{PREFIX}fp:a:f", f"{PREFIX}batch:b1")
    assert kit.store.tallies().put_aside == {"job": 1}


@pytest.mark.parametrize("ends", ["expires", "is removed"])
def test_what_the_run_of_an_unreadable_picture_stored_is_deleted_unless_it_is_shown(kit, ends):
    broken = kit.succeeded(fingerprint="f")
    follower = kit.queued(fingerprint="f")
    created_ms = kit.job(broken).created_ms
    spoil(kit, broken, "picture", CUT_OFF)
    key = make_picture(broken).key
    bin_ = TrashBin(kit.redis, lambda *of: {("a", broken, created_ms): key}[of])
    if ends == "expires":
        kit.let_run_out("pictures", broken)
        kit.store.expire(10)
    else:
        kit.store.remove(broken)
    assert bin_.due(10) == []

    kit.store.remove(follower)

    assert [one.key for one in bin_.due(10)] == [key]


def test_a_record_that_can_not_even_be_removed_holds_up_no_other(kit):
    """It has no tenant, so nobody's list is known to show it."""
    broken, whole = kit.succeeded(), kit.succeeded()
    kit.redis.hdel(f"{PREFIX}job:{broken}", "tenant", "created")
    for job_id in (broken, whole):
        kit.let_run_out("records", job_id)

    _, due = kit.store.expire(10)
    assert kit.store.remove_many(sorted(due, key=[broken, whole].index)) == 1

    assert (kit.store.was_removed(whole), kit.store.was_removed(broken)) == (True, False)
    assert kit.redis.hget(f"{PREFIX}job:{broken}", "state") == "SUCCEEDED", "it stays for a person to look at"
    assert kit.store.tallies().put_aside == {"job": 1}
    assert kit.store.expire(10) == (0, [])
