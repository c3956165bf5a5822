"""Riders share a card: what a picture is told depends on how many will ride with it."""

import pytest

from core.job import Lane
from core.redis_client import PREFIX
from tests.queue_kit import REFUSED, limits

#: What a busy machine may add to a run that the test made of two calls.
STALL_SECONDS = 0.7


def let_pass(kit, seconds, *runs, worker="w1"):
    """As if the runs, all of them on one worker, had gone on for so much longer."""
    for run in runs:
        kit.redis.hincrbyfloat(f"{PREFIX}job:{run.id}", "started", -1000 * seconds)
    kit.redis.hincrbyfloat(f"{PREFIX}ride:{worker}", "at", -1000 * seconds)


def ride_together(kit, count, seconds, **more):
    runs = [kit.running(**more) for _ in range(count)]
    let_pass(kit, seconds, *runs)
    for run in runs:
        kit.complete(run)


def hide_the_gap(kit):
    """The time between two ends, which an ETA is never below, says nothing."""
    kit.redis.hset(f"{PREFIX}pace", "gap_ms", "1")


def place_of(kit, job_id):
    return kit.store.queue_place(kit.job(job_id))


def test_a_lone_picture_after_a_burst_is_told_what_it_takes_alone(kit):
    ride_together(kit, 4, seconds=12)

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(3.0, abs=STALL_SECONDS)


def test_a_picture_is_told_the_time_of_the_company_that_it_will_have(kit):
    kit.add_worker("w1", slots=4)
    ride_together(kit, 1, seconds=3)
    ride_together(kit, 4, seconds=8)
    etas = [place_of(kit, kit.queued()).eta_seconds for _ in range(6)]

    # Alone 3 s, in a company of four 8 s, between them on the line; there are seats for no more.
    assert etas[:4] == pytest.approx([3.0, 4.7, 6.3, 8.0], abs=STALL_SECONDS)
    assert etas[4:] == pytest.approx([8.0, 8.0], abs=STALL_SECONDS)


def test_less_company_is_never_told_a_longer_time(kit):
    ride_together(kit, 2, seconds=9)  # a slow hour
    ride_together(kit, 4, seconds=6)
    kit.running()

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(6.0, abs=STALL_SECONDS)


def test_whoever_has_a_seat_counts_to_the_company(kit):
    ride_together(kit, 1, seconds=3)
    ride_together(kit, 2, seconds=5)
    kit.running()

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(5.0, abs=STALL_SECONDS)


def test_company_is_the_mean_over_the_time_of_the_run(kit):
    long = kit.running()
    short = kit.running()
    let_pass(kit, 3, long, short)
    kit.complete(short)
    let_pass(kit, 1, long)
    kit.complete(long)

    pace = kit.redis.hgetall(f"{PREFIX}pace")
    assert float(pace["ms:2"]) == pytest.approx(3500, abs=200), "3 s and 4 s, at 2 and 1.75 riders"


def test_company_on_another_worker_is_none(kit):
    kit.add_worker("w2", slots=1000)
    runs = [kit.running(worker=name) for name in ("w1", "w2")]
    for run, name in zip(runs, ("w1", "w2"), strict=True):
        let_pass(kit, 4, run, worker=name)
        kit.complete(run)
    busy = kit.running(worker="w2")
    assert kit.state(busy.id) == "RUNNING"

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(4.0, abs=STALL_SECONDS)


def test_a_worker_that_takes_nothing_now_shares_no_load(kit):
    ride_together(kit, 4, seconds=12)
    hide_the_gap(kit)
    kit.add_worker("full", slots=0)
    kit.running()

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(6.0, abs=STALL_SECONDS)


@pytest.mark.parametrize(("drawn", "asked", "seconds"), [(1.0, 0.25, 0.75), (0.25, 1.0, 12.0)])
def test_a_picture_of_another_size_takes_as_much_more_or_less(kit, drawn, asked, seconds):
    ride_together(kit, 4, seconds=12, work=drawn)
    hide_the_gap(kit)

    assert place_of(kit, kit.queued(work=asked)).eta_seconds == pytest.approx(seconds, rel=0.02, abs=0.3)


def test_a_company_larger_than_any_measured_one_is_taken_to_share_the_card_evenly(kit):
    ride_together(kit, 1, seconds=3)
    hide_the_gap(kit)
    for _ in range(3):
        kit.running()

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(12.0, abs=STALL_SECONDS)


@pytest.mark.parametrize(("kind", "name"), [("lane", "batch"), ("tenant", "b")])
def test_jobs_that_an_operator_stopped_are_no_company(kit, kind, name):
    ride_together(kit, 4, seconds=12)
    for _ in range(9):
        kit.queued(tenant="b", lane=Lane.BATCH)
    kit.store.pause(kind, name)
    assert kit.store.release(9) == []

    assert place_of(kit, kit.queued()).eta_seconds == pytest.approx(3.0, abs=STALL_SECONDS)


def test_jobs_beyond_their_tenants_cap_are_no_company(kit):
    ride_together(kit, 4, seconds=12)
    ids = [kit.queued(allowed=limits(running_jobs=1)) for _ in range(9)]
    kit.claim(kit.store.release(9)[0])

    assert place_of(kit, ids[1]).eta_seconds == pytest.approx(6.0, abs=STALL_SECONDS), "one that runs, then itself"


def test_with_no_worker_alive_the_company_is_the_largest_that_was_measured(kit):
    ride_together(kit, 4, seconds=12)
    kit.store.forget_worker("w1")
    ids = [kit.queued() for _ in range(9)]

    assert place_of(kit, ids[0]).eta_seconds == pytest.approx(72.0, abs=STALL_SECONDS)


def test_company_that_was_canceled_counts_until_it_left(kit):
    stays, leaves = kit.running(), kit.running()
    let_pass(kit, 9, stays, leaves)
    kit.store.fail(leaves.id, leaves.token, REFUSED)
    let_pass(kit, 1, stays)
    kit.complete(stays)

    assert "ms:2" in kit.redis.hgetall(f"{PREFIX}pace"), "9 s of 10 in a company of two"


def test_a_run_that_a_process_of_an_older_release_began_is_measured_without_its_company(kit):
    run = kit.running()
    kit.redis.hdel(f"{PREFIX}job:{run.id}", "ride")
    let_pass(kit, 9, run)

    assert kit.complete(run)

    pace = kit.redis.hgetall(f"{PREFIX}pace")
    assert float(pace["run_ms"]) == pytest.approx(9000, abs=200)
    assert not any(name.startswith("ms:") for name in pace)


def test_nothing_is_kept_of_a_worker_that_nobody_hears_of_any_more(kit):
    kit.complete(kit.running())

    assert kit.redis.pttl(f"{PREFIX}ride:w1") > 0


@pytest.mark.parametrize(("workers", "seconds"), [(1, 40.0), (2, 20.0)])
def test_many_that_wait_are_told_the_pace_of_all_workers_in_company(kit, workers, seconds):
    for number in range(1, workers + 1):
        kit.add_worker(f"w{number}", slots=4)
    ride_together(kit, 4, seconds=8)
    kit.redis.hset(f"{PREFIX}pace", "gap_ms", "3000")  # of pictures that came one by one, each alone
    ids = [kit.queued() for _ in range(20)]

    assert place_of(kit, ids[-1]).eta_seconds == pytest.approx(seconds, rel=0.02)


def test_a_pace_that_is_faster_than_that_of_the_company_is_told(kit):
    kit.add_worker("w1", slots=4)
    ride_together(kit, 4, seconds=8)
    kit.redis.hset(f"{PREFIX}pace", "gap_ms", "1000")
    ids = [kit.queued() for _ in range(20)]

    assert place_of(kit, ids[-1]).eta_seconds == pytest.approx(20.0, rel=0.02)
