"""Two models, a worker process of each, one scheduler: every job is drawn by its own model's worker."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core.job import JobState
from tests.integration.worker.conftest import LIMITS, new_job, wait_until


@pytest.fixture
def painter(settings, tmp_path) -> Path:
    """The tiny model under another name."""
    folder = tmp_path / "painter"
    shutil.copytree(settings.model, folder)
    profile = json.loads((folder / "zimg.json").read_text())
    (folder / "zimg.json").write_text(json.dumps({**profile, "id": "painter"}))
    return folder


def submit(store, count, queue=""):
    jobs = [replace(new_job(seed=seed), queue=queue) for seed in range(count)]
    return [one.job_id for one in store.submit_many(jobs, LIMITS)]


def test_jobs_go_to_the_workers_of_their_model_and_none_waits_for_the_others(fleet, painter):
    fleet.start_scheduler()
    fleet.start_worker(ZIMG_MODELS=str(painter))
    store = fleet.store
    waiting = submit(store, 4, "painter")

    plain = fleet.await_ends(submit(store, 8))

    assert {job.state for job in plain} == {JobState.SUCCEEDED}
    assert {job.state for job in store.get_many(waiting)} == {JobState.QUEUED}
    fleet.start_worker(ZIMG_MODELS=str(painter), ZIMG_MODEL=str(painter))
    painted = fleet.await_ends(waiting)
    assert {job.state for job in painted} == {JobState.SUCCEEDED}
    assert Counter(job.attempt for job in plain + painted) == {1: 12}
    wait_until(
        lambda: (
            {worker.queue: worker.model for worker in store.live_workers()} == {"": "zimg-tiny", "painter": "painter"}
        )
    )
    assert not {job.worker for job in plain} & {job.worker for job in painted}


def test_a_message_in_the_wrong_queue_is_not_drawn_by_the_wrong_model(fleet, painter):
    """As after a change of ZIMG_MODELS: the job goes back to its own queue."""
    fleet.start_worker(ZIMG_MODELS=str(painter))
    store = fleet.store
    [job_id] = submit(store, 1, "painter")
    fleet.start_worker(ZIMG_MODELS=str(painter), ZIMG_MODEL=str(painter))
    [release] = wait_until(lambda: store.release(1))

    fleet.send([replace(release, queue="")])

    wait_until(lambda: store.get(job_id).state is JobState.QUEUED, why=fleet.logs)
    assert store.get(job_id).attempt == 0
