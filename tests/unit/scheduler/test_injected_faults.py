"""What may be lost or left behind is found, put right where that is certain, and only told where it is not."""

import pytest

from core.job import Lane
from core.redis_client import PREFIX
from core.settings import Settings
from scheduler.auditor import Auditor
from scheduler.dead_letters import DeadLetters
from scheduler.tenants import Tenants
from tests.queue_kit import Kit, limits

LEDGER = f"{PREFIX}ledger"


@pytest.fixture
def kit(fake_redis):
    return Kit(fake_redis)


@pytest.fixture
def auditor(kit):
    return Auditor(kit.store, pause_seconds=0)


def found_and_mended(kit, auditor):
    """What the audit tells; a look alone writes nothing, one repair is enough, and another one changes nothing."""
    before = kit.snapshot()
    report = auditor.audit()
    assert kit.snapshot() == before, "without repair nothing is written"
    auditor.audit(repair=True)
    after = kit.snapshot()
    assert auditor.audit(repair=True).is_clean
    assert kit.snapshot() == after
    return report


def told_and_left(kit, auditor):
    """What the audit tells and nothing mends."""
    before = kit.snapshot()
    report = auditor.audit(repair=True)
    assert kit.snapshot() == before
    return report


def lose_entry(kit, job_id):
    [(entry_id, entry)] = [(one, fields) for one, fields in kit.redis.xrange(LEDGER) if fields["job"] == job_id]
    kit.redis.xdel(LEDGER, entry_id)
    return entry


@pytest.mark.parametrize(("made", "kind", "used"), [("succeeded", "charge", 3), ("dead", "refund", 0)])
def test_an_entry_that_the_ledger_lost_is_put_back(kit, auditor, made, kind, used):
    job_id = getattr(kit, made)(cost_units=3)
    kit.succeeded(tenant="b")
    before = lose_entry(kit, job_id)

    report = found_and_mended(kit, auditor)

    assert (report.misplaced, report.usage) == ({job_id: f"{kind} lost from the ledger"}, {})
    assert [entry for _, entry in kit.redis.xrange(LEDGER) if entry["job"] == job_id] == [before]
    assert kit.use().get("used", 0) == used


def test_an_entry_of_a_key_is_put_back_with_its_key(kit, auditor):
    job_id = kit.succeeded()
    kit.redis.hset(f"{PREFIX}job:{job_id}", "key", "k1")
    use = next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))
    kit.redis.hset(use.replace("use:a", "use:a/k1"), mapping={"used": 1, "reserved": 0})
    lose_entry(kit, job_id)

    found_and_mended(kit, auditor)

    assert [entry["key"] for _, entry in kit.redis.xrange(LEDGER)] == ["k1"]


def test_a_lost_charge_and_lost_usage_come_back_together(kit, auditor):
    job_id = kit.succeeded(cost_units=3)
    lose_entry(kit, job_id)
    kit.redis.hset(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "used", 0)

    found_and_mended(kit, auditor)

    assert (kit.ledger(job_id), kit.use()["used"]) == (["charge"], 3)


def of_a_release_before(kit, job_id):
    kit.redis.hdel(f"{PREFIX}job:{job_id}", "entry")


def test_a_job_that_a_release_before_settled_is_looked_for_in_the_whole_ledger(kit, auditor):
    found, lost = kit.succeeded(), kit.succeeded()
    for job_id in (found, lost):
        of_a_release_before(kit, job_id)
    assert auditor.audit().is_clean
    lose_entry(kit, lost)

    assert found_and_mended(kit, auditor).misplaced == {lost: "charge lost from the ledger"}

    assert (kit.ledger(lost), kit.use()["used"]) == (["charge"], 2)


def test_a_job_that_a_release_before_settled_twice_is_told(kit, auditor):
    job_id = kit.succeeded()
    of_a_release_before(kit, job_id)
    kit.redis.xadd(LEDGER, kit.redis.xrange(LEDGER)[0][1])

    assert auditor.audit().settled_twice == (job_id,)


def test_an_entry_that_stands_elsewhere_is_no_loss(kit, auditor):
    """As after a restore of the ledger from an export."""
    entry = lose_entry(kit, kit.succeeded())
    kit.redis.xadd(LEDGER, entry)

    assert auditor.audit().is_clean


def test_what_was_trimmed_is_not_missed(kit, auditor):
    job_id = kit.succeeded()
    lose_entry(kit, job_id)
    kit.redis.hset(f"{PREFIX}job:{job_id}", "entry", "1000-0")
    for key in kit.redis.scan_iter(f"{PREFIX}use:*"):
        kit.redis.delete(key)

    assert auditor.audit().is_clean


def test_what_a_shorter_setting_trimmed_is_not_missed_under_a_longer_one(fake_redis):
    kit = Kit(fake_redis, Settings(ledger_days=400))
    job_id = kit.succeeded()
    entry_ms = int(kit.redis.xrange(LEDGER)[0][0].partition("-")[0])
    lose_entry(kit, job_id)
    kit.redis.hset(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "used", 0)
    kit.redis.set(f"{PREFIX}ledger_cut", entry_ms + 1)

    assert Auditor(kit.store, pause_seconds=0).audit().is_clean


def test_a_success_with_a_refund_in_the_ledger_is_told_and_its_usage_left_to_a_person(kit, auditor):
    job_id = kit.succeeded()
    kit.redis.xadd(LEDGER, {**lose_entry(kit, job_id), "kind": "refund"})

    report = told_and_left(kit, auditor)

    assert report.unclear[job_id] == "settled as charge, in the ledger as refund"
    assert (len(report.usage), report.left["unclear"]) == (1, 2)


def test_a_success_that_was_settled_as_a_refund_is_told(kit, auditor):
    job_id = kit.succeeded()
    entry = lose_entry(kit, job_id)
    told = {"settled": "refund", "entry": kit.redis.xadd(LEDGER, {**entry, "kind": "refund"})}
    kit.redis.hset(f"{PREFIX}job:{job_id}", mapping=told)
    kit.redis.hset(next(kit.redis.scan_iter(f"{PREFIX}use:a:*")), "used", 0)

    assert told_and_left(kit, auditor).unclear == {job_id: "succeeded, but settled as refund"}


def test_a_wrong_settlement_whose_entry_is_lost_is_not_put_back(kit, auditor):
    job_id = kit.succeeded()
    lose_entry(kit, job_id)
    kit.redis.hset(f"{PREFIX}job:{job_id}", "settled", "refund")

    assert job_id in told_and_left(kit, auditor).unclear


def test_strays_in_a_tenants_cap_go_and_it_is_served_again(kit, auditor):
    ended, other = kit.succeeded(), kit.running(tenant="b").id
    kit.redis.zadd(f"{PREFIX}run:a", {"ghost": 1, ended: 2, other: 3})
    waiting = kit.queued(allowed=limits(running_jobs=1))
    assert kit.store.release(10) == []

    report = found_and_mended(kit, auditor)

    assert report.misplaced == dict.fromkeys(("ghost", ended, other), "counts to the cap of a but does not run")
    assert [one.job_id for one in kit.store.release(10)] == [waiting]


def test_a_queue_that_strays_kept_back_comes_back_with_their_end(kit, auditor):
    kit.redis.zadd(f"{PREFIX}run:a", {"ghost": 1})
    waiting = kit.queued(allowed=limits(running_jobs=1))
    kit.store.release(10)

    auditor._places.members(repair=True)

    assert [one.job_id for one in kit.store.release(10)] == [waiting]


@pytest.mark.parametrize("kind", ["held", "shelf"])
def test_strays_among_the_jobs_of_a_worker_go(kit, auditor, kind, monkeypatch):
    monkeypatch.setattr("scheduler.audit_places.ASKED_AT_ONCE", 7)
    kit.running()
    strays = [f"ghost{number}" for number in range(30)]
    kit.redis.sadd(f"{PREFIX}{kind}:w1", *strays, kit.released().job_id, kit.running(worker="w2").id)
    if kind == "held":
        kit.redis.sadd(f"{PREFIX}held:w1", *(f"more{number}" for number in range(2000)))

    report = found_and_mended(kit, auditor)

    assert set(strays) <= set(report.misplaced)
    assert kit.redis.scard(f"{PREFIX}held:w1") == 1


def test_a_stray_seat_of_a_job_whose_picture_waits_for_the_storage_goes(kit, auditor):
    run = kit.running()
    kit.store.shelve(run.id, run.token)
    assert auditor.audit().is_clean
    kit.redis.sadd(f"{PREFIX}held:w1", run.id)
    kit.redis.zadd(f"{PREFIX}run:a", {run.id: 1})

    found_and_mended(kit, auditor)

    assert (kit.redis.exists(f"{PREFIX}held:w1"), kit.redis.exists(f"{PREFIX}run:a")) == (0, 0)


@pytest.mark.parametrize("made", ["released", "running"])
def test_a_run_that_does_not_count_to_its_tenants_cap_is_counted_again(kit, auditor, made):
    getattr(kit, made)()
    kit.redis.delete(f"{PREFIX}run:a")

    report = found_and_mended(kit, auditor)

    assert list(report.misplaced.values()) == ["runs but does not count to its tenant's cap"]
    assert kit.redis.zcard(f"{PREFIX}run:a") == 1


def test_a_queue_that_stands_aside_for_no_reason_comes_back(kit, auditor):
    waiting = kit.queued()
    kit.redis.zrem(f"{PREFIX}act", "a|interactive")
    kit.redis.sadd(f"{PREFIX}parked", "a|interactive")

    assert found_and_mended(kit, auditor).misplaced == {"a|interactive": "stands aside for no reason"}

    assert [one.job_id for one in kit.store.release(5)] == [waiting]


@pytest.mark.parametrize("reason", [("tenant", "a"), ("lane", "interactive"), None])
def test_a_queue_that_stands_aside_for_a_reason_stays_there(kit, auditor, reason):
    if reason:
        kit.store.pause(*reason)
    for _ in range(2):
        kit.queued(allowed=limits(running_jobs=1))
    kit.store.release(5)
    assert kit.redis.smembers(f"{PREFIX}parked") == {"a|interactive"}
    before = kit.snapshot()

    assert auditor.audit(repair=True).is_clean
    assert kit.snapshot() == before


def test_a_cap_that_is_just_being_changed_is_no_fault(kit, auditor):
    for _ in range(2):
        kit.queued(allowed=limits(running_jobs=1))
    kit.store.release(5)
    kit.redis.hset(f"{PREFIX}lim:a", "running", 5)  # the first half of Tenants.change
    tenants = Tenants(kit.redis, kit.settings)
    auditor._places._stop.wait = lambda _seconds: tenants.change("a", {"running_jobs": 5})

    assert auditor.audit(repair=True).is_clean


def test_an_ended_job_that_would_be_kept_for_ever_is_forgotten_in_its_time(kit, auditor):
    job_id = kit.succeeded()
    times = {kind: kit.redis.zscore(PREFIX + kind, job_id) for kind in ("records", "pictures")}
    for kind in times:
        kit.redis.zrem(PREFIX + kind, job_id)

    report = found_and_mended(kit, auditor)

    assert report.misplaced == {job_id: "ended but its record never expires, its picture never expires"}
    assert {kind: kit.redis.zscore(PREFIX + kind, job_id) for kind in times} == times


def test_a_picture_whose_time_is_over_is_not_missed_among_those_that_expire(kit, auditor):
    job_id = kit.succeeded()
    kit.let_run_out("pictures", job_id)
    kit.store.expire(10)

    assert auditor.audit().is_clean


def test_a_dead_job_is_a_dead_letter_again(kit, auditor):
    job_id = kit.dead()
    died = kit.redis.zscore(f"{PREFIX}dlq", job_id)
    kit.redis.zrem(f"{PREFIX}dlq", job_id)

    assert found_and_mended(kit, auditor).misplaced == {job_id: "dead but no dead letter"}

    assert abs(kit.redis.zscore(f"{PREFIX}dlq", job_id) - died) < 1000


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_letter_that_was_tried_again_is_not_missed(kit, auditor, is_removed):
    letters, job_id = DeadLetters(kit.store, kit.settings), kit.dead()
    again = letters.requeue(job_id, Tenants(kit.redis, kit.settings).get("a"))
    if is_removed:
        kit.store.cancel(again.job_id)
        kit.store.remove(again.job_id)

    assert auditor.audit().is_clean


def test_a_death_of_more_than_a_month_ago_is_not_judged(kit, auditor):
    job_id = kit.dead()
    kit.redis.zrem(f"{PREFIX}dlq", job_id)
    kit.redis.hset(f"{PREFIX}job:{job_id}", "finished", "1000")

    assert auditor.audit().is_clean


@pytest.mark.parametrize("made", ["queued", "succeeded"])
def test_a_job_is_in_its_tenants_list_again(kit, auditor, made):
    job_id = getattr(kit, made)()
    arrival = kit.redis.zscore(f"{PREFIX}jobs:a", job_id)
    kit.redis.zrem(f"{PREFIX}jobs:a", job_id)

    assert found_and_mended(kit, auditor).misplaced == {job_id: "not in its tenant's list"}

    assert kit.redis.zscore(f"{PREFIX}jobs:a", job_id) == arrival


@pytest.fixture
def batch(kit):
    """Three rows: one succeeded, one failed, one waits."""
    done = kit.succeeded(batch_id="b1", lane=Lane.BATCH)
    kit.dead(batch_id="b1", lane=Lane.BATCH)
    kit.queued(batch_id="b1", lane=Lane.BATCH)
    return done


@pytest.mark.parametrize(("name", "off"), [("total", 4), ("total", -1), ("SUCCEEDED", 1), ("DEAD", -1)])
def test_a_batch_is_counted_anew(kit, auditor, batch, name, off):
    truth = kit.snapshot()
    kit.redis.hincrby(f"{PREFIX}batch:b1", name, off)

    assert found_and_mended(kit, auditor).counters == {f"{name} of b1": off}

    assert kit.snapshot() == truth
    assert kit.store.get_batch("b1").open == 1


def test_a_batch_whose_ended_rows_were_removed_is_in_order(kit, auditor, batch):
    kit.store.remove(batch)

    assert auditor.audit().is_clean


def test_a_batch_with_removed_rows_and_a_wrong_count_is_only_told(kit, auditor, batch):
    kit.store.remove(batch)
    kit.redis.hincrby(f"{PREFIX}batch:b1", "total", 2)

    report = told_and_left(kit, auditor)

    assert (report.unclear, report.counters) == ({"total of b1": "does not fit its rows"}, {})


def test_a_batch_that_changes_meanwhile_is_looked_at_again(kit, auditor, batch, monkeypatch):
    places, states, rows = auditor._places, auditor._places._states, [1, 1]

    def states_then_more(name):
        found = states(name)
        if rows:
            rows.pop()
            kit.queued(batch_id="b1", lane=Lane.BATCH)
        return found

    monkeypatch.setattr(places, "_states", states_then_more)

    assert auditor.audit(repair=True).is_clean
    assert kit.store.get_batch("b1").total == 5


@pytest.mark.parametrize("change", ["another row", "an end"])
def test_a_recount_that_comes_too_late_changes_nothing(kit, auditor, batch, monkeypatch, change):
    waiting = kit.queued(batch_id="b1", lane=Lane.BATCH)
    kit.redis.hincrby(f"{PREFIX}batch:b1", "total", 4)
    run = auditor._places._scripts.run

    def late(name, *arguments):
        if name == "audit_batch" and change == "an end":
            kit.store.cancel(waiting)
        elif name == "audit_batch":
            kit.queued(batch_id="b1", lane=Lane.BATCH)
        return run(name, *arguments)

    monkeypatch.setattr(auditor._places._scripts, "run", late)

    auditor.audit(repair=True)

    counts = kit.redis.hgetall(f"{PREFIX}batch:b1")
    assert (counts["total"], counts.get("CANCELED")) == (("8", "1") if change == "an end" else ("9", None))


def test_of_two_repairs_at_once_one_puts_a_lost_entry_back(kit, auditor, monkeypatch):
    job_id = kit.succeeded()
    lose_entry(kit, job_id)
    run, other = auditor._usage._scripts.run, Auditor(kit.store, pause_seconds=0)

    def late(name, *arguments):
        if name == "audit_entry":
            other.audit(repair=True)
        return run(name, *arguments)

    monkeypatch.setattr(auditor._usage._scripts, "run", late)

    auditor.audit(repair=True)

    assert kit.ledger(job_id) == ["charge"]
    assert auditor.audit().is_clean


def test_a_list_that_keeps_units_for_ever_gives_them_back(kit, auditor):
    kit.queued()
    use = next(kit.redis.scan_iter(f"{PREFIX}use:a:*"))
    kit.redis.hset(f"{PREFIX}hold:list", mapping={"tenant": "a", "day": use[-8:], "units": 7, "jobs": 7})
    kit.redis.hincrby(use, "reserved", 7)

    report = found_and_mended(kit, auditor)

    assert (report.misplaced, report.usage) == ({"list": "keeps units for ever"}, {})

    assert kit.store.reap_holds() == 1
    assert kit.use()["reserved"] == 1


def test_a_record_of_a_newer_release_stops_no_audit(kit, auditor):
    job_id, other = kit.waiting_to_retry().id, kit.queued()
    kit.redis.hset(f"{PREFIX}job:{job_id}", "state", "DREAMING")
    kit.redis.delete(f"{PREFIX}tq:a|interactive")

    assert auditor.audit().misplaced == {other: "queued but in no queue"}
