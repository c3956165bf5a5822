"""submit.lua: idempotency, limits, reservation, job and queue in one step."""

from dataclasses import replace

import pytest

from core.errors import (
    Draining,
    Gone,
    IdempotencyMismatch,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RateLimited,
)
from core.job import JobState, Lane
from core.redis_client import PREFIX
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, limits, make_job


def test_a_submitted_job_is_queued_reserved_and_readable(kit):
    job = make_job(metadata={"sku": "A1"}, deadline_seconds=100)

    done = kit.store.submit(job, GENEROUS)

    stored = kit.job(job.id)
    assert (done.state, done.replayed, done.leader) == (JobState.QUEUED, False, "")
    assert (stored.request, stored.metadata, stored.tenant) == (job.request, {"sku": "A1"}, "a")
    assert stored.deadline_ms == stored.created_ms + 100_000
    assert kit.use() == {"reserved": 1}
    assert kit.events(job.id) == [("status", '{"status":"queued"}')]


def test_the_same_submit_again_changes_nothing(kit):
    job = make_job(idempotency_key="k", body_hash="h", fingerprint="f")
    kit.store.submit(job, GENEROUS)
    before = kit.snapshot()

    again = kit.store.submit(job, GENEROUS)

    assert (again.job_id, again.replayed) == (job.id, True)
    assert kit.snapshot() == before


def test_the_same_idempotency_key_answers_the_first_job(kit):
    first = kit.submit(idempotency_key="k", body_hash="h")

    again = kit.submit(idempotency_key="k", body_hash="h")

    assert (again.job_id, again.replayed) == (first.job_id, True)
    assert kit.use() == {"reserved": 1}


def test_an_idempotency_key_with_another_body_is_refused(kit):
    kit.submit(idempotency_key="k", body_hash="h")

    with pytest.raises(IdempotencyMismatch):
        kit.submit(idempotency_key="k", body_hash="other")

    assert kit.use() == {"reserved": 1}


def test_an_idempotency_key_belongs_to_its_tenant(kit):
    first = kit.submit(idempotency_key="k", body_hash="h")

    other = kit.submit(tenant="b", idempotency_key="k", body_hash="other")

    assert other.job_id != first.job_id


def test_an_idempotency_key_is_kept_as_long_as_the_setting_says(queue_redis):
    kit = Kit(queue_redis, Settings(idempotency_seconds=100))

    kit.submit(idempotency_key="k", body_hash="h")

    assert 99_000 < queue_redis.pttl(f"{PREFIX}idem:a:k") <= 100_000


def test_an_idempotency_key_of_a_removed_job_draws_and_charges_nothing_more(kit):
    kit.store.remove(kit.succeeded(idempotency_key="k", body_hash="h"))

    with pytest.raises(Gone):
        kit.submit(idempotency_key="k", body_hash="h")
    with pytest.raises(IdempotencyMismatch):
        kit.submit(idempotency_key="k", body_hash="other")
    assert kit.use() == {"reserved": 0, "used": 1}


def pair():
    """Two pictures of one call, as the api asks for them whenever it is sent."""
    return [make_job(idempotency_key=f"k{n}", body_hash="h") for n in range(2)]


def ask_for_pair(kit, how):
    jobs = pair()
    return kit.store.submit_many(jobs, GENEROUS) if how == "stored" else kit.store.submit_and_look(jobs, GENEROUS)[0]


@pytest.mark.parametrize("how", ["stored", "stored and looked at"])
@pytest.mark.parametrize("removed", [0, 1])
def test_a_call_of_which_one_picture_was_removed_is_answered_with_what_is_left(kit, how, removed):
    ids = [one.job_id for one in ask_for_pair(kit, how)]
    kit.store.cancel(ids[removed])
    kit.store.remove(ids[removed])

    again = ask_for_pair(kit, how)

    assert [(one.job_id, one.state, one.replayed) for one in again] == [(ids[1 - removed], JobState.QUEUED, True)]
    assert kit.use() == {"reserved": 1}


def test_a_call_of_which_all_pictures_were_removed_is_gone(kit):
    ids = [one.job_id for one in kit.store.submit_many(pair(), GENEROUS)]
    kit.store.cancel_many(ids)
    kit.store.remove_many(ids)

    with pytest.raises(Gone):
        kit.store.submit_many(pair(), GENEROUS)
    assert kit.use() == {"reserved": 0}


def test_another_body_is_a_mismatch_also_where_a_picture_of_the_call_was_removed(kit):
    first = kit.store.submit_many(pair(), GENEROUS)[0].job_id
    kit.store.cancel(first)
    kit.store.remove(first)
    one, other = pair()

    with pytest.raises(IdempotencyMismatch):
        kit.store.submit_many([one, replace(other, body_hash="other")], GENEROUS)


def test_an_idempotency_key_of_a_job_that_nobody_knows_of_is_free(kit):
    """As a failover that lost the last writes leaves it, or a record that expired long ago."""
    first = kit.succeeded(idempotency_key="k", body_hash="h")
    kit.redis.delete(f"{PREFIX}job:{first}")

    again = kit.submit(idempotency_key="k", body_hash="h")

    assert (again.replayed, again.job_id == first) == (False, False)


def test_an_id_whose_job_was_removed_is_never_used_again(kit):
    """A list sent again after one of its pictures was deleted: else that one would be drawn and charged twice."""
    row = make_job(lane=Lane.BATCH, batch_id="b1", idempotency_key="k", body_hash="h")
    kit.store.submit(row, GENEROUS)
    kit.complete(kit.claim_again(row.id))
    kit.store.remove(row.id)

    again = kit.store.submit(row, GENEROUS)

    assert (again.job_id, again.state, again.replayed) == (row.id, JobState.CANCELED, True)
    assert kit.store.get(row.id) is None
    assert kit.ledger(row.id) == ["charge"]
    assert kit.use() == {"reserved": 0, "used": 1}


def test_the_burst_is_not_exceeded_and_says_when_to_come_back(kit):
    allowed = limits(burst_per_second=0.1, burst=3)
    for _ in range(3):
        kit.submit(allowed=allowed)

    with pytest.raises(RateLimited) as refusal:
        kit.submit(allowed=allowed)

    assert 1 <= refusal.value.retry_after_seconds <= 10
    assert kit.use() == {"reserved": 3}


def test_a_replay_costs_no_burst(kit):
    allowed = limits(burst_per_second=0.1, burst=1)
    job = make_job()
    kit.store.submit(job, allowed)

    assert kit.store.submit(job, allowed).replayed


def test_pictures_of_one_call_each_count_against_the_burst(kit):
    allowed = limits(burst_per_second=0.1, burst=3)
    kit.store.submit_many([make_job(), make_job()], allowed)

    with pytest.raises(RateLimited):
        kit.store.submit_many([make_job(), make_job()], allowed)


def test_a_batch_counts_as_one_call_against_the_burst(kit):
    allowed = limits(burst_per_second=0.1, burst=2)

    kit.store.submit_many([make_job(lane=Lane.BATCH) for _ in range(50)], allowed)

    assert kit.submit(allowed=allowed).state is JobState.QUEUED


def test_reserved_and_used_units_of_the_day_are_not_exceeded(kit):
    allowed = limits(daily_units=2)
    kit.succeeded(allowed=allowed)
    kit.submit(allowed=allowed)

    with pytest.raises(QuotaExceeded) as refusal:
        kit.submit(allowed=allowed)

    assert 1 <= refusal.value.retry_after_seconds <= 86_400
    assert kit.use() == {"reserved": 1, "used": 1}


def test_a_refund_makes_room_in_the_day(kit):
    allowed = limits(daily_units=1)
    kit.store.cancel(kit.queued(allowed=allowed))

    assert kit.submit(allowed=allowed).state is JobState.QUEUED


def test_a_tenant_may_not_have_more_jobs_waiting_than_its_cap(kit):
    allowed = limits(queued_jobs=2)
    kit.submit(allowed=allowed)
    kit.submit(allowed=allowed, lane=Lane.BATCH)

    with pytest.raises(QueueFull) as refusal:
        kit.submit(allowed=allowed)

    assert refusal.value.retry_after_seconds >= 1


def set_pace(kit, gap_ms):
    kit.redis.hset(f"{PREFIX}pace", mapping={"run_ms": gap_ms, "gap_ms": gap_ms, "mean_work": 1, "ends": 9})


def patience(kit, count, allowed):
    with pytest.raises((QueueFull, Overloaded)) as refusal:
        kit.store.submit_many([make_job() for _ in range(count)], allowed)
    return refusal.value.retry_after_seconds


def test_a_full_queue_asks_for_patience_until_there_is_room_for_the_whole_call(kit):
    allowed = limits(queued_jobs=10)
    set_pace(kit, 5_000)
    kit.store.submit_many([make_job(work=2.0) for _ in range(8)], allowed)

    assert patience(kit, 3, allowed) == 10
    assert patience(kit, 9, allowed) == 70
    set_pace(kit, 50_000)
    assert patience(kit, 9, allowed) == 300


def test_who_shares_the_service_with_others_is_told_to_wait_for_his_own_turns(kit):
    """Of three equal tenants' places one comes free with every third end; of a heavier one's more often."""
    set_pace(kit, 5_000)
    for tenant in ("b", "c"):
        kit.submit(tenant=tenant, allowed=limits(weight=2.0))
    room = {"tenant": "a", "day": "20261101", "units": 0, "jobs": 1, "model": ""}
    kit.redis.hset(f"{PREFIX}hold:list", mapping=room)
    kit.redis.zadd(f"{PREFIX}holds", {"list": 1})
    assert patience(kit, 1, limits(queued_jobs=1)) == 85, (
        "a list that is coming in has the room: as its weight will get in the batch lane"
    )
    kit.redis.delete(f"{PREFIX}holds")
    kit.store.submit_many([make_job() for _ in range(4)], limits(weight=4.0))

    assert patience(kit, 2, limits(queued_jobs=4, weight=4.0)) == 20


def test_a_full_service_asks_for_patience_until_there_is_room_for_the_whole_call(queue_redis):
    kit = Kit(queue_redis, Settings(queued_jobs=4))
    set_pace(kit, 5_000)
    kit.store.submit_many([make_job(tenant="b") for _ in range(4)], GENEROUS)

    assert patience(kit, 1, GENEROUS) == 5
    assert patience(kit, 4, GENEROUS) == 20


def test_another_tenants_queue_does_not_count(kit):
    kit.submit(tenant="b")

    assert kit.submit(allowed=limits(queued_jobs=1)).state is JobState.QUEUED


def test_the_whole_service_takes_no_more_than_its_cap(queue_redis):
    kit = Kit(queue_redis, Settings(queued_jobs=1))
    kit.submit(tenant="b")

    with pytest.raises(Overloaded):
        kit.submit()


@pytest.mark.parametrize(
    "allowed", [limits(daily_units=2), limits(queued_jobs=2), limits(burst_per_second=0.1, burst=2)]
)
def test_several_jobs_are_stored_all_or_none(kit, allowed):
    kit.submit(allowed=allowed)
    before = kit.snapshot()

    with pytest.raises((QuotaExceeded, QueueFull, RateLimited)):
        kit.store.submit_many([make_job(), make_job()], allowed)

    assert kit.snapshot() == before


def test_several_jobs_with_one_mismatching_key_are_all_refused(kit):
    kit.submit(idempotency_key="k#1", body_hash="h")

    with pytest.raises(IdempotencyMismatch):
        kit.store.submit_many([make_job(), make_job(idempotency_key="k#1", body_hash="x")], GENEROUS)

    assert kit.use() == {"reserved": 1}


def test_several_jobs_keep_their_order(kit):
    jobs = [make_job(batch_id="b1", lane=Lane.BATCH) for _ in range(30)]

    kit.store.submit_many(jobs, GENEROUS)

    assert kit.store.batch_job_ids("b1") == [job.id for job in jobs]


def test_a_half_known_list_stores_the_other_half(kit):
    jobs = [make_job(), make_job()]
    kit.store.submit(jobs[0], GENEROUS)

    done = kit.store.submit_many(jobs, GENEROUS)

    assert [one.replayed for one in done] == [True, False]
    assert kit.use() == {"reserved": 2}


def test_jobs_of_two_tenants_do_not_go_together(kit):
    with pytest.raises(ValueError, match="one tenant"):
        kit.store.submit_many([make_job(), make_job(tenant="b")], GENEROUS)


def test_usage_tells_what_is_left_of_the_limits(kit):
    allowed = limits(daily_units=10, burst_per_second=0.1, burst=5)
    kit.succeeded(allowed=allowed)
    kit.submit(allowed=allowed)

    use = kit.store.usage("a", allowed)

    assert (use.daily_used, use.daily_reserved, use.daily_remaining, use.burst_remaining) == (1, 1, 8, 3)
    assert 0 < use.daily_reset_seconds <= 86_400
    assert 10 < use.burst_reset_seconds <= 20


def test_the_day_is_the_servers_utc_date(kit):
    from datetime import UTC, datetime

    kit.submit()

    seconds, _ = kit.redis.time()
    assert kit.redis.exists(f"{PREFIX}use:a:{datetime.fromtimestamp(seconds, UTC):%Y%m%d}")


def test_only_the_new_jobs_of_a_list_count_against_the_burst(kit):
    allowed = limits(burst_per_second=0.01, burst=3)
    known = make_job()
    kit.store.submit(known, allowed)

    done = kit.store.submit_many([known, make_job(), make_job()], allowed)

    assert [one.replayed for one in done] == [True, False, False]


def test_a_double_click_is_one_job(kit):
    first = kit.submit(repeat_key="r", repeat_seconds=2)

    again = kit.submit(repeat_key="r", repeat_seconds=2)

    assert (again.job_id, again.replayed) == (first.job_id, True)


def test_a_call_like_one_that_was_canceled_or_failed_a_moment_ago_is_a_new_wish(kit):
    """Who cancels and asks again at once wants a picture, not what he canceled."""
    canceled = kit.submit(repeat_key="r", repeat_seconds=2).job_id
    kit.store.cancel(canceled)
    dead = kit.dead(repeat_key="r", repeat_seconds=2)

    again = kit.submit(repeat_key="r", repeat_seconds=2)

    assert (again.replayed, again.job_id in (canceled, dead)) == (False, False)


def test_the_same_call_later_is_another_job(kit):
    first = kit.submit(repeat_key="r", repeat_seconds=2)
    seconds, _ = kit.redis.time()
    kit.redis.set(f"{PREFIX}repeat:a:r", f"{(int(seconds) - 3) * 1000}|{first.job_id}")

    assert kit.submit(repeat_key="r", repeat_seconds=2).job_id != first.job_id


def test_a_call_like_one_that_is_asked_to_stop_is_a_new_wish(kit):
    run = kit.running(repeat_key="r", repeat_seconds=2)
    kit.store.cancel(run.id)

    assert kit.submit(repeat_key="r", repeat_seconds=2).job_id != run.id


def test_calls_with_keys_of_their_own_are_never_merged(kit):
    first = kit.submit(repeat_key="r", repeat_seconds=2, idempotency_key="k1", body_hash="h")

    again = kit.submit(repeat_key="r", repeat_seconds=2, idempotency_key="k2", body_hash="h")

    assert again.job_id != first.job_id


@pytest.mark.parametrize("entry", ["lane:interactive", "tenant:a"])
def test_what_drains_takes_nothing_new_and_stores_nothing(kit, entry):
    kit.redis.sadd(f"{PREFIX}draining", entry)
    before = kit.snapshot()

    with pytest.raises(Draining) as caught:
        kit.submit()

    assert caught.value.retry_after_seconds > 0
    assert kit.snapshot() == before


def test_what_drains_does_not_concern_others(kit):
    kit.redis.sadd(f"{PREFIX}draining", "lane:batch", "tenant:b")

    assert kit.submit().state is JobState.QUEUED


def test_a_list_of_both_lanes_is_refused_whole_where_one_drains(kit):
    kit.redis.sadd(f"{PREFIX}draining", "lane:batch")

    with pytest.raises(Draining):
        kit.store.submit_many([make_job(), make_job(lane=Lane.BATCH)], GENEROUS)

    assert kit.use() == {}


def test_what_was_taken_in_before_is_still_answered_while_draining(kit):
    first = kit.submit(idempotency_key="k", body_hash="h")
    kit.redis.sadd(f"{PREFIX}draining", "lane:interactive", "tenant:a")

    again = kit.submit(idempotency_key="k", body_hash="h")

    assert (again.job_id, again.replayed) == (first.job_id, True)


def test_the_usage_of_a_day_is_kept_for_forty_days(kit):
    kit.queued()

    seconds = kit.redis.ttl(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")))

    assert 39 * 86_400 < seconds <= 40 * 86_400


def test_rows_of_a_list_have_no_events_before_they_run(kit):
    row, single = kit.queued(lane=Lane.BATCH), kit.queued()

    assert (kit.events(row), len(kit.events(single))) == ([], 1)
