"""Lists of more rows than one script call takes: decided whole, stored in portions, gone on with when broken off."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import core.long_list
from core.errors import Draining, IdempotencyMismatch, Overloaded, QueueFull, QuotaExceeded, RedisUnavailable
from core.job import JobState, Lane
from core.job_store import JobStore
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.auditor import Auditor
from scheduler.reaper import Reaper
from tests.queue_kit import GENEROUS, Kit, limits, make_job, violations

HEADER, VALUES = 11, 16
HOLD = f"{PREFIX}hold:b1"


class KilledError(BaseException):
    """As kill -9 between two calls."""


@dataclass
class Calls:
    """Stands before the store's scripts and can do something at the n-th submit call, before it or after."""

    scripts: Any
    before: dict[int, Any] = field(default_factory=dict)
    after: dict[int, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scripts, name)

    def run(self, name: str, *arguments: Any) -> Any:
        if name != "submit":
            return self.scripts.run(name, *arguments)
        self.rows.append((len(arguments) - HEADER) // VALUES)
        self.before.get(len(self.rows), lambda: None)()
        answer = self.scripts.run(name, *arguments)
        self.after.get(len(self.rows), lambda: None)()
        return answer


def raises(error):
    def do():
        raise error

    return do


@pytest.fixture
def portions_of_three(monkeypatch):
    monkeypatch.setattr(core.long_list, "ROWS_AT_ONCE", 3)


def rows(count=10, **more):
    return [make_job(lane=Lane.BATCH, batch_id="b1", **more) for _ in range(count)]


def store(kit, jobs, allowed=GENEROUS, **hooks):
    """The answer of submit_many with something done at one of its calls."""
    scripts = kit.store._scripts
    kit.store._scripts = Calls(scripts, **hooks)
    try:
        return kit.store.submit_many(jobs, allowed)
    finally:
        kit.store._scripts = scripts


def break_off(kit, jobs, allowed=GENEROUS, *, calls=1):
    """The api dies after some of the calls."""
    with pytest.raises(KilledError):
        store(kit, jobs, allowed, before={calls + 1: raises(KilledError())})


def end_all(kit, jobs):
    for job in jobs:
        kit.store.cancel(job.id)
    return violations(kit.redis, [job.id for job in jobs])


def test_no_call_stores_more_than_five_hundred_rows(kit):
    jobs = rows(1201)
    calls = kit.store._scripts = Calls(kit.store._scripts)

    done = kit.store.submit_many(jobs, limits(daily_units=1201, queued_jobs=1201))

    assert calls.rows == [500, 500, 201]
    assert [(one.job_id, one.state, one.replayed) for one in done] == [(job.id, JobState.QUEUED, False) for job in jobs]
    assert kit.store.batch_job_ids("b1") == [job.id for job in jobs]
    assert kit.use() == {"reserved": 1201}
    assert not kit.redis.exists(HOLD, f"{PREFIX}holds")


def test_a_list_of_five_hundred_rows_is_one_call(kit):
    calls = kit.store._scripts = Calls(kit.store._scripts)

    kit.store.submit_many(rows(500), GENEROUS)

    assert calls.rows == [500]


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize(
    ("allowed", "settings", "refusal"),
    [
        (limits(daily_units=10), Settings(), QuotaExceeded),
        (limits(queued_jobs=10), Settings(), QueueFull),
        (GENEROUS, Settings(queued_jobs=10), Overloaded),
    ],
)
def test_a_refusal_of_the_whole_comes_before_anything_is_stored(queue_redis, allowed, settings, refusal):
    kit = Kit(queue_redis, settings)
    kit.submit(allowed=allowed)
    before = kit.snapshot()

    with pytest.raises(refusal):
        kit.store.submit_many(rows(10), allowed)

    assert kit.snapshot() == before


@pytest.mark.usefixtures("portions_of_three")
def test_a_lane_of_later_rows_that_drains_refuses_the_whole(kit):
    kit.redis.sadd(f"{PREFIX}draining", "lane:interactive")
    before = kit.snapshot()

    with pytest.raises(Draining):
        kit.store.submit_many([*rows(5), make_job(), make_job()], GENEROUS)

    assert kit.snapshot() == before


@pytest.mark.usefixtures("portions_of_three")
def test_a_key_of_a_later_row_with_another_body_refuses_the_whole(kit):
    kit.submit(idempotency_key="k", body_hash="h")
    before = kit.snapshot()

    with pytest.raises(IdempotencyMismatch):
        kit.store.submit_many([*rows(6), make_job(idempotency_key="k", body_hash="x")], GENEROUS)

    assert kit.snapshot() == before


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("drains", ["lane:batch", "tenant:a"])
def test_once_accepted_no_limit_is_asked_again(kit, drains):
    jobs, allowed = rows(10), limits(daily_units=10, queued_jobs=10, burst_per_second=0.1, burst=1)

    done = store(kit, jobs, allowed, before={2: lambda: kit.redis.sadd(f"{PREFIX}draining", drains)})

    assert len(done) == 10
    assert kit.store.usage("a", allowed).daily_reserved == 10
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize(
    ("allowed", "settings", "refusal"),
    [
        (limits(daily_units=19), Settings(), QuotaExceeded),
        (limits(queued_jobs=19), Settings(), QueueFull),
        (GENEROUS, Settings(queued_jobs=19), Overloaded),
    ],
)
def test_what_one_list_still_brings_is_not_given_to_another(queue_redis, allowed, settings, refusal):
    kit = Kit(queue_redis, settings)
    first, refused = rows(10), [make_job(lane=Lane.BATCH) for _ in range(10)]

    def another():
        before = kit.snapshot()
        with pytest.raises(refusal):
            Kit(queue_redis, settings).store.submit_many(refused, allowed)
        assert kit.snapshot() == before | {
            key: kit.snapshot()[key] for key in before if "worker" in key or "heard" in key
        }
        assert Kit(queue_redis, settings).store.submit_many(refused[:9], allowed)

    done = store(kit, first, allowed, after={1: another})

    assert len(done) == 10
    assert kit.use() == {"reserved": 19}


@pytest.mark.usefixtures("portions_of_three")
def test_a_hold_of_another_tenant_leaves_ones_own_cap_alone(kit):
    break_off(kit, rows(10))

    assert kit.submit(tenant="b", allowed=limits(queued_jobs=1)).state is JobState.QUEUED


@pytest.mark.usefixtures("portions_of_three")
def test_the_room_that_a_list_keeps_is_told_until_the_hold_runs_out(kit):
    allowed = limits(queued_jobs=20)
    break_off(kit, rows(10), allowed)
    own, other = (kit.store.usage(tenant, allowed) for tenant in ("a", "b"))
    kit.let_run_out("holds", "b1")
    kit.store.reap_holds()
    after = kit.store.usage("a", allowed)

    assert (own.queue_waiting, own.queue_held, own.queue_remaining, own.daily_reserved) == (3, 7, 10, 10)
    assert (other.queue_held, other.queue_remaining) == (0, 20)
    assert (after.queue_waiting, after.queue_held, after.queue_remaining, after.daily_reserved) == (3, 0, 17, 3)


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("model", ["", "other"])
def test_a_hold_names_the_model_that_its_rows_are_for(kit, model):
    break_off(kit, rows(10, queue=model))

    assert kit.redis.hget(HOLD, "model") == model


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_that_was_broken_off_keeps_its_units_until_the_hold_runs_out(kit):
    jobs = rows(10, cost_units=2)
    break_off(kit, jobs, calls=2)

    counts = kit.store.get_batch("b1")
    assert (counts.total, counts.missing, counts.is_coming_in) == (6, 4, True)
    assert kit.use() == {"reserved": 20}
    assert Auditor(kit.store, pause_seconds=0).audit().is_clean
    assert kit.store.reap_holds() == 0

    kit.let_run_out("holds", "b1")
    Reaper(kit.store).turn()

    counts = kit.store.get_batch("b1")
    assert (counts.total, counts.missing, counts.is_coming_in) == (6, 4, False)
    assert kit.use() == {"reserved": 12}
    assert Auditor(kit.store, pause_seconds=0).audit().is_clean
    assert end_all(kit, jobs[:6]) == []


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("runs_out", [True, False])
def test_the_list_sent_again_goes_on_where_it_was_broken_off(kit, calls, runs_out):
    jobs = [make_job(lane=Lane.BATCH, batch_id="b1", idempotency_key=f"k#{n}", body_hash="h") for n in range(10)]
    allowed = limits(daily_units=10, queued_jobs=10)
    break_off(kit, jobs, allowed, calls=calls)
    if runs_out:
        kit.let_run_out("holds", "b1")
        kit.store.reap_holds()

    done = kit.store.submit_many(jobs, allowed)

    assert [one.replayed for one in done] == [True] * 3 * calls + [False] * (10 - 3 * calls)
    assert kit.store.batch_job_ids("b1") == [job.id for job in jobs]
    assert kit.store.get_batch("b1").missing == 0
    assert kit.use() == {"reserved": 10}
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_sent_again_that_no_longer_fits_is_refused_and_keeps_what_it_had(kit):
    jobs, allowed = rows(10), limits(daily_units=10)
    break_off(kit, jobs, allowed)
    kit.let_run_out("holds", "b1")
    kit.store.reap_holds()
    kit.submit(allowed=allowed)

    with pytest.raises(QuotaExceeded):
        kit.store.submit_many(jobs, allowed)

    assert len(kit.store.batch_job_ids("b1")) == 3
    assert kit.use() == {"reserved": 4}


@pytest.mark.usefixtures("portions_of_three")
def test_a_whole_list_sent_again_changes_nothing(kit):
    jobs = rows(10)
    kit.store.submit_many(jobs, GENEROUS)
    before = kit.snapshot()

    done = kit.store.submit_many(jobs, limits(daily_units=0))

    assert all(one.replayed for one in done)
    assert kit.snapshot() == before


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("call", [1, 2, 4])
def test_a_call_whose_answer_is_lost_is_asked_again_and_told_as_new(kit, call):
    jobs = rows(10)

    done = store(kit, jobs, limits(daily_units=10), after={call: raises(RedisUnavailable("lost"))})

    assert [one.replayed for one in done] == [False] * 10
    assert kit.use() == {"reserved": 10}
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
def test_rows_that_come_after_the_hold_ran_out_are_not_stored_unasked(kit):
    jobs = rows(10)

    def run_out():
        kit.let_run_out("holds", "b1")
        kit.store.reap_holds()

    with pytest.raises(RedisUnavailable):
        store(kit, jobs, before={3: run_out})

    assert len(kit.store.batch_job_ids("b1")) == 6
    assert kit.use() == {"reserved": 6}
    assert len(kit.store.submit_many(jobs, GENEROUS)) == 10


@pytest.mark.usefixtures("portions_of_three")
def test_each_call_lengthens_the_hold(kit):
    seen = []

    store(
        kit,
        rows(10),
        before={2: lambda: kit.let_run_out("holds", "b1")},
        after={2: lambda: seen.append(kit.store.reap_holds())},
    )

    assert seen == [0]


@pytest.mark.usefixtures("portions_of_three")
def test_rows_after_midnight_are_charged_to_the_day_of_the_hold(kit):
    jobs = rows(10)

    store(kit, jobs, before={2: lambda: kit.redis.hset(HOLD, "day", "20200101")})

    assert {kit.redis.hget(f"{PREFIX}job:{job.id}", "day") for job in jobs[3:]} == {"20200101"}


@pytest.mark.usefixtures("portions_of_three")
def test_more_than_the_hold_has_left_is_reserved_all_the_same(kit):
    jobs = rows(10)

    def shrink():
        kit.redis.hset(HOLD, mapping={"units": 2, "jobs": 2})
        kit.redis.hincrby(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "reserved", -5)

    store(kit, jobs, before={2: shrink})

    assert kit.use() == {"reserved": 10}
    assert end_all(kit, jobs) == []


@pytest.mark.usefixtures("portions_of_three")
def test_two_copies_of_one_call_at_the_same_time_store_it_once(kit):
    jobs = rows(10)

    store(kit, jobs, after={1: lambda: Kit(kit.redis).store.submit_many(jobs, GENEROUS)})

    assert kit.use() == {"reserved": 10}
    assert end_all(kit, jobs) == []


def test_a_list_whose_rows_were_all_deleted_is_gone_when_it_is_sent_again_without_their_keys(kit, portions_of_three):
    """The rows' keys may be over while the list's lives: their ids say that they were stored."""
    jobs = rows(idempotency_key="k", body_hash="h")
    jobs = [replace(job, idempotency_key=f"k#{number}") for number, job in enumerate(jobs)]
    kit.store.submit_many(jobs, GENEROUS)
    kit.store.cancel_many([job.id for job in jobs])
    kit.store.remove_many([job.id for job in jobs])
    kit.redis.delete(*kit.redis.scan_iter(f"{PREFIX}idem:*"))
    again = kit.store.submit_many(jobs, limits(queued_jobs=2, daily_units=2))
    assert all(one.replayed for one in again), "nothing is stored, so no limit can refuse it"
    assert kit.store.get_batch("b1") is None
    assert not kit.redis.exists(HOLD)


def test_rows_that_were_deleted_need_no_room_for_those_that_are_missing(kit, portions_of_three):
    jobs = rows(7)
    kit.store.submit_many(jobs, GENEROUS)
    kit.store.cancel_many([job.id for job in jobs[:6]])
    kit.store.remove_many([job.id for job in jobs[:6]])
    more = [*jobs, *rows(1)]
    again = kit.store.submit_many(more, limits(queued_jobs=2))
    assert [one.replayed for one in again] == [True] * 7 + [False]


@pytest.mark.usefixtures("portions_of_three")
@pytest.mark.parametrize("allowed", [limits(daily_units=12), limits(queued_jobs=12), limits(queued_jobs=10)])
def test_the_same_list_twice_at_once_near_a_limit_is_stored_once_and_answered_twice(kit, allowed):
    """The second looked for what is stored before the first had stored it, and is asked after the first is done."""
    jobs = rows()
    other = JobStore(kit.redis, kit.settings)

    answers = store(kit, jobs, allowed, before={1: lambda: other.submit_many(jobs, allowed)})

    assert [(one.job_id, one.replayed) for one in answers] == [(job.id, True) for job in jobs]
    assert kit.use() == {"reserved": 10}
    assert not kit.redis.exists(HOLD)


@pytest.mark.usefixtures("portions_of_three")
def test_a_list_that_is_over_a_limit_is_refused_once_nothing_of_it_is_stored(kit):
    kit.store.submit_many([make_job() for _ in range(3)], GENEROUS)

    with pytest.raises(QuotaExceeded):
        kit.store.submit_many(rows(), limits(daily_units=12))
    assert kit.use() == {"reserved": 3}
