"""Fault row 22: equal requests share one run, and none is lost when the one that leads them dies under load."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.job import JobState
from tests.integration.queue.test_processes import is_running, lives_to_the_end, runs, submit
from tests.queue_invariants import assert_invariants
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def submit_equals(fleet, count=100, prompt="a red mug"):
    """Identical requests from many threads at once: the leader's id and the followers'."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: fleet.store.submit(make_job(fingerprint="f", prompt=prompt), GENEROUS), range(count))
        )
    [leader] = {one.leader for one in answers} - {""}
    followers = [one.job_id for one in answers if one.leader]
    assert len(followers) == count - 1
    return leader, followers


def await_run(fleet, job_id):
    wait_until(is_running(fleet, job_id), seconds=30, why=fleet.logs)


def test_row_22_a_hundred_identical_submits_run_once(fleet):
    fleet.start_scheduler()
    fleet.start_worker(STUB_SECONDS="0.5")

    leader, followers = submit_equals(fleet)

    jobs = fleet.await_ends([leader, *followers], 60)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert len(runs(fleet)) == 1
    assert_invariants(fleet, [leader, *followers], is_contended=False)  # one run


def test_row_22_the_worker_of_a_leader_is_killed_under_load(fleet):
    """The leader itself runs again: its death was no fault of the request. Nobody else draws."""
    fleet.start_scheduler()
    doomed = fleet.start_worker(STUB_SECONDS="30")
    leader, followers = submit_equals(fleet)
    await_run(fleet, leader)
    others = submit(fleet, 200)
    late = [fleet.store.submit(make_job(fingerprint="f"), GENEROUS).job_id for _ in range(10)]

    fleet.kill(doomed)
    fleet.start_worker(STUB_SECONDS="0.05")

    jobs = fleet.await_ends([leader, *followers, *late, *others], 90)
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    drawn = Counter(job_id for job_id, _, _ in runs(fleet))
    assert drawn[leader] == 1
    assert not {*followers, *late} & set(drawn), "whoever follows draws nothing"
    assert {job.picture.key for job in jobs[:110]} == {jobs[0].picture.key}
    assert_invariants(fleet, [leader, *followers, *late, *others])


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_row_22_a_leader_is_canceled_under_load(fleet, when):
    """One follower draws in its place, or the run goes on for them; the rest share that picture."""
    fleet.start_scheduler()
    if when == "running":
        fleet.start_worker(STUB_SECONDS="2")
    leader, followers = submit_equals(fleet)
    if when == "running":
        await_run(fleet, leader)
    others = submit(fleet, 100)
    fleet.store.cancel(leader)
    if when == "waiting":
        fleet.start_worker(STUB_SECONDS="0.05")

    canceled, *jobs = fleet.await_ends([leader, *followers, *others], 120)

    assert canceled.state is JobState.CANCELED
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    drawn = {job_id for job_id, _, _ in runs(fleet)} - set(others)
    assert len(drawn) == 1
    assert drawn <= {leader} if when == "running" else drawn < set(followers)
    assert_invariants(fleet, [leader, *followers, *others])


def test_row_22_a_leader_that_is_poison_takes_one_heir_along_and_the_others_are_told(fleet):
    """It ends its worker whenever it runs, and so does its heir; all end so, refunded. Companions succeed."""
    fleet.start_scheduler()
    leader, followers = submit_equals(fleet, prompt="poison")
    others = submit(fleet, 60)
    begun = time.monotonic()
    for _ in range(20):
        if lives_to_the_end(fleet, fleet.start_worker(STUB_SECONDS="0.02"), [leader, *followers, *others]):
            break

    equals = fleet.await_ends([leader, *followers], 60)

    assert Counter((job.state, job.failure.code) for job in equals) == {(JobState.DEAD, "poison"): 100}
    assert Counter(job.crashes for job in equals) == {3: 2, 0: 98}, "the leader and one heir ran"
    assert {job.state for job in fleet.await_ends(others, 60)} == {JobState.SUCCEEDED}
    assert_invariants(fleet, [leader, *followers, *others])
    print(f"\nrow 22: a poisonous leader of 99 and its heir were done with after {time.monotonic() - begun:.0f} s")
