"""Fault row 23: everything at once for two minutes, and what is left afterwards is what was there before."""

import random
import signal
import time
from collections import Counter

import psutil
import pytest

from core.job import JobState
from core.redis_client import PREFIX
from scheduler.auditor import Auditor
from tests.integration.queue.test_faults import kill_connections
from tests.integration.queue.test_processes import runs
from tests.queue_invariants import assert_invariants, wrong
from tests.queue_kit import GENEROUS, make_job, violations
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STORM_SECONDS = 120
TENANTS = [f"t{n}" for n in range(5)]
#: Keys of which there is one for each job, fingerprint or shared picture, and for each worker; there are few others.
KEYS_OF_JOBS = ("job", "ev", "fp", "ref")
KEYS_OF_WORKERS = ("worker", "ride")
GROWTH_MOST_BYTES = 8 << 20
#: How often each comes, of a hundred.
FAULTS = {"kill_worker": 45, "stop_worker": 10, "kill_scheduler": 15, "kill_redis": 12, "freeze_redis": 8, "cut": 10}


def submit_tenths(fleet, count, rng=None):
    """Jobs of five tenants, a quarter of them with fingerprints that others have too if there is an `rng`: ids."""
    ids = []
    for n in range(count // 100):
        jobs = [
            make_job(tenant=TENANTS[n % 5], fingerprint=f"f{rng.randrange(count)}" if rng and k % 4 == 0 else "")
            for k in range(100)
        ]
        fleet.store.submit_many(jobs, GENEROUS)
        ids += [job.id for job in jobs]
    return ids


class Storm:
    """Two schedulers, two workers, and a seeded fault every few seconds."""

    def __init__(self, fleet, seed):
        self.fleet, self.rng, self.counts = fleet, random.Random(seed), Counter()
        self.schedulers = [fleet.start_scheduler(), fleet.start_scheduler()]
        self.workers = [fleet.start_worker(), fleet.start_worker()]

    def rage(self, seconds):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            time.sleep(self.rng.uniform(1.5, 3.5))
            [fault] = self.rng.choices(list(FAULTS), list(FAULTS.values()))
            self.counts[fault] += 1
            getattr(self, fault)(self.rng.randrange(2))
            for number, worker in enumerate(self.workers):
                if worker.poll() is not None:
                    self.workers[number] = self.fleet.start_worker()

    def kill_worker(self, which):
        self.fleet.kill(self.workers[which])

    def stop_worker(self, which):
        self.fleet.stop(self.workers[which])

    def kill_scheduler(self, which):
        self.fleet.kill(self.schedulers[which])
        self.schedulers[which] = self.fleet.start_scheduler()

    def kill_redis(self, _):
        self.fleet.server.restart()

    def freeze_redis(self, _):
        self.fleet.server.process.send_signal(signal.SIGSTOP)
        time.sleep(4)
        self.fleet.server.process.send_signal(signal.SIGCONT)

    def cut(self, _):
        kill_connections(self.fleet)

    def resident(self):
        """Bytes of each process that survived."""
        processes = {"scheduler": self.schedulers, "worker": self.workers, "redis": [self.fleet.server.process]}
        return {
            f"{kind} {number}": psutil.Process(one.pid).memory_info().rss
            for kind, found in processes.items()
            for number, one in enumerate(found)
        }


def count_keys(redis):
    """Keys of the queue by what they are, and all of the broker's."""
    found = Counter(key.removeprefix(PREFIX).partition(":")[0] for key in redis.scan_iter(f"{PREFIX}*", count=5000))
    found["celery"] = sum(1 for _ in redis.scan_iter("celery*", count=5000))
    return found


def test_row_23_six_thousand_jobs_in_a_storm(fleet):
    """With the default number of crashes that a job may have: whoever is killed is no poison."""
    fleet.environ = {**fleet.environ, "STUB_SECONDS": "0.08"}
    ids = submit_tenths(fleet, 6000, random.Random(23))
    storm = Storm(fleet, seed=23)
    begun = time.monotonic()
    storm.rage(STORM_SECONDS)

    jobs = fleet.await_ends(ids, 240)

    took = time.monotonic() - begun
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: 6000}
    history = assert_invariants(fleet, ids)
    assert Auditor(fleet.store, pause_seconds=0.1).audit().is_clean
    shares = history.shares(TENANTS)
    assert all(0.18 <= share <= 0.22 for share in shares), shares
    again = len(runs(fleet)) - len({one[0] for one in runs(fleet)})
    crashes = Counter(job.crashes for job in jobs)
    print(
        f"\nrow 23: 6,000 jobs, {dict(storm.counts)}: all succeeded in {took:.0f} s, {again} drawn twice, none lost, "
        f"none charged twice; crashes while alone {dict(crashes)}; shares {[round(one, 3) for one in shares]}"
    )
    assert_nothing_grows(fleet, storm, ids)


def assert_nothing_grows(fleet, storm, ids):
    """Two quiet waves after the storm: the second leaves as many keys as it had jobs, and no process grew by it."""
    redis = fleet.store.redis
    wait_until(lambda: len(fleet.store.live_workers()) == 2, seconds=60, why=fleet.logs)
    ids = [*ids, *submit_tenths(fleet, 1000)]
    assert_all_well_of_many(fleet, ids)
    keys, resident, unacked = count_keys(redis), storm.resident(), redis.hlen("celery:unacked")

    ids += submit_tenths(fleet, 1000)
    assert_all_well_of_many(fleet, ids)

    after, grown = count_keys(redis), {name: now - resident[name] for name, now in storm.resident().items()}
    jobs = fleet.store.get_many(ids)
    fingerprints = len({(job.tenant, job.fingerprint) for job in jobs if job.fingerprint})
    shared = len({job.picture.key for job in jobs if job.leader})
    wanted = {"job": 8000, "ev": 8000, "fp": fingerprints, "ref": shared}
    assert {name: after[name] for name in KEYS_OF_JOBS} == wanted
    few = {name: count for name, count in after.items() if name not in (*KEYS_OF_JOBS, *KEYS_OF_WORKERS)}
    assert sum(few.values()) <= 45, few
    assert max(after[name] for name in KEYS_OF_WORKERS) <= len(fleet.processes), "kept for a day"
    assert redis.hlen("celery:unacked") <= unacked + 12, "the broker gives what dead workers held back in 15 minutes"
    assert max(grown.values()) < GROWTH_MOST_BYTES, grown
    of_workers = sum(after[name] for name in KEYS_OF_WORKERS)
    print(
        f"row 23, afterwards: {sum(few.values())} keys beside {[(name, after[name]) for name in KEYS_OF_JOBS]} and "
        f"{of_workers} of workers; a wave of 1,000 more: {sum(after.values()) - sum(keys.values())} keys, MiB "
        + ", ".join(f"{name} {resident[name] / 2**20:.0f}{bytes_ / 2**20:+.1f}" for name, bytes_ in grown.items())
    )


def assert_all_well_of_many(fleet, ids):
    jobs = fleet.await_ends(ids, 90)
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: len(ids)}
    wait_until(lambda: not violations(fleet.store.redis, ids), seconds=20, why=lambda: str(wrong(fleet, ids)))
