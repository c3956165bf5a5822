"""Fault rows 2 and 14: the storage has a bad day while real workers draw. The objects are a real S3's."""

import contextlib
import hashlib
import time
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from core.image_store import object_key
from core.job import GenerationRequest, JobState
from tests.fault_proxy import s3_proxy, tcp_proxy
from tests.integration.queue.test_processes import problems
from tests.queue_kit import GENEROUS, make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
BUCKET = "zimg"


def submit(fleet, count):
    """Jobs with prompts of their own, so that the pictures drawn can be counted: ids."""
    jobs = [
        make_job(
            request=GenerationRequest(
                prompt=f"mug {n}", width=256, height=256, seed=n, preset="turbo", model="zimg-tiny"
            )
        )
        for n in range(count)
    ]
    fleet.store.submit_many(jobs, GENEROUS)
    return [job.id for job in jobs]


def key_of(fleet, job_id):
    job = fleet.store.get(job_id)
    return object_key(job.tenant, job.id, job.created_ms)


def lies_there(s3_server, key):
    with contextlib.suppress(ClientError):
        s3_server.client().head_object(Bucket=BUCKET, Key=key)
        return True
    return False


def drawn(fleet):
    """How often each prompt was drawn."""
    path = Path(fleet.environ["FAULTS"]) / "drawn"
    return Counter(line for line in path.read_text().splitlines() if line.startswith("mug"))


def assert_all_well(fleet, s3_server, ids, seconds=120):
    """I1 to I5: ended, charged once, one object each whose bytes are what the record says."""
    jobs = fleet.await_ends(ids, seconds)
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: len(ids)}
    wait_until(lambda: not problems(fleet, ids), seconds=10, why=lambda: str(problems(fleet, ids)))
    for job in jobs:
        data = s3_server.client().get_object(Bucket=BUCKET, Key=job.picture.key)["Body"].read()
        assert hashlib.sha256(data).hexdigest() == job.picture.sha256
    return jobs


def test_row_2_a_worker_killed_in_the_middle_of_an_upload_leaves_no_half_picture(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    with tcp_proxy(int(s3_server.environment["S3_ENDPOINT_URL"].rsplit(":", 1)[1])) as proxy:
        worker = fleet.start_real_worker(
            "tests.faulty_worker", S3_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}", ZIMG_CONCURRENCY="1"
        )
        proxy.upload_bytes_per_second = 20_000
        [job_id] = submit(fleet, 1)
        before = proxy.uploaded
        wait_until(lambda: proxy.uploaded > before + 20_000, seconds=60, why=fleet.logs)
        fleet.kill(worker)
        assert fleet.store.get(job_id).state is JobState.RUNNING
    time.sleep(1)
    assert not lies_there(s3_server, key_of(fleet, job_id))

    begun = time.monotonic()
    fleet.start_real_worker("tests.faulty_worker")
    [job] = assert_all_well(fleet, s3_server, [job_id])

    assert job.attempt == 2
    print(f"\nrow 2: done {time.monotonic() - begun:.1f} s after the next worker's start began")


def test_row_14_a_storage_that_often_fails_is_asked_again_and_nothing_is_drawn_twice(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"], seed=14) as proxy:
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        proxy.share_of_errors = 0.3
        ids = submit(fleet, 40)

        jobs = assert_all_well(fleet, s3_server, ids)

    assert proxy.counts["503"] > 10
    assert {job.attempt for job in jobs} == {1}
    assert max(drawn(fleet).values()) == 1
    print(f"\nrow 14: {proxy.counts['503']} answers 503 among {proxy.counts['PUT'] + proxy.counts['HEAD']} calls")


@pytest.mark.parametrize("fault", ["409", "lost answers", "latency", "slow close"])
def test_row_14_puts_in_doubt_end_as_one_object(real_fleet, s3_server, fault):
    """Lost answers: the put happened, its repetition is refused with 412. Latency: longer than a whole lease."""
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        proxy.conflicts_per_key = 3 if fault == "409" else 0
        proxy.lost_answers_per_key = 1 if fault == "lost answers" else 0
        proxy.latency_seconds = 6.0 if fault == "latency" else 0.0
        proxy.slow_close_seconds = 4.0 if fault == "slow close" else 0.0
        ids = submit(fleet, 6)

        jobs = assert_all_well(fleet, s3_server, ids)

    assert {job.attempt for job in jobs} == {1}
    assert max(drawn(fleet).values()) == 1
    if fault == "409":
        assert proxy.counts["409"] == 18
    if fault == "lost answers":
        assert (proxy.counts["lost"], proxy.counts["PUT 412"]) == (6, 6)


def test_row_14_a_storage_that_is_away_for_longer_than_uploads_wait(real_fleet, s3_server):
    """135 s: the first pictures go back to the queue, and from there to the storage without being drawn again."""
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        proxy.down = True
        ids = submit(fleet, 10)
        time.sleep(30)
        early = sum(drawn(fleet).values())
        wait_until(
            lambda: any(job.state is JobState.RETRY for job in fleet.store.get_many(ids)), seconds=110, why=fleet.logs
        )
        time.sleep(5)
        proxy.down = False
        back = time.monotonic()

        jobs = assert_all_well(fleet, s3_server, ids)

    assert max(drawn(fleet).values()) == 1
    print(
        f"\nrow 14: {early} drawn in the first 30 s of the outage, attempts {Counter(job.attempt for job in jobs)}, "
        f"all stored {time.monotonic() - back:.1f} s after it"
    )
