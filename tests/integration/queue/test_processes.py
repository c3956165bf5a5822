"""Real schedulers and Celery workers on a real Valkey, killed, stopped and cut off: nothing lost, nothing twice."""

import signal
import time
from collections import Counter
from pathlib import Path

from core.job import JobState
from core.job_store import WorkerInfo
from tests.queue_invariants import assert_invariants, submit_contest
from tests.queue_kit import GENEROUS, make_job, violations
from tests.queue_processes import wait_until


def submit(fleet, count, **more):
    """Jobs of three tenants who contend, or of one that is said: ids."""
    if "tenant" not in more:
        return submit_contest(fleet, count, **more)
    jobs = [make_job(**more) for _ in range(count)]
    fleet.store.submit_many(jobs, GENEROUS)
    return [job.id for job in jobs]


def objects(fleet):
    return {path.stem for path in Path(fleet.environ["STUB_FOLDER"]).glob("*.png")}


def runs(fleet):
    path = Path(fleet.environ["STUB_FOLDER"]) / "runs"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def assert_all_well(fleet, ids, seconds=60, **more):
    """All succeeded, each with an object of its own, and I1 to I6 hold; the history."""
    jobs = fleet.await_ends(ids, seconds)
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: len(ids)}
    history = assert_invariants(fleet, ids, **more)
    assert set(ids) <= objects(fleet)
    return history


def problems(fleet, ids):
    return violations(fleet.store.redis, ids)


def is_running(fleet, job_id):
    return lambda: fleet.store.get(job_id).state is JobState.RUNNING


def test_jobs_run_and_everything_stops_cleanly(fleet):
    scheduler, worker = fleet.start_scheduler(), fleet.start_worker()

    assert_all_well(fleet, submit(fleet, 100))

    assert fleet.stop(scheduler) == 0
    assert fleet.stop(worker) == 0
    assert fleet.store.live_workers() == []
    assert (fleet.folder / "scheduler.progress").exists()


def test_jobs_of_a_killed_worker_run_again_alone(fleet):
    fleet.start_scheduler()
    worker = fleet.start_worker(STUB_SECONDS="60")
    [job_id] = submit(fleet, 1)
    wait_until(is_running(fleet, job_id), seconds=30, why=fleet.logs)

    fleet.kill(worker)
    fleet.start_worker()

    assert_all_well(fleet, [job_id], seconds=30)
    assert runs(fleet) == [[job_id, "2", "1"]]


def test_messages_that_died_with_a_frozen_worker_come_again(fleet):
    """The broker hands a message to a client that is there no more; the claim deadline brings the job back."""
    fleet.start_scheduler()
    worker = fleet.start_worker()
    fleet.await_ends(submit(fleet, 1), 30)
    worker.send_signal(signal.SIGSTOP)
    ids = submit(fleet, 3)
    # As released as they would be had the worker only just fallen silent, however long this process stands still.
    fallen = WorkerInfo(name="fallen", slots=4, started_ms=1)
    wait_until(lambda: fleet.store.heartbeat(fallen) or fleet.store.depth().released == 3, seconds=60, why=fleet.logs)

    fleet.kill(worker)
    fleet.start_worker()

    assert_all_well(fleet, ids, seconds=30)


def test_a_frozen_worker_that_wakes_up_is_fenced_off(fleet):
    fleet.start_scheduler()
    zombie = fleet.start_worker(STUB_SECONDS="8")
    [job_id] = submit(fleet, 1)
    begun = Path(fleet.environ["STUB_FOLDER"]) / "begun"  # a claim alone does not draw yet, and would be let go
    wait_until(lambda: job_id in begun.read_text(), seconds=30, why=fleet.logs)
    zombie.send_signal(signal.SIGSTOP)
    fleet.start_worker()
    fleet.await_ends([job_id], 30)

    zombie.send_signal(signal.SIGCONT)
    wait_until(lambda: len(runs(fleet)) == 2, seconds=60, why=lambda: str(runs(fleet)))

    assert_all_well(fleet, [job_id])


def test_a_stopping_worker_finishes_what_it_holds(fleet):
    fleet.start_scheduler()
    worker = fleet.start_worker(STUB_SECONDS="4")
    ids = submit(fleet, 8)
    wait_until(lambda: fleet.store.get(ids[0]).attempt > 0, seconds=30, why=fleet.logs)

    assert fleet.stop(worker) == 0
    fleet.start_worker()

    assert_all_well(fleet, ids)
    assert len(runs(fleet)) == len(ids)


def test_a_paused_worker_leaves_its_messages_to_the_others_until_it_is_resumed(fleet):
    fleet.start_scheduler(ZIMG_CLAIM_SECONDS="30")
    fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    [paused] = [worker.name for worker in fleet.store.live_workers()]
    fleet.await_ends(submit(fleet, 2), 30)
    fleet.store.pause("worker", paused)
    other = fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(2)

    ids = submit(fleet, 60)

    assert_all_well(fleet, ids)
    jobs = fleet.store.get_many(ids)
    assert paused not in {job.worker for job in jobs}
    # What reached it before it knew is given back once: at most a message for each of its threads.
    assert sum(job.epoch for job in jobs) <= len(jobs) + 6, [job.epoch for job in jobs]
    assert max(job.epoch for job in jobs) <= 3
    fleet.stop(other)
    fleet.store.resume("worker", paused)
    assert {job.worker for job in fleet.await_ends(submit(fleet, 10), 30)} == {paused}


def test_a_paused_worker_stays_paused_when_its_connections_are_cut(fleet):
    fleet.start_scheduler()
    fleet.start_worker()
    fleet.await_workers(1)
    [paused] = [worker.name for worker in fleet.store.live_workers()]
    fleet.await_ends(submit(fleet, 2), 30)
    fleet.store.pause("worker", paused)
    fleet.start_worker()
    fleet.await_workers(2)
    fleet.await_ends(submit(fleet, 10), 30)

    fleet.store.redis.client_kill_filter(_type="normal", skipme=True)
    ids = submit(fleet, 60)

    assert_all_well(fleet, ids)
    jobs = fleet.store.get_many(ids)
    assert paused not in {job.worker for job in jobs}
    assert max(job.epoch for job in jobs) <= 3


def test_nothing_accepted_is_lost_when_redis_is_killed(fleet):
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    ids = submit(fleet, 200)

    fleet.server.restart()
    begun = time.monotonic()
    ids += submit(fleet, 20)

    assert_all_well(fleet, ids, seconds=60)
    assert time.monotonic() - begun < 60


def test_two_schedulers_share_the_work_and_one_may_die(fleet):
    first, second = fleet.start_scheduler(), fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.02")
    fleet.await_workers(1)
    ids = submit(fleet, 150)
    wait_until(lambda: fleet.store.depth().outcomes.get("SUCCEEDED", 0) > 20, seconds=30, why=fleet.logs)

    fleet.kill(first)

    assert_all_well(fleet, ids)
    assert second.poll() is None
    assert len(runs(fleet)) == len(ids)


def test_a_poison_job_ends_dead_and_its_companions_succeed(fleet):
    fleet.start_scheduler()
    [poison] = submit(fleet, 1, prompt="poison")
    ids = submit(fleet, 20)
    for _ in range(10):
        if lives_to_the_end(fleet, fleet.start_worker(STUB_SECONDS="0.05"), [poison, *ids]):
            break

    assert_all_well(fleet, ids)
    job = fleet.store.get(poison)
    assert (job.state, job.failure.code, job.crashes) == (JobState.DEAD, "poison", 3)


def lives_to_the_end(fleet, worker, ids):
    def ended():
        return all(job.state.is_terminal for job in fleet.store.get_many(ids))

    wait_until(lambda: worker.poll() is not None or ended(), seconds=60, why=fleet.logs)
    return worker.poll() is None


def test_a_message_that_comes_five_times_runs_once(fleet):
    from core.broker import make_celery, publish
    from core.job import Release

    fleet.start_worker(STUB_SECONDS="0.1")
    fleet.await_workers(1)
    [job_id] = submit(fleet, 1)
    releases = []
    wait_until(lambda: releases.extend(fleet.store.release(1)) or releases, seconds=30, why=fleet.logs)
    [release] = releases
    app = make_celery(fleet.settings)

    publish(app, [release] * 5)
    publish(app, [Release(job_id="no-such-job", epoch=1)])

    fleet.await_ends([job_id], 20)
    wait_until(lambda: fleet.store.redis.llen("celery:zimg") == 0, seconds=20, why=fleet.logs)
    assert len(runs(fleet)) == 1


def test_no_prompt_is_ever_in_the_broker(fleet):
    from core.broker import make_celery, publish

    fleet.store.heartbeat(worker_info())
    submit(fleet, 1, prompt="a very secret prompt")
    publish(make_celery(fleet.settings), fleet.store.release(1))

    [message] = fleet.store.redis.lrange("celery:zimg", 0, -1)

    assert "secret" not in message


def worker_info():
    from core.job_store import WorkerInfo

    return WorkerInfo(name="w", slots=1)


def test_a_service_without_its_scripts_loads_them_again(fleet):
    fleet.start_scheduler()
    fleet.start_worker()
    fleet.await_workers(1)
    first = submit(fleet, 5)
    fleet.await_ends(first, 20)

    fleet.store.redis.script_flush()

    assert_all_well(fleet, [*first, *submit(fleet, 5)])


def test_a_service_whose_broker_keys_were_deleted_goes_on(fleet):
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.05")
    fleet.await_workers(1)
    ids = submit(fleet, 60)
    redis = fleet.store.redis
    for key in list(redis.scan_iter("celery:*")):
        redis.delete(key)

    assert_all_well(fleet, ids)
