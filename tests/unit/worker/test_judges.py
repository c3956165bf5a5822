"""Decisions that need only readings and a clock: stalls, the VRAM watermark, leases."""

import os
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from core.errors import JobCanceled, LeaseLost
from core.job import GenerationRequest, Lane, Lease
from worker.card import CardMemory
from worker.lease_keeper import GivenBack, HeldLease
from worker.watchdog import StallJudge, Watchdog
from worker.watermark import Watermark, WatermarkGuard, watermark_of


def test_an_engine_without_jobs_never_stalls():
    judge = StallJudge()

    assert not any(judge.is_stalled(now=now, stamp=0.0, in_flight=0) for now in (0, 100, 10_000))


def test_an_engine_that_made_no_step_for_a_minute_is_stalled():
    judge = StallJudge()
    judge.is_stalled(now=0.0, stamp=0.0, in_flight=0)

    assert not judge.is_stalled(now=60.0, stamp=0.0, in_flight=1)
    assert judge.is_stalled(now=60.1, stamp=0.0, in_flight=1)


def test_slow_steps_get_five_times_their_usual_time():
    judge = StallJudge()
    judge.is_stalled(now=0.0, stamp=0.0, in_flight=1)
    for now in (30.0, 60.0, 90.0):
        assert not judge.is_stalled(now=now, stamp=now, in_flight=1)

    assert judge.patience_seconds > 100
    assert not judge.is_stalled(now=90.0 + judge.patience_seconds, stamp=90.0, in_flight=1)
    assert judge.is_stalled(now=90.1 + judge.patience_seconds, stamp=90.0, in_flight=1)


def test_a_long_rest_before_a_job_does_not_count_as_a_stall():
    judge = StallJudge()
    judge.is_stalled(now=0.0, stamp=0.0, in_flight=0)
    judge.is_stalled(now=999.0, stamp=0.0, in_flight=0)

    assert not judge.is_stalled(now=1000.0, stamp=0.0, in_flight=1)


class StandingEngine:
    progress_stamp = 0.0
    in_flight = 1
    has_ended = False


class EndedEngine(StandingEngine):
    in_flight = 0
    has_ended = True


def test_the_watchdog_tells_of_an_engine_that_ended_though_nobody_rides():
    """Else the next job is the one that finds out, at the price of a lease."""
    told, reasons = threading.Event(), []
    watchdog = Watchdog(EndedEngine(), lambda reason: (reasons.append(reason), told.set()), StallJudge(0.05))

    watchdog.start()

    assert told.wait(60)
    assert reasons == ["the engine ended; the log says of what"]
    watchdog.close()


def test_the_watchdog_tells_why_when_the_engine_stands_still():
    told, reasons = threading.Event(), []
    watchdog = Watchdog(
        StandingEngine(), lambda reason: (reasons.append(reason), told.set()), StallJudge(least_seconds=0.05)
    )

    watchdog.start()

    assert told.wait(60)
    assert "1 jobs in flight" in reasons[0]
    watchdog.close()


def test_the_watermark_closes_after_a_minute_above_and_opens_only_below_the_lower_mark():
    mark = Watermark()

    assert [mark.look(share, now) for now, share in ((0, 0.95), (59, 0.95), (60, 0.95))] == [False, False, True]
    assert [mark.look(share, 61) for share in (0.90, 0.88, 0.879, 0.90)] == [True, True, False, False]


def test_a_dip_below_the_upper_mark_starts_the_minute_anew():
    mark = Watermark()
    mark.look(0.95, 0)
    mark.look(0.91, 30)

    assert not mark.look(0.95, 61)
    assert mark.look(0.95, 121)


@pytest.mark.parametrize(("budget_share", "high"), [(0.24, 0.92), (0.97, 0.97), (1.3, 1.0)])
def test_what_the_engine_may_fill_of_a_small_card_does_not_close_the_intake(budget_share, high):
    mark = watermark_of(budget_share)

    assert (mark.high, mark.low) == (high, pytest.approx(high - 0.04))
    assert not any(mark.look(high, now) for now in (0, 61, 122))


def test_a_card_that_can_not_be_read_any_more_keeps_nobody_out():
    readings = [CardMemory(95, 100)]

    def read():
        if not readings:
            raise OSError("NVML: Unknown Error")
        return readings[0]

    guard = WatermarkGuard(read, in_flight=lambda: 0, empty_cache=lambda: None, watermark=Watermark(hold_seconds=0.0))
    guard.look()
    guard.look()
    assert not guard.admits
    reading = readings.pop()
    with capture_logs() as lines:
        guard.look()
        guard.look()
    assert guard.admits
    assert len(lines) == 1, "said once"
    readings.append(reading)
    guard.look()
    guard.look()
    assert not guard.admits, "watched again"


def test_what_was_read_before_the_card_went_blind_counts_no_more():
    readings = [CardMemory(95, 100)]

    def read():
        return readings.pop()

    guard = WatermarkGuard(read, in_flight=lambda: 0, empty_cache=lambda: None)
    guard.sample(0.0)
    guard.look()  # nothing can be read
    readings.append(CardMemory(95, 100))
    guard.sample(3602.0)

    assert guard.admits, "a minute above begins anew"


def test_a_process_ends_though_it_can_start_no_thread():
    leave = "import threading; from worker import watchdog\n"
    leave += 'def refuse(self): raise RuntimeError("can\'t start new thread")\n'
    leave += "threading.Thread.start = refuse\nwatchdog.end_process(71, 'the CUDA context is lost')"

    done = subprocess.run([sys.executable, "-c", leave], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 71


@pytest.mark.parametrize("where", ["/dev/full", "a pipe that nobody reads"])
def test_a_process_ends_though_it_can_not_write_why(tmp_path, where):
    if where != "/dev/full":
        os.mkfifo(tmp_path / "pipe")
        where = str(tmp_path / "pipe")
    leave = "import sys; from pathlib import Path; from worker import watchdog; watchdog.LAST_WORDS_SECONDS = 0.2;"
    leave += "watchdog.end_process(71, 'the CUDA context is lost', Path(sys.argv[1]))"

    done = subprocess.run([sys.executable, "-c", leave, where], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 71
    assert "the CUDA context is lost" in done.stdout + done.stderr


def test_over_the_watermark_nothing_is_admitted_and_the_cache_is_emptied_once_idle():
    share, in_flight, emptied = [0.95], [1], []
    guard = WatermarkGuard(
        lambda: CardMemory(int(share[0] * 1000), 1000),
        in_flight=lambda: in_flight[0],
        empty_cache=lambda: emptied.append(1),
    )

    guard.sample(0.0)
    guard.sample(60.0)
    assert (guard.admits, guard.crossings, emptied) == (False, 1, [])

    in_flight[0] = 0
    guard.sample(62.0)
    assert emptied == [1]

    share[0] = 0.5
    guard.sample(64.0)
    assert guard.admits


def test_a_full_card_stays_closed_though_the_cache_could_not_be_emptied():
    """It was taken for a card that can not be read, and nobody was kept out."""

    def fail():
        raise RuntimeError("planted")

    guard = WatermarkGuard(
        lambda: CardMemory(990, 1000), in_flight=lambda: 0, empty_cache=fail, watermark=Watermark(hold_seconds=0.0)
    )

    guard.look()
    guard.look()

    assert (guard.admits, guard.crossings) == (False, 1)


def lease() -> Lease:
    request = GenerationRequest(prompt="a", width=256, height=256, seed=1, preset="turbo", model="m")
    return Lease(job_id="j", token="t", attempt=1, alone=False, tenant="a", lane=Lane.BATCH, created_ms=0,
                 deadline_ms=1, request=request)  # fmt: skip


def test_the_first_reason_to_stop_stays_and_the_work_is_told_once():
    held, calls = HeldLease(lease(), 30.0, taken_at=0.0), []
    held.when_stopped(lambda: calls.append(1))

    held.stop(JobCanceled("stop"))
    held.stop(GivenBack())

    assert calls == [1]
    with pytest.raises(JobCanceled):
        held.check()


def test_work_that_begins_after_the_stop_is_told_at_once():
    held, calls = HeldLease(lease(), 30.0, taken_at=0.0), []
    held.stop(LeaseLost("gone"))

    held.when_stopped(lambda: calls.append(1))

    assert calls == [1]
