"""What the service promises: place and ETA of waiting jobs under steady load, against what then really happens."""

import queue
import random
import statistics
import threading
import time

import pytest

from core.job import Lane
from core.job_store import JobStore
from core.redis_client import connect
from core.settings import Settings
from tests.queue_kit import GENEROUS, Kit, limits, make_job, make_picture

SLOTS = 4


class SimulatedService:
    """Releases and runs through the real scripts; a run is a wait of `run_seconds` per work, give or take a tenth."""

    def __init__(self, kit, url, run_seconds):
        self.kit, self._run_seconds, self._rng = kit, run_seconds, random.Random(5)
        self.ended_at, self.started = {}, []  # job -> monotonic time of its end; ids in the order of their starts
        self.releases = threading.Lock()  # whoever holds it is not hurried by a release
        self._url, self._messages, self._stop = url, queue.Queue(), threading.Event()
        self._threads = [threading.Thread(target=self._schedule)]
        self._threads += [threading.Thread(target=self._work, args=(number,)) for number in range(SLOTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _store(self):
        return JobStore(connect(self._url), Settings())

    def _schedule(self):
        store = self._store()
        while not self._stop.is_set():
            self.kit.add_worker("w1", slots=SLOTS)  # a heartbeat
            with self.releases:
                for one in store.release(64):
                    self._messages.put(one)
            store.wait_for_wake(0.05)

    def _work(self, number):
        store = self._store()
        time.sleep(self._run_seconds * number / SLOTS)  # as after a while: they do not end in step
        while not self._stop.is_set():
            try:
                message = self._messages.get(timeout=0.05)
            except queue.Empty:
                continue
            lease = store.claim(message.job_id, message.epoch, f"t{message.job_id}", "w1")
            self.started.append(message.job_id)
            self._draw(self._run_seconds * self.kit.job(message.job_id).work * self._rng.uniform(0.9, 1.1))
            assert lease is not None
            assert store.complete(lease.job_id, lease.token, make_picture(lease.job_id))
            self.ended_at[lease.job_id] = time.monotonic()

    def _draw(self, seconds):
        time.sleep(seconds)


class SharedCard(SimulatedService):
    """All runs share one card evenly: four together take four times as long as one alone."""

    TICK = 0.01

    def __init__(self, kit, url, run_seconds):
        super().__init__(kit, url, run_seconds)
        self._riders, self._lock = 0, threading.Lock()

    def _draw(self, seconds):
        with self._lock:
            self._riders += 1
        at = time.monotonic()
        while seconds > 0:
            time.sleep(self.TICK)
            now = time.monotonic()
            seconds, at = seconds - (now - at) / self._riders, now
        with self._lock:
            self._riders -= 1


def ask(kit, ids):
    """job -> (monotonic time of asking, its place)"""
    return {job_id: (time.monotonic(), kit.store.queue_place(kit.job(job_id))) for job_id in ids}


def submit(kit, count, lane, works=(1.0,)):
    """Jobs whose work is each of `works` in turn: 0.25 is a picture of 512x512."""
    jobs = [make_job(lane=lane, tenant=lane.value, work=works[number % len(works)]) for number in range(count)]
    kit.store.submit_many(jobs, GENEROUS)
    return [job.id for job in jobs]


def await_ends(service, ids):
    deadline = time.monotonic() + 90
    while not set(ids) <= set(service.ended_at):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watch(valkey, valkey_server, run_seconds, warm_up, waiting, works=(1.0,)):
    """Place and ETA of jobs of two lanes in the middle of a steady load: [(promised, real seconds, position, rank)]"""
    kit = Kit(valkey)
    with SimulatedService(kit, valkey_server.url, run_seconds) as service:
        before = submit(kit, warm_up, Lane.INTERACTIVE, works)
        rows = submit(kit, waiting, Lane.BATCH, works)
        people = submit(kit, waiting, Lane.INTERACTIVE, works)
        deadline = time.monotonic() + 90
        while not set(before) <= set(service.ended_at):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = len(service.started)
        asked = ask(kit, [*people[::4], *rows[::4]])
        while len(service.ended_at) < len(before) + len(rows) + len(people):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    found = []
    for job_id, (at, place) in asked.items():
        if place is not None and place.position > 0:
            rank = service.started.index(job_id) - started
            found.append((place.eta_seconds, service.ended_at[job_id] - at, place.position, rank))
    return found


def best_of_three(valkey, measured):
    """Errors of the first of three rounds that has none above 35 %, or of the best: a machine that stands still for a
    second lengthens what was promised rightly, but not three times.
    """
    rounds = []
    for _ in range(3):
        valkey.flushdb()
        rounds.append(measured())
        if max(rounds[-1]) <= 0.35 and statistics.median(rounds[-1]) <= 0.2:
            break
    return min(rounds, key=max)


def assert_right(found, least_seconds):
    """ETAs within 20 % where there is something to wait for; places in the order that the starts then had."""
    assert len(found) >= 8
    errors = [abs(promised - real) / real for promised, real, _, _ in found if real >= least_seconds]
    assert len(errors) >= 5
    # Jobs released when we asked start first and are in nobody's place.
    offsets = sorted(rank - position for _, _, position, rank in found)
    assert offsets[-1] - offsets[0] <= 4, found
    return errors


@pytest.mark.parametrize(("works", "run_seconds"), [((1.0,), 0.4), ((0.25,), 1.6), ((0.25, 1.0), 0.64)])
def test_the_eta_is_right_within_a_fifth_and_the_place_is_the_order_of_the_starts(
    valkey, valkey_server, works, run_seconds
):
    def measured():
        found = watch(valkey, valkey_server, run_seconds, warm_up=40, waiting=32, works=works)
        return assert_right(found, least_seconds=1.0)

    errors = best_of_three(valkey, measured)

    assert statistics.median(errors) <= 0.2
    assert max(errors) <= 0.35, "on a busy machine; a fifth on a quiet one: `make faults`, with longer runs"


def capped(valkey, valkey_server):
    """Relative errors of the ETAs of jobs that wait for each other, while most seats are free."""
    kit = Kit(valkey)
    with SimulatedService(kit, valkey_server.url, run_seconds=0.4) as service:
        before = submit(kit, 8, Lane.INTERACTIVE)
        await_ends(service, before)
        jobs = [make_job(tenant="capped") for _ in range(10)]
        kit.store.submit_many(jobs, limits(running_jobs=1))
        ids = [job.id for job in jobs]
        await_ends(service, ids[:1])
        asked = ask(kit, ids[2:])
        await_ends(service, ids)

    places = [(place.eta_seconds, service.ended_at[job_id] - at) for job_id, (at, place) in asked.items()]
    errors = [abs(promised - real) / real for promised, real in places if real >= 1.0]
    assert len(errors) >= 5
    return errors


def test_the_eta_of_a_tenant_at_its_cap_is_right_too(valkey, valkey_server):
    assert max(best_of_three(valkey, lambda: capped(valkey, valkey_server))) <= 0.35


@pytest.mark.faults
def test_the_eta_is_right_within_a_fifth_for_runs_of_two_seconds(valkey, valkey_server):
    errors = assert_right(watch(valkey, valkey_server, run_seconds=2.0, warm_up=24, waiting=32), least_seconds=4.0)

    assert max(errors) <= 0.2
    print(f"\nETA: worst error {max(errors):.0%} with runs of 2 s, median {statistics.median(errors):.0%}")


def bursts(valkey, valkey_server):
    """Relative errors of the ETAs of a lone picture after a burst, and of the next burst's pictures."""
    kit = Kit(valkey)
    told = []
    with SharedCard(kit, valkey_server.url, run_seconds=0.5) as service:
        await_ends(service, submit(kit, 12, Lane.INTERACTIVE))
        for count in (1, 8):
            with service.releases:
                ids = submit(kit, count, Lane.INTERACTIVE)
                asked = ask(kit, ids)
            await_ends(service, ids)
            told += [(place.eta_seconds, service.ended_at[job_id] - at) for job_id, (at, place) in asked.items()]

    return [abs(promised - real) / real for promised, real in told]


def test_a_lone_picture_right_after_a_burst_is_told_its_own_time_and_the_next_burst_its_own(valkey, valkey_server):
    lone, *burst = best_of_three(valkey, lambda: bursts(valkey, valkey_server))

    assert lone <= 0.35
    assert statistics.median(burst) <= 0.2
    assert max(burst) <= 0.35
