"""Fault rows 2 and 14: the storage has a bad day while real workers draw. The objects are a real S3's."""

import contextlib
import time
from collections import Counter
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from core.image_store import object_key
from core.job import GenerationRequest, JobState
from tests.fault_proxy import s3_proxy, tcp_proxy
from tests.queue_invariants import assert_invariants, contenders, submit_spread
from tests.queue_kit import make_job
from tests.queue_processes import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
BUCKET = "zimg"
#: Ten minutes of the default leases of 30 s.
AWAY_LEASES = 20


def submit(fleet, count):
    """Jobs with prompts of their own, so that the pictures drawn can be counted: ids."""
    jobs = [
        make_job(
            tenant=tenant,
            request=GenerationRequest(
                prompt=f"mug {n}", width=256, height=256, seed=n, preset="turbo", model="zimg-tiny"
            ),
        )
        for n, tenant in enumerate(contenders(count))
    ]
    return submit_spread(fleet, jobs)


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
    """All succeeded, and I1 to I6 hold."""
    jobs = fleet.await_ends(ids, seconds)
    assert Counter(job.state for job in jobs) == {JobState.SUCCEEDED: len(ids)}
    assert_invariants(fleet, ids)
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


def backlog(fleet):
    """Pictures on disk that wait for the storage."""
    return len(list((fleet.folder / "spool").glob("*.spooled")))


def test_row_14_while_the_storage_is_away_a_worker_goes_on_drawing(real_fleet, s3_server):
    """All of them, and its seats are 2: a window of 5 jobs, for each of which a seat was held before."""
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        proxy.down = True
        ids = submit(fleet, 40)
        wait_until(lambda: sum(drawn(fleet).values()) == len(ids), seconds=120, why=fleet.logs)
        wait_until(lambda: backlog(fleet) == len(ids), seconds=30, why=fleet.logs)
        assert Counter(job.state for job in fleet.store.get_many(ids)) == {JobState.RUNNING: len(ids)}
        time.sleep(AWAY_LEASES * fleet.settings.lease_seconds)  # leases go on
        proxy.down = False
        back = time.monotonic()

        jobs = assert_all_well(fleet, s3_server, ids)

    assert {job.attempt for job in jobs} == {1}
    assert max(drawn(fleet).values()) == 1
    wait_until(lambda: backlog(fleet) == 0, seconds=10)
    print(f"\nrow 14: {len(ids)} drawn during the outage, all stored {time.monotonic() - back:.1f} s after it")


def test_row_14_a_worker_killed_while_the_storage_is_away_goes_on_from_its_disk(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        worker = fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        proxy.down = True
        ids = submit(fleet, 12)
        wait_until(lambda: backlog(fleet) == len(ids), seconds=90, why=fleet.logs)
        fleet.kill(worker)
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        wait_until(
            lambda: {job.attempt for job in fleet.store.get_many(ids)} == {2}, seconds=60, why=fleet.logs
        )  # taken up again while the storage is still away
        proxy.down = False

        jobs = assert_all_well(fleet, s3_server, ids)

    assert max(drawn(fleet).values()) == 1
    assert {(job.crashes, job.alone) for job in jobs} == {(0, False)}


def test_row_14_a_full_backlog_stops_the_drawing_until_the_storage_is_back(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url, ZIMG_BACKLOG_GIB="0.00001")
        proxy.down = True
        ids = submit(fleet, 30)

        def says_full():
            [worker] = fleet.store.live_workers()
            return (worker.slots, worker.gauges["backlog_full"]) == (0, 1.0)

        wait_until(says_full, seconds=60, why=fleet.logs)
        early = sum(drawn(fleet).values())
        proxy.down = False
        assert_all_well(fleet, s3_server, ids)

    assert early < len(ids)
    assert "the backlog is full" in all_logs(fleet)
    assert max(drawn(fleet).values()) == 1


def test_row_14_a_worker_stopped_while_the_storage_is_away_gives_its_pictures_back(real_fleet, s3_server):
    fleet = real_fleet
    fleet.start_scheduler()
    with s3_proxy(s3_server.environment["S3_ENDPOINT_URL"]) as proxy:
        worker = fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url, ZIMG_DRAIN_SECONDS="2")
        proxy.down = True
        ids = submit(fleet, 8)
        wait_until(lambda: backlog(fleet) == len(ids), seconds=90, why=fleet.logs)

        assert fleet.stop(worker) == 0

        assert {(job.state, job.attempt) for job in fleet.store.get_many(ids)} == {(JobState.QUEUED, 0)}
        proxy.down = False
        fleet.start_real_worker("tests.faulty_worker", S3_ENDPOINT_URL=proxy.url)
        assert_all_well(fleet, s3_server, ids)

    assert max(drawn(fleet).values()) == 1


def all_logs(fleet):
    return "".join(path.read_text(errors="replace") for path in fleet.folder.rglob("*.log"))
